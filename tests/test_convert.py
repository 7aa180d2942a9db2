"""accelerate and restore on models of all shapes; explain and the choice of a backend."""

import copy

import pytest
import torch
from helpers import DEVICE, TORCH_CELLS, assert_same, each_cell, flat, plain, randn
from torch import nn

import fastrnn
from fastrnn.backends import choose


class Tree(nn.Module):
    """A model with layers in every kind of container, one of them shared."""

    def __init__(self):
        super().__init__()
        self.first = nn.LSTM(4, 6, num_layers=2, bidirectional=True, batch_first=True, dropout=0.1)
        self.stack = nn.ModuleList([nn.GRU(12, 5), nn.Sequential(nn.Linear(5, 5), nn.Tanh())])
        self.named = nn.ModuleDict({"relu": nn.RNN(5, 5, nonlinearity="relu", bias=False)})
        self.shared = self.named["relu"]
        self.cell = nn.LSTMCell(5, 3)
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        x = self.first(x)[0]
        x = self.stack[1](self.stack[0](x)[0])
        x = self.shared(self.named["relu"](x)[0])[0]
        return self.head(self.cell(x[-1])[0])


def test_a_tree_computes_the_same():
    model = Tree().to(DEVICE).eval()
    x = randn(7, 3, 4)
    expected = model(x)
    assert fastrnn.accelerate(model) is model
    assert [type(m).__name__ for m in (model.first, model.stack[0], model.shared, model.cell)] == [
        "FastLSTM", "FastGRU", "FastRNN", "FastLSTMCell",
    ]  # fmt: skip
    assert model.shared is model.named["relu"]
    assert_same(model(x), expected, 1e-5)
    assert fastrnn.restore(model) is model
    assert not [m for m in model.modules() if type(m).__module__.startswith("fastrnn")]
    assert model.shared is model.named["relu"]
    assert_same(model(x), expected, 1e-6)


def test_parameters_are_the_same_objects():
    model = Tree()
    before, state = dict(model.named_parameters()), model.state_dict()
    for change in (fastrnn.accelerate, fastrnn.restore):
        change(model)
        after = dict(model.named_parameters())
        assert list(after) == list(before)
        assert all(after[name] is before[name] for name in before)
        assert list(model.state_dict()) == list(state)


@each_cell(TORCH_CELLS)
def test_an_optimizer_made_before_goes_on(cell):
    ours, theirs = nn.Sequential(plain(cell, 4, 6)), None
    theirs = copy.deepcopy(ours)
    optimizers = [torch.optim.Adam(m.parameters(), lr=0.05) for m in (ours, theirs)]
    fastrnn.accelerate(ours)
    x = randn(5, 3, 4)
    for _ in range(4):
        for model, optimizer in zip((ours, theirs), optimizers):
            optimizer.zero_grad()
            model(x)[0].pow(2).sum().backward()
            optimizer.step()
    assert_same(list(ours.parameters()), list(theirs.parameters()), 1e-4)


@each_cell(TORCH_CELLS)
def test_a_bare_layer(cell):
    theirs = plain(cell, 4, 6, num_layers=2, bidirectional=True)
    ours = fastrnn.accelerate(theirs)
    assert type(ours).__name__ == {"lstm": "FastLSTM", "gru": "FastGRU"}.get(cell, "FastRNN")
    x = randn(5, 3, 4)
    assert_same(ours(x), theirs(x), 1e-5)
    again = fastrnn.restore(ours)
    assert type(again) is type(theirs)
    assert_same(again(x), theirs(x), 1e-6)
    again.flatten_parameters()
    assert repr(again) == repr(theirs)


def test_mode_device_dtype_and_attributes_are_kept():
    layer = nn.LSTM(4, 6, num_layers=2, dropout=0.3, dtype=torch.float64).eval()
    layer.note = "mine"
    layer.register_buffer("scale", torch.ones(3))
    layer.weight_hh_l0.requires_grad_(False)
    ours = fastrnn.accelerate(layer)
    assert not ours.training and ours.dropout == 0.3 and ours.note == "mine"
    assert ours.scale is layer.scale and not ours.weight_hh_l0.requires_grad
    assert {p.dtype for p in ours.parameters()} == {torch.float64}
    empty = fastrnn.accelerate(nn.GRU(4, 6, device="meta"))
    assert {p.device.type for p in empty.parameters()} == {"meta"}


def test_hooks_are_kept():
    layer, seen = nn.GRU(4, 6), []
    layer.register_forward_pre_hook(lambda m, a: seen.append("pre"))
    handle = layer.register_forward_hook(lambda m, a, r: seen.append("post"))
    layer.register_full_backward_hook(lambda m, gi, go: seen.append("backward"))
    ours = fastrnn.accelerate(layer)
    x = torch.randn(5, 3, 4, requires_grad=True)
    ours(x)[0].sum().backward()
    assert seen == ["pre", "post", "backward"]
    handle.remove()
    ours(x)
    assert seen[3:] == ["pre"]


class OwnLSTM(nn.LSTM):
    """Its recurrence may be any."""

    def forward(self, input, hx=None):
        return nn.LSTM.forward(self, 2 * input, hx)


def test_layers_that_cannot_be_served_are_left_and_named():
    model = nn.Sequential(nn.LSTM(3, 3), OwnLSTM(3, 3), nn.GRU(3, 3), nn.Linear(3, 3))
    nn.utils.parametrizations.weight_norm(model[2], "weight_hh_l0")
    model, left = fastrnn.accelerate(model, report=True)
    assert type(model[0]) is fastrnn.FastLSTM and type(model[1]) is OwnLSTM
    assert list(left) == ["1", "2"]
    assert "OwnLSTM.forward does not call super" in left["1"] and "parametrizations" in left["2"]
    model = nn.Sequential(fastrnn.FastRNN(3, 3, nonlinearity="identity"), fastrnn.FastGRU(3, 3))
    model, left = fastrnn.restore(model, report=True)
    assert type(model[0]) is fastrnn.FastRNN and type(model[1]) is nn.GRU
    assert left == {"0": "torch.nn has no identity nonlinearity"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripted_layers_are_left_and_named():
    scripted = torch.jit.script(nn.LSTM(3, 4))
    model, left = fastrnn.accelerate(nn.Sequential(scripted), report=True)
    assert model[0] is scripted and "fastrnn.convert.unscript(layer)" in left["0"]


def test_old_style_weight_norm_survives():
    with pytest.warns(FutureWarning):
        layer = nn.utils.weight_norm(nn.LSTM(4, 6), "weight_hh_l0")
    x = torch.randn(5, 3, 4)
    expected = layer(x)
    ours = fastrnn.accelerate(layer)
    assert_same(ours(x), expected, 1e-6)
    ours(x)[0].sum().backward()
    assert ours.weight_hh_l0_g.grad is not None


def test_twice_is_once():
    model = fastrnn.accelerate(fastrnn.accelerate(nn.Sequential(nn.GRU(3, 4))))
    assert type(model[0]) is fastrnn.FastGRU
    assert type(fastrnn.restore(fastrnn.restore(model))[0]) is nn.GRU


def test_deepcopy_and_move_after_the_swap():
    ours = fastrnn.accelerate(nn.LSTM(4, 6))
    other = copy.deepcopy(ours).double()
    x = torch.randn(5, 3, 4)
    assert_same(other(x.double()), ours(x), 1e-6)
    assert len(flat(fastrnn.restore(other)(x.double()))) == 3


def test_explain():
    x = randn(5, 3, 4)
    text = fastrnn.explain(fastrnn.FastGRU(4, 6, device=DEVICE, backend="reference"), x)
    assert "reference" in text and "FastGRU(4, 6" in text and DEVICE in text
    model = nn.Sequential(fastrnn.FastGRU(4, 6), nn.Linear(6, 6), fastrnn.FastLSTM(6, 6))
    text = fastrnn.explain(model.half(), x.half())
    assert "0: FastGRU" in text and "2: FastLSTM" in text
    if DEVICE == "cpu":
        assert "computes in torch.float32" in text and "returns torch.float16" in text
        text = fastrnn.explain(model.bfloat16(), x.bfloat16())
        native = "native" in text  # else the reference, which has no lower precision
        assert ("computes in torch.float32" not in text) == native
    with pytest.raises(TypeError, match="fastrnn layer, got Linear"):
        fastrnn.explain(nn.Linear(3, 3), x)


def test_backend_by_name_never_falls_back():
    with pytest.raises(RuntimeError, match="backend='native' cannot serve gru on xpu"):
        choose("gru", "xpu", torch.float32, "native")
    with pytest.raises(ValueError, match="backend must be one of"):
        choose("gru", "cpu", torch.float32, "cudnn")


def test_environment_chooses_the_backend(monkeypatch):
    """Read at each call: whether it was set before the process began makes no difference."""
    monkeypatch.setenv("FASTRNN_BACKEND", "reference")
    assert choose("gru", "cpu", torch.float32)[0].in_torch
    monkeypatch.setenv("FASTRNN_BACKEND", "cudnn")
    with pytest.raises(ValueError, match="got 'cudnn'"):
        choose("gru", "cpu", torch.float32)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripting_names_restore():
    for call in (torch.jit.script, lambda m: torch.jit.trace(m, torch.zeros(2, 1, 3))):
        with pytest.raises(RuntimeError, match=r"fastrnn.restore\(model\)"):
            call(fastrnn.FastLSTM(3, 4))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = fastrnn.FastLSTM(3, 4)

        def forward(self, x):
            return self.layer(x)[0]

    with pytest.raises(RuntimeError, match=r"fastrnn.restore\(model\)"):
        torch.jit.script(Model())
    scripted = torch.jit.script(fastrnn.restore(Model()))
    assert scripted(torch.zeros(2, 1, 3)).shape == (2, 1, 4)


def test_a_layer_without_parameters_of_its_own():
    """Something else (a hypernetwork, weight drop) sets its weights as plain attributes."""
    layer = nn.GRU(4, 6, bias=False)
    for name, weight in list(layer.named_parameters()):
        delattr(layer, name)
        setattr(layer, name, weight.detach())
    assert not list(layer.parameters())
    assert type(fastrnn.accelerate(layer)) is fastrnn.FastGRU
    assert layer(torch.zeros(5, 3, 4))[0].shape == (5, 3, 6)

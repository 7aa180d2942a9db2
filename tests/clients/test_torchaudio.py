"""torchaudio's RNN-T: the loop of its predictor's LSTM is one call, with its results."""

import copy
import pickle

import pytest
import torch
from helpers import worst
from torch import nn

import fastrnn

try:
    import torchaudio  # noqa: F401
except (ImportError, OSError) as problem:  # its library may want another torch than is there
    pytest.skip(f"torchaudio cannot be imported: {problem}", allow_module_level=True)
from torchaudio.models.rnnt import RNNT, _CustomLSTM, _EmformerEncoder, _Joiner, _Predictor  # noqa: E402

from fastrnn.adapters import torchaudio as adapter  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
KINDS = {
    "plain": {},
    "normalised": {"layer_norm": True},
    "eps": {"layer_norm": True, "layer_norm_epsilon": 1e-3},
}
each_kind = pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)


def cells_are_not_declared():
    """Those of the test before are no longer known."""
    adapter.DECLARED.clear()


each_anew = pytest.fixture(autouse=True)(cells_are_not_declared)


def layer(options=KINDS["plain"], cls=_CustomLSTM):
    made = cls(5, 7, **options)
    for weight in made.parameters():
        nn.init.normal_(weight)
    return made


def state(b):
    return [torch.randn(b, 7), torch.randn(b, 7)]


@each_kind
def test_results_and_gradients(options):
    theirs = layer(options)
    ours = fastrnn.accelerate(copy.deepcopy(theirs))
    assert isinstance(ours, _CustomLSTM) and type(ours) is not _CustomLSTM
    for t, b, given in ((6, 3, None), (6, 3, state(3)), (1, 1, state(1))):
        x = torch.randn(t, b, 5, requires_grad=True)
        results, grads = [], []
        for each in (ours, theirs):
            output, last = each(x, given)
            assert type(last) is list
            results.append([output, *last])
            loss = output.square().sum() + sum(s.sum() for s in last)
            grads.append(torch.autograd.grad(loss, [x, *each.parameters()]))
        assert worst(*results) < 1e-5
        assert worst(*grads) < 1e-3


def model():
    predictor = _Predictor(11, 6, 5, 2, 7, lstm_layer_norm=True, lstm_layer_norm_epsilon=1e-3)
    encoder = _EmformerEncoder(
        input_dim=4, output_dim=6, segment_length=4, right_context_length=0,
        time_reduction_input_dim=4, time_reduction_stride=2, transformer_num_heads=2,
        transformer_ffn_dim=8, transformer_num_layers=1, transformer_left_context_length=2,
    )  # fmt: skip
    return RNNT(encoder, predictor, _Joiner(6, 11))


def test_the_predictor_of_a_model():
    """It hands on a list of states for each layer, step by step as a beam search does."""
    theirs = model().eval()
    ours, left = fastrnn.accelerate(copy.deepcopy(theirs), report=True)
    assert left == {}
    assert {type(each) for each in ours.predictor.lstm_layers} == {adapter.FusedCustomLSTM}
    tokens, lengths = torch.randint(11, (3, 4)), torch.tensor([4, 3, 2])
    found = [each.predict(tokens, lengths, None) for each in (ours, theirs)]
    assert worst(found[0][0], found[1][0]) < 1e-5
    for _ in range(3):
        one = torch.randint(11, (3, 1)), torch.ones(3)
        found = [each.predict(*one, f[2]) for each, f in zip((ours, theirs), found)]
        assert worst(found[0][0], found[1][0]) < 1e-5
        assert [[s.shape for s in states] for states in found[0][2]] == [[(3, 7)] * 2] * 2


@each_kind
def test_copies_weights_and_back(options):
    theirs = layer(options)
    before, names = vars(theirs).keys(), theirs.state_dict().keys()
    weights = list(theirs.parameters())
    ours, x = fastrnn.accelerate(copy.deepcopy(theirs)), torch.randn(6, 3, 5)
    assert ours.state_dict().keys() == names
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert type(other) is type(ours) and worst(other(x, None)[0], ours(x, None)[0]) == 0
    theirs.load_state_dict(ours.state_dict())
    fastrnn.restore(fastrnn.accelerate(fastrnn.accelerate(theirs)))
    assert type(theirs) is _CustomLSTM and vars(theirs).keys() == before
    assert all(a is b for a, b in zip(theirs.parameters(), weights))


@each_kind
def test_in_one_graph(options):
    ours, x = fastrnn.accelerate(layer(options)), torch.randn(6, 3, 5)
    saved = pickle.dumps(ours)
    cells_are_not_declared()  # as in another process
    ours = pickle.loads(saved)
    compiled = torch.compile(ours, backend="eager", fullgraph=True)
    assert compiled(x, state(3))[0].shape == (6, 3, 7)
    assert worst(compiled(x, None)[0], ours(x, None)[0]) == 0


def test_a_part_that_is_another_module_is_called():
    """Before accelerate it is a reason to leave the layer, after it the loop runs again."""
    seen = []
    hooked = layer()
    hooked.p2g.register_forward_hook(lambda *_: seen.append(1))
    other_eps = layer(KINDS["eps"])
    other_eps.c_norm.eps = 1e-5
    for theirs, reason in (
        (hooked, "its p2g has hooks"),
        (torch.ao.quantization.quantize_dynamic(layer(), {nn.Linear}), "its x2g is a "),
        (layer(cls=type("Own", (_CustomLSTM,), {})), "Own is a subclass"),
        (other_eps, "its g_norm and its c_norm are not alike"),
    ):
        before = type(theirs)
        _, left = fastrnn.accelerate(nn.ModuleList([theirs]), report=True)
        assert type(theirs) is before and left["0"].startswith(reason)
    ours, x = fastrnn.accelerate(layer()), torch.randn(6, 3, 5)
    ours.p2g.register_forward_hook(lambda *_: seen.append(1))
    ours(x, None)
    assert len(seen) == 6


def test_no_kernels_no_change(monkeypatch):
    monkeypatch.setenv("FASTRNN_BACKEND", "reference")
    theirs = layer()
    _, left = fastrnn.accelerate(theirs, report=True)
    assert type(theirs) is _CustomLSTM and left[""].startswith("it would be slower: ")


def test_scripted():
    scripted = torch.jit.script(model())
    _, left = fastrnn.accelerate(scripted, report=True)
    assert left.keys() == {"predictor.lstm_layers.0", "predictor.lstm_layers.1"}
    assert {*left.values()} == {
        "it is a TorchScript module: accelerate the torchaudio.models.rnnt._CustomLSTM that was "
        "scripted"
    }
    with pytest.raises(RuntimeError, match="fastrnn.restore"):
        torch.jit.script(fastrnn.accelerate(layer()))

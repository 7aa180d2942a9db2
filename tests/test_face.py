"""accelerate changes a module's class in place, and isinstance goes on saying torch.nn's."""

import copy
import pickle

import pytest
import torch
from helpers import assert_same, randn, run_python
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import fastrnn
from fastrnn import backends

KINDS = [nn.RNN, nn.LSTM, nn.GRU, nn.RNNCell, nn.LSTMCell, nn.GRUCell]


@pytest.mark.parametrize("kind", KINDS)
def test_the_object_and_what_isinstance_says_stay(kind):
    layer = kind(3, 4)
    before, fast = layer.__class__, getattr(fastrnn, "Fast" + kind.__name__)
    assert fastrnn.accelerate(layer) is layer
    assert type(layer) is fast and isinstance(layer, fast) and isinstance(layer, kind)
    assert not isinstance(layer, next(k for k in KINDS if k is not kind))
    assert isinstance(fast(3, 4), kind) and repr(layer) == repr(fast(3, 4))
    assert fastrnn.restore(layer) is layer
    assert type(layer) is layer.__class__ is before is kind


def test_hooks_that_hold_the_module_go_on_working():
    model = nn.Sequential(nn.LSTM(3, 4))
    layer, seen = model[0], []
    layer.register_load_state_dict_pre_hook(lambda module, *rest: seen.append(module))
    layer.register_state_dict_pre_hook(lambda module, *rest: seen.append(module))
    layer.register_forward_hook(lambda module, *rest: seen.append(module))
    fastrnn.accelerate(model)
    model.load_state_dict(model.state_dict())
    model(torch.zeros(2, 1, 3))
    assert [m is layer for m in seen] == [True, True, True] and model[0] is layer


def accelerated(kind):
    """(A layer on the CPU, an input for it)."""
    x = randn(2, 3) if issubclass(kind, nn.RNNCellBase) else randn(5, 2, 3)
    return fastrnn.accelerate(kind(3, 4)).cpu(), x.cpu()


@pytest.mark.parametrize("kind", KINDS)
def test_copies(kind):
    layer, x = accelerated(kind)
    for other in (copy.deepcopy(layer), copy.copy(layer), pickle.loads(pickle.dumps(layer))):
        assert type(other) is type(layer) and isinstance(other, kind)
        assert_same(other(x), layer(x), 0.0)


LOAD = """
import torch
first = lambda y: y if torch.is_tensor(y) else first(y[0])
for saved in torch.load("saved.pt", weights_only=False):
    assert torch.equal(first(saved["layer"](saved["x"])), first(saved["y"]))
    print(type(saved["layer"]).__name__)
"""


def test_whole_layers_load_in_a_fresh_process(tmp_path):
    """All kinds in one file: the start of a process is most of the time."""
    pairs = [accelerated(kind) for kind in KINDS]
    saved = [{"layer": layer, "x": x, "y": layer(x)} for layer, x in pairs]
    torch.save(saved, tmp_path / "saved.pt")
    run = run_python("-c", LOAD, cwd=tmp_path)
    assert run.stdout.split() == [f"Fast{kind.__name__}" for kind in KINDS], run.stderr


@pytest.mark.filterwarnings("ignore")
def test_parametrizations_come_and_go():
    """They make a subclass of `module.__class__`, and put properties on it."""
    layer, x = fastrnn.accelerate(nn.LSTM(3, 4)), torch.zeros(2, 1, 3)
    expected = layer(x)
    parametrizations.weight_norm(layer, "weight_hh_l0")
    assert isinstance(layer, nn.LSTM) and isinstance(layer, fastrnn.FastLSTM)
    assert not issubclass(type(layer), nn.LSTM)
    assert parametrize.type_before_parametrizations(layer) is fastrnn.FastLSTM
    assert_same(layer(x), expected, 1e-6)
    assert_same(torch.compile(layer, fullgraph=True, backend="eager")(x), expected, 1e-6)
    assert_same(copy.deepcopy(layer)(x), expected, 1e-6)
    parametrize.remove_parametrizations(layer, "weight_hh_l0")
    assert type(layer) is fastrnn.FastLSTM
    assert_same(layer(x), expected, 1e-6)


def test_subclasses():
    class Named(fastrnn.FastGRU):
        def forward(self, x):
            return super().forward(x)[0]

    layer = Named(3, 4)
    assert type(layer) is Named and isinstance(layer, nn.GRU) and layer._get_name() == "Named"
    assert layer(torch.zeros(2, 1, 3)).shape == (2, 1, 4)
    assert fastrnn.restore(layer, report=True)[1]


@pytest.mark.filterwarnings("ignore")
def test_a_layer_that_would_be_slower_is_left_and_named(monkeypatch):
    """As one with proj_size is on a GPU."""
    refusal = "these kernels have no proj_size"
    monkeypatch.setattr(backends.Cpu, "refusal", lambda self, *call: refusal if call[-1] else None)
    monkeypatch.setattr(backends, "_choose_cached", backends._choose)
    model = nn.ModuleDict({"projected": nn.LSTM(3, 4, proj_size=2), "plain": nn.LSTM(3, 4)})
    _, left = fastrnn.accelerate(model, report=True)
    assert type(model["projected"]) is nn.LSTM and type(model["plain"]) is fastrnn.FastLSTM
    assert list(left) == ["projected"] and "proj_size" in left["projected"]

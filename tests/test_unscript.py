"""unscript: the eager layer that a scripted one was made of, argument by argument."""

import copy
import io

import pytest
import torch
from helpers import assert_same
from torch import nn

import fastrnn
from fastrnn.convert import unscript

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

LAYERS = [
    nn.LSTM(3, 5),
    nn.LSTM(3, 5, num_layers=3, bidirectional=True, dropout=0.25, batch_first=True),
    nn.LSTM(3, 5, num_layers=2, proj_size=2, bias=False),
    nn.GRU(3, 5, num_layers=2, bias=False, bidirectional=True),
    nn.GRU(3, 5, batch_first=True).double().eval(),
    nn.RNN(3, 5, nonlinearity="relu", bidirectional=True),
    nn.RNN(3, 5, num_layers=2, dropout=0.5),
    nn.RNNCell(3, 5, nonlinearity="relu"),
    nn.RNNCell(3, 5, bias=False),
    nn.LSTMCell(3, 5),
    nn.GRUCell(3, 5),
]
each_layer = pytest.mark.parametrize("layer", LAYERS, ids=repr)


def saved(module):
    """As a file that another process wrote."""
    file = io.BytesIO()
    torch.jit.save(module, file)
    file.seek(0)
    return torch.jit.load(file)


def assert_same_layer(ours, theirs):
    assert type(ours) is type(theirs) and repr(ours) == repr(theirs)
    assert ours.training == theirs.training
    skipped = ("_flat_weights", "_flat_weight_refs", "_parameters", "__overloads__")
    for name, value in vars(theirs).items():
        assert name in skipped or vars(ours)[name] == value, name
    if isinstance(ours, nn.RNNBase):
        assert all(a is b for a, b in zip(ours._flat_weights, ours.parameters()))
    x = torch.randn((4, 3) if isinstance(ours, nn.RNNCellBase) else (4, 2, 3))
    x = x.to(next(theirs.parameters()))
    assert_same(ours.eval()(x), copy.deepcopy(theirs).eval()(x), 0.0)


@each_layer
def test_scripted(layer):
    ours = unscript(torch.jit.script(layer))
    assert all(a is b for a, b in zip(ours.parameters(), layer.parameters()))
    assert_same_layer(ours, layer)


@each_layer
def test_loaded(layer):
    inner = getattr(saved(torch.jit.script(nn.Sequential(layer))), "0")
    ours = unscript(inner)
    assert_same_layer(ours, layer)
    pointers = [w.data_ptr() for w in inner.parameters()]
    assert [w.data_ptr() for w in ours.parameters()] == pointers
    assert all(isinstance(w, nn.Parameter) and w.requires_grad for w in ours.parameters())


@pytest.mark.filterwarnings("ignore")
def test_traced():
    model = nn.Sequential(nn.RNN(3, 5, nonlinearity="relu", batch_first=True))
    traced = torch.jit.trace(model, torch.zeros(2, 4, 3))
    for module in (traced, saved(traced)):
        assert_same_layer(unscript(getattr(module, "0")), model[0])


def test_it_can_be_accelerated():
    scripted = saved(torch.jit.script(nn.Sequential(nn.GRU(3, 5, num_layers=2))))
    fast, x = fastrnn.accelerate(unscript(getattr(scripted, "0"))), torch.randn(4, 2, 3)
    assert type(fast) is fastrnn.FastGRU
    assert_same(fast(x), scripted(x), 1e-6)
    fast(x)[0].sum().backward()


class LSTM(nn.Module):
    """The name is torch.nn's, the class is not."""

    def forward(self, x):
        return 2 * x


def test_what_is_none_is_refused():
    others = [torch.jit.script(module) for module in (LSTM(), nn.Tanh())]
    for module in (nn.LSTM(3, 5), nn.Linear(3, 5), *others):
        with pytest.raises(TypeError, match="must be a scripted nn.RNN"):
            unscript(module)
    assert fastrnn.accelerate(others[0], report=True)[1] == {}

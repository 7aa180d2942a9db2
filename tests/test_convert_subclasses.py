"""accelerate on subclasses of torch.nn's layers: their own code stays, super() is fastrnn's."""

import abc
import copy
import pickle

import pytest
import torch
from helpers import assert_same, gradients, randn
from torch import _VF, nn
from torch.nn.utils import parametrizations, parametrize

import fastrnn
from fastrnn.convert import subclasses
from fastrnn.modules import FastLSTM


class Base(abc.ABC, nn.RNNBase):
    """As pytorch-forecasting has it: the forward in a class that is no nn.LSTM yet."""

    @abc.abstractmethod
    def double(self, x): ...

    def forward(self, x, hx=None):
        return super().forward(self.double(x), hx=hx)


class OwnLSTM(Base, nn.LSTM):
    def double(self, x):
        return 2 * x


class OwnGRU(nn.GRU):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, input, hx=None):
        output, final = super().forward(input, hx)
        return self.scale * output, final

    def extra_repr(self):
        return f"own, {super().extra_repr()}"


class OwnRNN(nn.RNN):
    """Nothing of its own."""


class OwnCell(nn.LSTMCell):
    def forward(self, input, hx=None):
        return super().forward(input + 1, hx)


KINDS = [OwnLSTM, OwnGRU, OwnRNN, OwnCell]
FASTS = dict(zip(KINDS, (FastLSTM, fastrnn.FastGRU, fastrnn.FastRNN, fastrnn.FastLSTMCell)))
each_kind = pytest.mark.parametrize("kind", KINDS)


def pair(kind):
    """(A layer, accelerated; its twin, as it was; an input)."""
    theirs = kind(3, 4)
    ours = fastrnn.accelerate(copy.deepcopy(theirs))
    return ours, theirs, randn(2, 3).cpu() if kind is OwnCell else randn(5, 2, 3).cpu()


@each_kind
def test_own_code_over_fastrnns_scan(kind):
    ours, theirs, x = pair(kind)
    assert isinstance(ours, kind) and isinstance(ours, FASTS[kind].stands_for)
    assert issubclass(type(ours), kind) and issubclass(type(ours), FASTS[kind])
    assert not issubclass(type(ours), FASTS[kind].stands_for)
    assert repr(ours) == repr(theirs)
    assert_same(ours(x), theirs(x), 1e-6)
    ours_grads = gradients(ours(x), ours.parameters())
    assert_same(ours_grads, gradients(theirs(x), theirs.parameters()), 1e-5)


@each_kind
def test_the_scan_is_called(kind, monkeypatch):
    """A result alone does not tell fastrnn's forward from torch.nn's."""
    ours, _, x = pair(kind)
    monkeypatch.setattr(fastrnn.functional, "recurrent", None)
    monkeypatch.setattr(fastrnn.functional, "step", None)
    with pytest.raises(TypeError, match="NoneType"):
        ours(x)


@each_kind
def test_restore_leaves_no_trace(kind):
    layer = kind(3, 4)
    before, weights = dict(vars(layer)), list(layer.parameters())
    assert fastrnn.restore(fastrnn.accelerate(fastrnn.accelerate(layer))) is layer
    assert type(layer) is layer.__class__ is kind
    assert vars(layer).keys() == before.keys()
    assert all(a is b for a, b in zip(layer.parameters(), weights))
    layer(pair(kind)[2])
    if kind is not OwnCell:
        layer.flatten_parameters()
        assert [w() for w in layer._flat_weight_refs] == layer._flat_weights


@each_kind
def test_copies(kind):
    ours, _, x = pair(kind)
    for other in (copy.deepcopy(ours), copy.copy(ours), pickle.loads(pickle.dumps(ours))):
        assert type(other) is type(ours) and isinstance(other, kind)
        assert_same(other(x), ours(x), 0.0)
    assert type(type(ours)(3, 4)) is type(ours.__class__(3, 4)) is type(ours)
    more = type("More", (type(ours),), {})
    assert type(copy.copy(more(3, 4))) is more


def test_a_process_that_has_made_no_class_loads_one():
    ours, _, x = pair(OwnLSTM)
    saved, y = pickle.dumps(ours), ours(x)
    subclasses.served.cache_clear()
    other = pickle.loads(saved)
    assert type(other) is not type(ours) and isinstance(other, OwnLSTM)
    assert other(x)[0].equal(y[0])
    assert issubclass(type(other), FastLSTM)


@each_kind
def test_compile_traces_them(kind):
    ours, _, x = pair(kind)
    compiled = torch.compile(ours, fullgraph=True, backend="eager")
    assert_same(compiled(x), ours(x), 0.0)


@pytest.mark.filterwarnings("ignore")
@each_kind
def test_parametrizations_come_and_go(kind):
    ours, theirs, x = pair(kind)
    cls, name = type(ours), "weight_hh" if kind is OwnCell else "weight_hh_l0"
    parametrizations.weight_norm(ours, name)
    assert isinstance(ours, kind) and isinstance(ours, FASTS[kind])
    assert_same(ours(x), theirs(x), 1e-6)
    assert_same(copy.deepcopy(ours)(x), theirs(x), 1e-6)
    parametrize.remove_parametrizations(ours, name)
    assert type(ours) is cls
    assert_same(ours(x), theirs(x), 1e-6)


class Permutes(nn.LSTM):
    def permute_hidden(self, hx, permutation):
        return hx


class Kernels(nn.GRU):
    def helper(self, *args):
        return (lambda: torch.gru(*args))()


class Private(nn.GRU):
    def helper(self, x):
        return _VF.gru(x)


class Flat(nn.LSTM):
    @property
    def first(self):
        return self._flat_weights[0]


class Loop(nn.LSTM):
    def forward(self, input, hx=None):
        return nn.LSTM.forward(self, input, hx)


class Pickles(nn.LSTM):
    def __reduce__(self):
        return type(self), (3, 4)


class Registers(nn.LSTM):
    def __init_subclass__(cls):
        raise AssertionError("a subclass was made")


class Meta(type):
    pass


class WithMeta(nn.LSTM, metaclass=Meta):
    pass


class Named(nn.LSTM):
    cell = "mine"


LEFT = {
    Permutes: "Permutes has permute_hidden of its own",
    Kernels: "Kernels.helper calls torch's kernels itself",
    Private: "Private.helper calls torch's kernels itself",
    Flat: "Flat.first uses _flat_weights",
    Loop: r"Loop.forward does not call super\(\).forward",
    Pickles: "Pickles has __reduce__ of its own",
    Registers: "Registers has __init_subclass__ of its own",
    WithMeta: "WithMeta has a metaclass, Meta",
    Named: "Named has cell of its own",
}


@pytest.mark.parametrize("kind", LEFT)
def test_those_that_do_more_are_left_and_named(kind):
    model = nn.Sequential(kind(3, 4))
    before = dict(vars(model[0]))
    _, left = fastrnn.accelerate(model, report=True)
    assert type(model[0]) is kind and vars(model[0]) == before
    with pytest.raises(AssertionError, match=LEFT[kind]):
        raise AssertionError(left["0"])
    assert list(left) == ["0"]


@pytest.mark.parametrize("name", ["states", "backend", "forward", "_zeros"])
def test_a_layer_with_an_attribute_in_the_way_is_left_and_named(name):
    layer = nn.LSTM(3, 4)
    vars(layer)[name] = lambda *args: "mine"
    left = fastrnn.accelerate(layer, report=True)[1]
    assert type(layer) is nn.LSTM and repr(name) in left[""]


def test_the_answers_of_an_abstract_class_are_its_own():
    """A face is asked whether it is a Base, and must not answer for the class it is the face of."""
    ours, theirs, _ = pair(OwnLSTM)
    face, cls = ours.__class__, type(ours)
    assert not isinstance(theirs, face) and not isinstance(theirs, cls)
    assert not issubclass(cls, face) and issubclass(cls, cls) and issubclass(face, cls)
    assert isinstance(ours, face) and isinstance(ours, Base) and isinstance(theirs, Base)


def test_one_class_for_all():
    assert type(pair(OwnLSTM)[0]) is type(pair(OwnLSTM)[0])
    assert subclasses.original(type(pair(OwnLSTM)[0])) is OwnLSTM

"""fastrnn.Recurrent as a module: weights, copies, pickles, what it says of itself, its errors."""

import copy
import pickle
import re
import sys
import types

import pytest
import torch
from helpers import DEVICE, TORCH_CELLS, assert_same, each_cell, flat, plain, randn
from new_cells import light_gru, peephole_lstm, slstm
from recurrent_cells import NEW, TITLES, by_hand
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import fastrnn
from fastrnn import cells, functional

each_new_cell = pytest.mark.parametrize("cell", NEW, ids=TITLES)


def layer_of(cell, *arguments, **options):
    return fastrnn.Recurrent(cell, *arguments, device=DEVICE, backend="reference", **options)


@each_new_cell
def test_weights(cell):
    layer = layer_of(cell, 3, 4, num_layers=2, bidirectional=True)
    expected = {}
    for suffix in ("_l0", "_l0_reverse", "_l1", "_l1_reverse"):
        h, first = 4, suffix.startswith("_l0")
        expected["weight_ih" + suffix] = (cell.gates * h, 3 if first else 2 * h)
        if cell.recurrent:
            expected["weight_hh" + suffix] = (cell.gates * h, h)
        expected["bias_ih" + suffix] = (cell.gates * h,)
        if cell.recurrent:
            expected["bias_hh" + suffix] = (cell.gates * h,)
        if cell.params:
            expected["params" + suffix] = (cell.params, h)
    assert {n: tuple(p.shape) for n, p in layer.named_parameters()} == expected
    assert list(expected) == list(layer.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(sum(layer.all_weights, []), layer.parameters()))
    values = torch.cat([p.flatten() for p in layer.parameters()])
    assert 0.4 < values.abs().max() <= 0.5 and values.abs().mean() > 0.2  # 1/sqrt(H) is 0.5
    before = [p.clone() for p in layer.parameters()]
    layer.reset_parameters()
    assert not any(torch.equal(a, b) for a, b in zip(before, layer.parameters()))


@each_cell(TORCH_CELLS)
def test_a_cell_of_torch(cell):
    """The same weights under the same seed, and the same results."""
    torch.manual_seed(1)
    ours = fastrnn.Recurrent(cell, 3, 4, 2, bidirectional=True, device=DEVICE)
    torch.manual_seed(1)
    theirs = plain(cell, 3, 4, 2, bidirectional=True)
    x = randn(5, 2, 3)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert_same(ours(x), theirs(x), 1e-6)
    again = pickle.loads(pickle.dumps(ours))
    assert again.definition is ours.definition and torch.equal(again(x)[0], ours(x)[0])


@each_new_cell
def test_copies(cell):
    layer, x = layer_of(cell, 3, 4, num_layers=2), randn(5, 2, 3)
    expected = flat(layer(x))
    other = layer_of(cell, 3, 4, num_layers=2)
    other.load_state_dict(layer.state_dict())
    for twin in (other, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert twin.definition is cell and twin.cell == cell.name
        assert_same(flat(twin(x)), expected, 0.0)
        assert not {p.data_ptr() for p in twin.parameters()} & {
            p.data_ptr() for p in layer.parameters()
        }
    double = copy.deepcopy(layer).double()
    assert double(x.double())[0].dtype == torch.float64


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_cell_made_where_there_are_no_gradients(mode):
    """As by a program that serves, which imports its cells inside of it."""
    with mode():

        @fastrnn.cell(gates=1, states=1)
        def served(x, r, state):
            return (torch.tanh(x[0] - x[0].mean(-1, True) - 0.5 * r[0]) * state[0],)

    assert served.derived is not None and served.saved > 0


def test_a_cell_that_was_redefined():
    """A pickled layer takes the cell that its module has when it is loaded."""
    module = types.ModuleType("mine")

    def define(factor, gates=1):
        @fastrnn.cell(gates=gates)
        def leaky(x, r, state):
            return (state[0] + factor * torch.tanh(x[0] + r[0]),)

        leaky_of_module = module.leaky = leaky
        for name, value in (("__module__", "mine"), ("__qualname__", "leaky")):
            object.__setattr__(leaky_of_module, name, value)
        leaky.step.__qualname__ = "leaky"
        return leaky

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "mine", module)
        patch.setattr(cells, "CELLS", dict(cells.CELLS))
        first = define(0.5)
        layer, x = layer_of(first, 3, 4), randn(5, 2, 3)
        pickled = pickle.dumps(layer)
        same = define(0.5)
        assert same.name == first.name
        assert_same(flat(pickle.loads(pickle.dumps(layer))(x)), flat(layer(x)), 0.0)
        second = define(0.25)
        loaded = pickle.loads(pickled)
        assert loaded.cell == second.name != first.name and loaded.definition is second
        assert_same(flat(loaded(x)), by_hand(loaded, x), 1e-6)
        assert (loaded(x)[0] - layer(x)[0]).abs().max() > 1e-3
        define(0.5, gates=2)
        with pytest.raises(
            ValueError, match="'leaky' has changed: .* with gates=1, .* got gates=2"
        ):
            pickle.loads(pickled)


def test_what_it_says_of_itself():
    layer = layer_of(peephole_lstm, 3, 4, num_layers=2, recompute_gates=True)
    told = "Recurrent(peephole_lstm, 3, 4, num_layers=2, recompute_gates=True, backend='reference')"
    assert repr(layer) == told
    assert isinstance(layer, nn.RNNBase) and not isinstance(layer, (nn.LSTM, nn.GRU, nn.RNN))
    assert layer.cell == layer.mode == peephole_lstm.name and layer.definition is peephole_lstm
    said = fastrnn.explain(layer, randn(5, 2, 3))
    assert (
        said.startswith(told) and "backend: reference (backend='reference' was asked for)" in said
    )


def test_conversion_leaves_it_alone():
    model = nn.Sequential(layer_of(light_gru, 3, 4))
    _, left = fastrnn.accelerate(model, report=True)
    assert not left and type(model[0]) is fastrnn.Recurrent
    _, left = fastrnn.restore(model, report=True)
    assert left == {"0": "torch.nn has no layer of any cell"}


@each_new_cell
def test_parametrized_weights(cell):
    layer, x = layer_of(cell, 3, 4), randn(5, 2, 3)
    expected = flat(layer(x))
    name = "params_l0" if cell.params else "weight_hh_l0" if cell.recurrent else "weight_ih_l0"
    weight_norm(layer, name)
    assert_same(flat(layer(x)), expected, 1e-5)
    layer(x)[0].sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in layer.parameters())
    assert_same(flat(copy.deepcopy(layer)(x)), expected, 1e-5)


X = torch.zeros(5, 2, 3, device=DEVICE)
S = torch.zeros(1, 2, 4, device=DEVICE)
CALLS = {
    "tensor": (peephole_lstm, S, TypeError, "hx must be a tuple of 2 Tensors, got a Tensor"),
    "three": (slstm, (S, S, S), TypeError, "hx must be a tuple of 4 Tensors, got 3 values"),
    "shape": (slstm, (S, S, S, S[..., :3]), RuntimeError,
              "hx[3] must have shape [1, 2, 4] (num_layers * directions, batch, hidden), "
              "got [1, 2, 3]"),
    "list": (peephole_lstm, (S, [0.0]), TypeError, "hx[1] must be a Tensor, got list"),
    "tuple": (light_gru, (S,), TypeError, "hx must be a Tensor, got tuple"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", CALLS)
def test_errors_of_hx(wrong):
    cell, hx, exception, message = CALLS[wrong]
    with pytest.raises(exception, match=re.escape(message)):
        layer_of(cell, 3, 4)(X, hx)


def test_errors_of_constructors():
    with pytest.raises(ValueError, match="cell must be one of rnn_tanh, .* got 'light_gro'"):
        layer_of("light_gro", 3, 4)
    with pytest.raises(TypeError, match="cell must be made by fastrnn.cell, or a name, got <func"):
        layer_of(light_gru.step, 3, 4)
    with pytest.raises(ValueError, match="hidden_size must be greater than zero"):
        layer_of(light_gru, 3, 0)
    with pytest.raises(ValueError, match="backend must be one of .* got 'cudnn'"):
        fastrnn.Recurrent(light_gru, 3, 4, backend="cudnn")
    with pytest.raises(TypeError, match="proj_size"):
        layer_of(light_gru, 3, 4, proj_size=2)


def test_errors_of_scan():
    gx, w, b, h = randn(5, 2, 16), randn(16, 4), randn(16), randn(2, 4)
    p, two, four = randn(3, 4), (h, h), (h,) * 4

    def scan(cell, state, params):
        return functional.scan(cell, gx, w, b, state, params=params, backend="reference")

    scan(peephole_lstm, two, p), scan(slstm, four, None)
    cases = [
        ((peephole_lstm, two, None), "params must have shape [3, 4] for the cell peephole_lstm"),
        ((peephole_lstm, two, p[:2]), "params must have shape [3, 4] for the cell peephole_lstm, "
                                      "got [2, 4]"),
        ((peephole_lstm, two, p.double()), "params must have gx's dtype torch.float32"),
        ((peephole_lstm, two, p.to("meta")), "params must have gx's device"),
        ((slstm, four, p), "params must be None: the cell slstm has no parameters of its own"),
        ((slstm, two, None), "state must have 4 tensors, got 2"),
    ]  # fmt: skip
    for call, message in cases:
        with pytest.raises(ValueError, match=re.escape(message)):
            scan(*call)
    with pytest.raises(TypeError, match="cell must be made by fastrnn.cell"):
        scan(slstm.step, four, None)

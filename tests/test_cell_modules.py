"""FastRNNCell, FastLSTMCell, FastGRUCell against torch.nn's cells and against the layers."""

import pytest
import torch
from helpers import (
    DEVICE,
    TORCH_CELLS,
    assert_same,
    backends,
    each_cell,
    fast,
    flat,
    gradients,
    randn,
)
from torch import nn

import fastrnn


def cells_of(name, *args, backend="auto", **kwargs):
    """(fastrnn's cell, torch.nn's cell) with the same weights."""
    kwargs["device"] = DEVICE
    if name.startswith("rnn"):
        kwargs["nonlinearity"] = name.removeprefix("rnn_")
        ours, theirs = fastrnn.FastRNNCell, nn.RNNCell
    else:
        ours, theirs = {
            "lstm": (fastrnn.FastLSTMCell, nn.LSTMCell), "gru": (fastrnn.FastGRUCell, nn.GRUCell)
        }[name]  # fmt: skip
    ours, theirs = ours(*args, backend=backend, **kwargs), theirs(*args, **kwargs)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def state(name, *shape, dtype=torch.float32):
    states = tuple(randn(*shape, dtype=dtype, grad=True) for _ in range(2 if name == "lstm" else 1))
    return states if name == "lstm" else states[0]


@backends()
@each_cell(TORCH_CELLS)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("shape", [(5,), (3, 5), (0, 5)], ids=["unbatched", "batched", "no_rows"])
def test_equals_torchs_cell(cell, backend, bias, shape):
    ours, theirs = cells_of(cell, 5, 7, bias=bias, backend=backend)
    x, h = randn(*shape, grad=True), state(cell, *shape[:-1], 7)
    for arguments in ((x,), (x, h)):
        a, b = ours(*arguments), theirs(*arguments)
        assert_same(a, b, 1e-6)
        inputs = [x, *flat(arguments[1:])]
        assert_same(
            gradients(a, [*inputs, *ours.parameters()]),
            gradients(b, [*inputs, *theirs.parameters()]),
            1e-5,
        )


@backends(torch.float64)
@each_cell(TORCH_CELLS)
def test_gradcheck(cell, backend):
    ours, _ = cells_of(cell, 2, 3, backend=backend, dtype=torch.float64)
    x, h = randn(2, 2, dtype=torch.float64, grad=True), state(cell, 2, 3, dtype=torch.float64)
    names = [n for n, _ in ours.named_parameters()]

    def call(x, *tensors):
        s = tensors[: len(flat(h))]
        weights = dict(zip(names, tensors[len(s) :]))
        s = s if cell == "lstm" else s[0]
        return tuple(flat(torch.func.functional_call(ours, weights, (x, s))))

    assert torch.autograd.gradcheck(call, (x, *flat(h), *ours.parameters()))


@backends()
@each_cell()
def test_steps_equal_the_layer(cell, backend):
    layer = fast(cell, 5, 7, backend=backend)
    if cell.startswith("rnn"):
        step = fastrnn.FastRNNCell(
            5, 7, nonlinearity=layer.nonlinearity, backend=backend, device=DEVICE
        )
    else:
        step = {"lstm": fastrnn.FastLSTMCell, "gru": fastrnn.FastGRUCell}[cell](
            5, 7, backend=backend, device=DEVICE
        )
    weights = {n.removesuffix("_l0"): p for n, p in layer.state_dict().items()}
    step.load_state_dict(weights)
    x, h = randn(6, 3, 5), None
    outputs = []
    for t in range(6):
        h = step(x[t], h)
        outputs.append(h[0] if cell == "lstm" else h)
    output, final = layer(x)
    assert_same(torch.stack(outputs), output, 1e-6)
    assert_same(h, [s[0] for s in flat(final)], 1e-6)


@backends()
def test_projected_lstm_cell_equals_the_layer(backend):
    layer = fastrnn.FastLSTM(5, 7, proj_size=3, backend=backend, device=DEVICE)
    step = fastrnn.FastLSTMCell(5, 7, proj_size=3, backend=backend, device=DEVICE)
    step.load_state_dict({n.removesuffix("_l0"): p for n, p in layer.state_dict().items()})
    x = randn(6, 3, 5)
    h = None
    for t in range(6):
        h = step(x[t], h)
    assert_same(h, [s[0] for s in layer(x)[1]], 1e-6)


def test_identity_cell():
    step = fastrnn.FastRNNCell(5, 7, nonlinearity="identity", device=DEVICE)
    x, h = randn(3, 5), randn(3, 7)
    expected = x @ step.weight_ih.T + step.bias_ih + h @ step.weight_hh.T + step.bias_hh
    assert_same(step(x, h), expected, 1e-5)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu", "identity"])
def test_torch_trains_a_step_of_an_rnn(nonlinearity, monkeypatch):
    """Where it has an operator, and nobody asks for a backend by name; `explain` says so."""
    monkeypatch.delenv("FASTRNN_BACKEND", raising=False)
    x, has_one = randn(3, 4), nonlinearity != "identity"
    cell = fastrnn.FastRNNCell(4, 5, nonlinearity=nonlinearity)
    node = f"{nonlinearity.capitalize()}Backward0"
    assert (type(cell(x).grad_fn).__name__ == node) == has_one
    assert ("torch's own operator" in fastrnn.explain(cell, x)) == has_one
    monkeypatch.setenv("FASTRNN_BACKEND", "reference")
    assert type(cell(x).grad_fn).__name__ != node
    assert "torch's own operator" not in fastrnn.explain(cell, x)

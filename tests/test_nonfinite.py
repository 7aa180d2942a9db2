"""NaN and infinity come out where torch.nn's layers have them."""

import pytest
import torch
from helpers import DEVICE, TORCH_CELLS, backends, each_cell, flat, randn, twins

BAD = (float("nan"), float("inf"))


def same_kinds(ours, theirs) -> bool:
    """The same numbers to 1e-5, NaN and infinities in the same places."""
    return torch.allclose(ours, theirs, rtol=1e-5, atol=1e-5, equal_nan=True)


@backends(interpreted=True)
@pytest.mark.parametrize("where", [0, 3])
def test_nan_passes_backward_through_relu(backend, where):
    """torch.relu's gradient is that of a positive number there."""
    ours, theirs = twins("rnn_relu", 3, 5, backend=backend)
    x = randn(6, 2, 3)
    x[where, 0, 1] = float("nan")
    grads = []
    for layer in (ours, theirs):
        leaf = x.clone().requires_grad_()
        output, _ = layer(leaf)
        grads.append(
            torch.autograd.grad(output[:, 1].sum() + output.sum(), [leaf, *layer.parameters()])
        )
    for a, b in zip(*grads):
        assert same_kinds(a, b)
    assert grads[0][1].isnan().any()


@backends(interpreted=True)
@pytest.mark.parametrize("cell", ["rnn_tanh", "rnn_relu"])
@pytest.mark.parametrize("bad", BAD, ids=str)
@pytest.mark.parametrize("t", [1, 6])
def test_infinite_gradients(cell, backend, bad, t):
    """relu's closed units pass nothing on, not 0 times infinity."""
    ours, theirs = twins(cell, 3, 5, backend=backend)
    x, grad = randn(t, 2, 3), torch.full((t, 2, 5), bad, device=DEVICE)
    a, b = (torch.autograd.grad(m(x)[0], m.bias_ih_l0, grad)[0] for m in (ours, theirs))
    assert not b.isfinite().all() and same_kinds(a, b)


@backends()
@each_cell(TORCH_CELLS)
@pytest.mark.parametrize("bad", BAD, ids=str)
@pytest.mark.parametrize("place", ["input", "h_0", "bias_ih_l0", "weight_ih_l0"])
def test_forward(cell, backend, place, bad):
    ours, theirs = twins(cell, 3, 5, backend=backend)
    x, h = randn(6, 2, 3), randn(1, 2, 5)
    if place == "input":
        x[2, 1, 0] = bad
    elif place == "h_0":
        h[0, 1, 3] = bad
    else:
        with torch.no_grad():
            for layer in (ours, theirs):
                getattr(layer, place).view(-1)[1] = bad
    hx = (h, torch.ones_like(h)) if cell == "lstm" else h
    with torch.no_grad():
        for a, b in zip(flat(ours(x, hx)), flat(theirs(x, hx))):
            assert same_kinds(a, b)


@backends()
@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("t", [1, 6])
def test_a_closed_gate_times_infinity(cell, backend, t):
    """sigmoid(-1000) is 0 and not the smallest number there is."""
    ours, theirs = twins(cell, 3, 5, backend=backend)
    with torch.no_grad():
        for layer in (ours, theirs):
            layer.weight_hh_l0.zero_()
            layer.bias_ih_l0.fill_(-1000.0)
        x = randn(t, 2, 3)
        state = torch.full((1, 2, 5), float("inf"), device=DEVICE)
        hx = (torch.zeros_like(state), state) if cell == "lstm" else state
        for a, b in zip(flat(ours(x, hx)), flat(theirs(x, hx))):
            assert same_kinds(a, b)

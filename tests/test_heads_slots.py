"""Cells in heads with extra slots, masks, another state fed, and means over a row: all together."""

import pytest
import torch
from helpers import DEVICE, backends, flat, gradients, randn, slow_but
from new_cells import block_gru
from torch.nn import functional as F

import fastrnn
from fastrnn import backends as all_backends

F64 = torch.float64


@fastrnn.cell(gates=2, product="heads", extra=1, states=2, feeds=1)
def block_fed(x, r, state):
    """W_hh multiplies what the slot lets through; the slot has a gradient."""
    z = torch.sigmoid(x[0] + r[0])
    h = z * state[0] + (1 - z) * torch.tanh(x[1] + r[1])
    return h, x[2] * h + 0.5 * state[1]


@fastrnn.cell(gates=2, product="heads", params=2)
def block_normed(x, r, state, p):
    """The units of all heads are normalised together; one mean waits for another in backward."""
    n = F.layer_norm(x[1] + r[1], x[1].shape[-1:], p[0], p[1])
    z = torch.sigmoid(x[0] + r[0] * state[0].mean(-1, keepdim=True))
    return (z * state[0] + (1 - z) * torch.tanh(n),)


def compare(layer, call, inputs, tolerance=1e-11):
    """The layer's results and gradients, and those of the reference in its precision."""
    results = {}
    for backend in (layer.backend, "reference"):
        layer.backend, own = backend, layer.backend
        torch.manual_seed(5)
        results[backend] = flat(call())
        results[backend] += gradients(results[backend], [*inputs, *layer.parameters()])
        layer.backend = own
    for ours, exact in zip(*results.values()):
        assert not ours.isnan().any()
        gap = (ours - exact).abs().max().item()
        assert gap <= tolerance * max(1.0, exact.abs().max().item()), gap


SIZES = [(6, 6), (6, 2), (15, 3), (34, 2), (64, 4)]  # H, heads
QUICK = [(6, 2), (34, 2), (64, 4)]
each_size = pytest.mark.parametrize("size", slow_but(QUICK, SIZES), ids=str)


@backends(F64, kernels=True)
@each_size
def test_means_are_those_of_the_row(size, backend, poisoned):
    h, heads = size
    for t, b, ways in ((7, 1, False), (4, 5, True), (1, 3, False)):
        layer = fastrnn.Recurrent(
            block_normed, 3, h, heads=heads, bidirectional=ways, dtype=F64, backend=backend,
            device=DEVICE,
        )  # fmt: skip
        x = randn(t, b, 3, dtype=F64, grad=True)
        state = randn(1 + ways, b, h, dtype=F64, grad=True)
        compare(layer, lambda layer=layer, x=x, state=state: layer(x, state), [x, state])
    resets = (torch.rand(t, b) < 0.4).to(DEVICE)
    compare(layer, lambda: layer(x, lengths=[1, 0, 1], resets=resets), [x])


@backends(F64, kernels=True)
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_means_and_threads(threads, backend):
    """Threads that have whole heads meet at the means all the same."""
    layer = fastrnn.Recurrent(block_normed, 5, 132, heads=4, dtype=F64, backend=backend)
    layer = layer.to(DEVICE)
    torch.set_num_threads(threads)
    for b in (1, 13):
        x = randn(40, b, 5, dtype=F64, grad=True)
        compare(layer, lambda x=x: layer(x), [x], 1e-10)


@backends(F64, kernels=True)
@each_size
def test_masks(size, backend, poisoned):
    h, heads = size
    options = dict(zoneout=0.3, recurrent_dropout=0.3, bidirectional=True, recompute_gates=h == 34)
    layer = fastrnn.Recurrent(
        block_gru, 3, h, 2, heads=heads, dtype=F64, backend=backend, device=DEVICE, **options
    )
    x = randn(6, 4, 3, dtype=F64, grad=True)
    state = randn(4, 4, h, dtype=F64, grad=True)
    compare(layer, lambda: layer(x, state), [x, state])
    resets = (torch.rand(6, 4) < 0.3).to(DEVICE)
    compare(layer, lambda: layer(x, lengths=[6, 0, 3, 5], resets=resets), [x])
    torch.manual_seed(1)
    assert not torch.equal(layer(x)[0], layer(x)[0])


@pytest.mark.slow
@backends(F64, kernels=True)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_slot_and_another_state(size, backend, poisoned):
    h, heads = size
    layer = fastrnn.Recurrent(
        block_fed, 3, h, heads=heads, bidirectional=True, dtype=F64, backend=backend, device=DEVICE
    )
    for t, b in ((7, 1), (5, 4)):
        x, slot = randn(t, b, 3, dtype=F64, grad=True), randn(t, b, h, dtype=F64, grad=True)
        state = [randn(2, b, h, dtype=F64, grad=True) for _ in range(2)]
        call = lambda x=x, slot=slot, state=state: layer(x, tuple(state), extra=slot)  # noqa: E731
        compare(layer, call, [x, slot, *state])


def test_in_triton():
    """Of slots each head has its units'; of means over all heads there are none."""
    try:
        all_backends.choose(block_fed.name, DEVICE, torch.float32, "triton")
    except RuntimeError as refusal:
        pytest.skip(str(refusal))
    x, slot = randn(3, 2, 3, grad=True), randn(3, 2, 6, grad=True)
    for cell, extra in ((block_fed, slot), (block_gru, None)):
        masks = {} if extra is not None else dict(zoneout=0.3, recurrent_dropout=0.3)
        layer = fastrnn.Recurrent(cell, 3, 6, heads=2, backend="triton", device=DEVICE, **masks)
        given = [x] if extra is None else [x, extra]
        compare(layer, lambda layer=layer, extra=extra: layer(x, extra=extra), given, 1e-5)
    with pytest.raises(RuntimeError, match="no means over all heads of a row, which block_normed"):
        all_backends.choose(block_normed.name, DEVICE, torch.float32, "triton")


def test_what_no_cell_in_heads_has():
    with pytest.raises(ValueError, match="is in heads: it must have as many tensors in r as in x"):
        fastrnn.cell(inputs=2, recurrent=1, product="heads")(lambda x, r, s: (x[0] + r[0] + x[1],))

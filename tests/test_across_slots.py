"""Cells that look across the units of a row, with extra slots, masks, and another state fed."""

import pytest
import torch
from helpers import DEVICE, backends, randn, slow_but
from test_heads_slots import compare

import fastrnn
from fastrnn import backends as all_backends
from fastrnn.zoo import LayerNormGRU, LayerNormLSTM

F64 = torch.float64


@fastrnn.cell(gates=2, extra=1, states=2, feeds=1, params=1)
def mean_fed(x, r, state, p):
    """The slot is summed over the row, too, and has a gradient in both passes."""
    a = x[0] + r[0] - (x[0] * x[2]).mean(-1, keepdim=True)
    z = torch.sigmoid(x[1] + r[1] + p[0] * state[1])
    h = z * state[0] + (1 - z) * torch.tanh(a)
    return h, x[2] * h + 0.5 * state[1]


@backends(F64, kernels=True)
@pytest.mark.parametrize("make", slow_but([LayerNormGRU], [LayerNormGRU, LayerNormLSTM]))
def test_masks_of_normed_layers(make, backend, poisoned):
    for h, b, t in ((34, 4, 6), (6, 1, 5), (132, 13, 20)):
        layer = make(
            3, h, bidirectional=True, dtype=F64, backend=backend, device=DEVICE, zoneout=0.3,
            recurrent_dropout=0.3,
        )  # fmt: skip
        x = randn(t, b, 3, dtype=F64, grad=True)
        state = [randn(2, b, h, dtype=F64, grad=True) for _ in range(layer.states)]
        hx = tuple(state) if len(state) > 1 else state[0]
        compare(layer, lambda layer=layer, x=x, hx=hx: layer(x, hx), [x, *state], 1e-10)
        lengths = [t, 0, 3, 5] if b == 4 else None
        resets = (torch.rand(t, b) < 0.3).to(DEVICE)
        options = dict(lengths=lengths, resets=resets)
        compare(layer, lambda layer=layer, x=x, o=options: layer(x, **o), [x], 1e-10)


@pytest.mark.slow
@backends(F64, kernels=True)
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_slot_and_another_state(threads, backend, poisoned):
    torch.set_num_threads(threads)
    for h, b, t in ((34, 5, 6), (6, 1, 5), (132, 1, 20)):
        layer = fastrnn.Recurrent(
            mean_fed, 3, h, bidirectional=True, dtype=F64, backend=backend, device=DEVICE
        )
        x, slot = randn(t, b, 3, dtype=F64, grad=True), randn(t, b, h, dtype=F64, grad=True)
        state = [randn(2, b, h, dtype=F64, grad=True) for _ in range(2)]
        call = lambda layer=layer, x=x, s=slot, hx=state: layer(x, tuple(hx), extra=s)  # noqa: E731
        compare(layer, call, [x, slot, *state], 1e-10)


def test_in_triton():
    try:
        all_backends.choose(mean_fed.name, DEVICE, torch.float32, "triton")
    except RuntimeError as refusal:
        pytest.skip(str(refusal))
    x, slot = randn(3, 2, 3, grad=True), randn(3, 2, 6, grad=True)
    layer = fastrnn.Recurrent(mean_fed, 3, 6, backend="triton", device=DEVICE)
    compare(layer, lambda: layer(x, extra=slot), [x, slot], 1e-5)
    normed = LayerNormGRU(3, 6, backend="triton", device=DEVICE, zoneout=0.3, recurrent_dropout=0.3)
    compare(normed, lambda: normed(x), [x], 1e-5)


def test_what_no_cell_with_means_has():
    with pytest.raises(ValueError, match="looks across .* it must have as many tensors in r as in"):
        fastrnn.cell(inputs=2, recurrent=1)(lambda x, r, s: (x[0].mean(-1, True) + r[0] + x[1],))

"""Ragged batches: PackedSequence in and out as torch.nn, and lengths= on padded input."""

import numpy as np
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
    hx,
    randn,
    twins,
)
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence

from fastrnn import functional, ragged

LENGTHS = [3, 6, 1, 6, 2]


def padded(dtype=torch.float32):
    return randn(6, 5, 4, dtype=dtype, grad=True)


@backends()
@each_cell(TORCH_CELLS)
@pytest.mark.parametrize("lengths", [[6, 4, 4, 2, 1], LENGTHS], ids=["sorted", "unsorted"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one_way", "two_ways"])
def test_packed_sequence(cell, backend, lengths, bidirectional):
    ours, theirs = twins(cell, 4, 7, num_layers=2, bidirectional=bidirectional, backend=backend)
    x, state = padded(), hx(cell, 4 if bidirectional else 2, 5, 7, grad=True)
    in_order = lengths == sorted(lengths, reverse=True)
    packed, again = (pack_padded_sequence(x, lengths, enforce_sorted=in_order) for _ in "ab")
    a, b = ours(packed, state), theirs(again, state)
    assert_same(a, b, 1e-5)
    for field in ("batch_sizes", "sorted_indices", "unsorted_indices"):
        assert getattr(a[0], field) is getattr(b[0], field) or torch.equal(
            getattr(a[0], field), getattr(b[0], field)
        )
    inputs = [x, *flat(state)]
    assert_same(
        gradients(a, [*inputs, *ours.parameters()]),
        gradients(b, [*inputs, *theirs.parameters()]),
        1e-4,
    )
    assert_same(ours(packed), theirs(packed), 1e-5)


@backends()
@each_cell(TORCH_CELLS)
@pytest.mark.parametrize("batch_first", [False, True], ids=["time_first", "batch_first"])
def test_lengths_equal_a_packed_sequence(cell, backend, batch_first):
    ours, theirs = twins(
        cell, 4, 7, num_layers=2, bidirectional=True, batch_first=batch_first, backend=backend
    )
    x, state = padded(), hx(cell, 4, 5, 7, grad=True)
    packed = pack_padded_sequence(x, LENGTHS, enforce_sorted=False)
    output, final = theirs(packed, state)
    output = pad_packed_sequence(output, batch_first=batch_first)[0]
    layout = x.transpose(0, 1) if batch_first else x
    a = ours(layout, state, lengths=LENGTHS)
    assert_same(a, (output, final), 1e-5)
    inputs = [x, *flat(state)]
    assert_same(
        gradients(a, [*inputs, *ours.parameters()]),
        gradients((output, final), [*inputs, *theirs.parameters()]),
        1e-4,
    )


@backends(interpreted=True)
@each_cell()
def test_rows_of_any_length_equal_the_rows_alone(cell, backend):
    """Zero lengths too: their outputs are zeros, their final state is the initial one."""
    lengths = [2, 0, 6, 1, 0]
    layer = fast(cell, 4, 7, bidirectional=True, backend=backend)
    x, state = padded(), hx(cell, 2, 5, 7)
    output, final = layer(x, state, lengths=lengths)
    for row, n in enumerate(lengths):
        assert (output[n:, row] == 0).all()
        initial = [s[:, row : row + 1] for s in flat(state)]
        last = [s[:, row : row + 1] for s in flat(final)]
        if n == 0:
            assert_same(last, initial, 0.0)
            continue
        alone = layer(x[:n, row : row + 1], tuple(initial) if cell == "lstm" else initial[0])
        assert_same([output[:n, row : row + 1], *last], flat(alone), 1e-6)


FORMS = {
    "list": lambda n: n,
    "tuple": tuple,
    "numpy": np.array,
    "int64": torch.tensor,
    "int32": lambda n: torch.tensor(n, dtype=torch.int32),
    "uint8": lambda n: torch.tensor(n, dtype=torch.uint8),
    "on_device": lambda n: torch.tensor(n, device=DEVICE),
    "strided": lambda n: torch.tensor([n, n]).t()[:, 0],
}


@backends()
@pytest.mark.parametrize("form", FORMS)
def test_any_form_of_lengths(backend, form):
    layer = fast("gru", 4, 7, backend=backend)
    x = padded()
    assert_same(layer(x, lengths=FORMS[form](LENGTHS)), layer(x, lengths=LENGTHS), 0.0)


@backends()
@each_cell()
def test_full_lengths_equal_no_lengths(cell, backend):
    layer = fast(cell, 4, 7, num_layers=2, bidirectional=True, backend=backend)
    x = padded()
    assert_same(layer(x, lengths=[6] * 5), layer(x), 1e-6)


@backends(interpreted=True)
@each_cell()
def test_all_lengths_zero(cell, backend):
    layer = fast(cell, 4, 7, backend=backend)
    x, state = padded(), hx(cell, 1, 5, 7, grad=True)
    output, final = layer(x, state, lengths=[0] * 5)
    assert output.shape == (6, 5, 7) and (output == 0).all()
    assert_same(final, state, 0.0)
    for gradient in torch.autograd.grad(sum(s.sum() for s in flat(final)), flat(state)):
        assert (gradient == 1).all()


@backends()
def test_unbatched_length(backend):
    layer = fast("lstm", 4, 7, backend=backend)
    x = randn(6, 4)
    output, (h, c) = layer(x, lengths=[4])
    assert_same(output[:4], layer(x[:4])[0], 1e-6)
    assert (output[4:] == 0).all()


@backends(interpreted=True)
@each_cell()
def test_padding_is_never_read(cell, backend):
    """Whatever lies past a length reaches neither result nor gradient, NaN included."""
    layer = fast(cell, 4, 7, num_layers=2, bidirectional=True, backend=backend)
    x = padded()
    with torch.no_grad():
        for row, n in enumerate(LENGTHS):
            x[n:, row] = torch.nan
    result = layer(x, lengths=LENGTHS)
    grads = gradients(result, [x, *layer.parameters()])
    assert all(t.isfinite().all() for t in flat(result) + grads)
    for row, n in enumerate(LENGTHS):
        assert (grads[0][n:, row] == 0).all()


def test_only_valid_rows_are_scanned():
    """The cost is that of the valid rows: the packed buffer holds those and no others."""
    packing = functional.pack_lengths([3, 0, 5, 1], 8, 4, torch.device("cpu"))
    assert packing.batch_sizes.tolist() == [3, 2, 2, 1, 1]
    assert packing.index.tolist() == [2, 0, 3, 6, 4, 10, 8, 14, 18]
    assert packing.order.tolist() == [2, 0, 3, 1]
    x = torch.arange(32.0).reshape(8, 4, 1)
    again = packing.pad(packing.pack(x), 8, 4)
    assert again[:, 2, 0].tolist() == [2, 6, 10, 14, 18, 0, 0, 0]


def test_packing_equals_torchs():
    rows = [randn(n, 3) for n in (2, 5, 3)]
    packed = pack_sequence(rows, enforce_sorted=False)
    padded = torch.nn.utils.rnn.pad_sequence(rows)
    packing = functional.pack_lengths([2, 5, 3], 5, 3, padded.device)
    assert torch.equal(packing.pack(padded), packed.data)
    assert torch.equal(packing.batch_sizes, packed.batch_sizes)


def test_a_gpu_is_not_waited_for(monkeypatch):
    """What lengths and resets become goes there by copies that do not wait: tests/gpu runs them."""

    class Values:
        def to(self, device, non_blocking=False):
            return device.type, non_blocking

    assert ragged._sent(Values(), torch.device("cuda")) == ("cuda", True)
    assert ragged._sent(Values(), torch.device("mps")) == ("mps", False)
    sent = []
    monkeypatch.setattr(ragged, "_sent", lambda values, device: sent.append(device) or values)
    functional.pack_lengths([3, 0, 5, 1], 8, 4, torch.device("meta"))
    assert sent == [torch.device("meta")] * 3
    resets, sizes = torch.rand(5, 3) < 0.5, torch.tensor([3, 2, 2, 1, 1])
    packed = ragged.pack_resets(resets, sizes, None)
    assert torch.equal(packed, resets[torch.arange(3) < sizes[:, None]]) and len(sent) == 4

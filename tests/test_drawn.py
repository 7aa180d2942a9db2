"""Masks drawn from a counter: the counter itself, and the same masks wherever they are made."""

import importlib.util
import itertools

import pytest
import torch
from helpers import DEVICE, assert_same, flat, gradients, randn
from masked_loop import by_hand
from torch.func import grad, vmap
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint

from fastrnn import FastGRU, drawn, ops

F64 = torch.float64
BOTH = dict(zoneout=0.3, recurrent_dropout=0.3)
ALL_ONES = 0xFFFFFFFF
native = pytest.mark.skipif(not ops.NATIVE_BUILT, reason="needs the native library")


def seeded(call, seed=7):
    torch.manual_seed(seed)
    return flat(call())


@pytest.mark.parametrize(
    "counter, key, words",
    [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([ALL_ONES] * 4, [ALL_ONES] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox(counter, key, words):
    """The known answers of Random123."""
    found = drawn.philox([torch.tensor(c) for c in counter], key)
    assert [int(word) for word in found] == words


def plain_triple32(x, first, second):
    x = (x + first) & ALL_ONES
    x ^= x >> 17
    x = x * 0xED5AD4BB & ALL_ONES ^ second
    x ^= x >> 11
    x = x * 0xAC4C1B51 & ALL_ONES
    x ^= x >> 15
    x = x * 0x31848BAB & ALL_ONES
    return x ^ x >> 14


def test_triple32():
    keys = itertools.product((0, 5, ALL_ONES, 0x9E3779B9), repeat=2)
    for first, second in keys:
        units = torch.arange(0, 700, 99)
        assert drawn.triple32(units, first, second).tolist() == [
            plain_triple32(u, first, second) for u in units.tolist()
        ]


SLOTS = {
    "zoneout": ((drawn.ZONEOUT, 0.25),),
    "both": ((drawn.ZONEOUT, 0.1), (drawn.DROPOUT, 0.5)),
    "of_two": ((drawn.ZONEOUT, 0.1), (drawn.ZONEOUT, 0.5), (drawn.DROPOUT, 0.75)),
    "each_step": ((drawn.ZONEOUT, 0.003), (drawn.DROPOUT_EACH_STEP, 0.9999999)),
}


@pytest.mark.parametrize("dtype", [F64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("slots", SLOTS.values(), ids=SLOTS)
def test_masks_are_the_same_by_all(slots, dtype, poisoned):
    numbers = drawn.of_call(torch.empty(0, dtype=dtype, device=DEVICE), slots, 1)[0]
    times = torch.tensor([[drawn.BEFORE], [0], [1 << 33]], device=DEVICE).expand(3, 2)
    rows = torch.arange(2, device=DEVICE).expand(3, 2)
    ways = [drawn.masks]
    if importlib.util.find_spec("triton"):
        from fastrnn.triton import cells, draws

        ways += [draws.masks] * (cells.INTERPRET or DEVICE == "cuda")
    for given in (numbers, drawn.with_rows(numbers, torch.tensor([70000, 3], device=DEVICE))):
        arguments = given, len(slots), 37, times, rows
        plain = drawn._by_torch(*arguments)
        for way in ways:
            made = way(*arguments)
            assert made.dtype == dtype and torch.equal(made, plain)


@pytest.mark.parametrize("rate", [0.003, 0.25, 0.5, 0.9999999])
def test_masks_are_bernoulli(rate):
    """Both halves of a word: their means, and that they hang on nobody beside them."""
    slots = (drawn.ZONEOUT, rate), (drawn.ZONEOUT, rate), (drawn.DROPOUT_EACH_STEP, 1 - rate)
    numbers = drawn.of_call(torch.empty(0), slots, 1)[0]
    n, units = 1 << 11, 128
    masks = drawn.lines(numbers, 3, units, (n, 2), None).to(F64).unflatten(-1, (3, units))
    masks[..., 2, :] /= masks[..., 2, :].max()
    rate = min(rate, 1 - 2**-16)

    def check(values, count):
        bound = 5.5 * (rate * (1 - rate) / count) ** 0.5 + 1e-5
        assert ((values.mean((0, 1)) - rate).abs() < bound).all()

    check(masks.mean(-1), 2 * n * units)
    spread = masks.sub(rate).div((rate * (1 - rate)) ** 0.5)
    neighbours = {
        "units": (spread[..., 1:], spread[..., :-1]),
        "rows": (spread[:, 0], spread[:, 1]),
        "steps": (spread[1:], spread[:-1]),
        "slots": (spread[:, :, 0], spread[:, :, 1]),
        "words": (spread[:, :, 0], spread[:, :, 2]),
    }
    for name, (a, b) in neighbours.items():
        together = (a * b).mean().item()
        assert abs(together) < 5 / a.numel() ** 0.5, f"neighbouring {name} correlate: {together}"


def test_masks_differ_by_direction_layer_and_seed():
    numbers = drawn.of_call(torch.empty(0), SLOTS["zoneout"], 4)
    made = [drawn.lines(n, 1, 64, (4, 2), None) for n in numbers]
    for a, b in itertools.combinations(made, 2):
        assert not torch.equal(a, b)


@native
def test_threads_do_not_matter():
    """Neither shared rows nor shared units, nor what is recomputed."""
    layer = FastGRU(64, 200, bidirectional=True, dtype=F64, **BOTH)
    threads = torch.get_num_threads()
    for b in (1, 24):
        x, found = torch.randn(30, b, 64, dtype=F64), []
        try:
            for count, recompute in ((1, False), (2, False), (1, True)):
                torch.set_num_threads(count)
                layer.recompute_gates = recompute
                results = seeded(lambda x=x: layer(x))
                found.append([*results, *gradients(results, [*layer.parameters()])])
        finally:
            torch.set_num_threads(threads)
        for other in found[1:]:
            assert_same(found[0], other, 1e-9)


def test_lengths_and_packed_rows_have_the_same_masks():
    """A row counts with its place in the caller's batch."""
    layer = FastGRU(3, 5, bidirectional=True, dtype=F64, **BOTH).to(DEVICE)
    x, lengths = randn(6, 4, 3, dtype=F64), [2, 6, 1, 4]
    hx = randn(2, 4, 5, dtype=F64)
    padded = seeded(lambda: layer(x, hx, lengths=lengths))
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    output, final = seeded(lambda: [*layer(packed, hx)][1:]), padded[1:]
    assert_same(output, final, 1e-12)


def test_double_backward_has_the_same_masks():
    layer = FastGRU(3, 4, dtype=F64, **BOTH).to(DEVICE)
    x = randn(3, 2, 3, dtype=F64, grad=True)

    def twice_derived(call):
        (first,) = torch.autograd.grad(call()[0].square().sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), [x, *layer.parameters()])

    torch.manual_seed(7)
    ours = twice_derived(lambda: layer(x))
    torch.manual_seed(7)
    assert_same(ours, twice_derived(lambda: by_hand(layer, x)), 1e-9)


def test_checkpointed():
    layer = FastGRU(3, 4, dtype=F64, **BOTH).to(DEVICE)
    x = randn(5, 2, 3, dtype=F64, grad=True)
    inputs = [x, *layer.parameters()]
    plain = seeded(lambda: layer(x)[0])
    again = seeded(lambda: checkpoint(lambda x: layer(x)[0], x, use_reentrant=False))
    assert_same(gradients(plain, inputs), gradients(again, inputs), 1e-12)


def test_vmap_randomness():
    layer = FastGRU(3, 40, dtype=F64, **BOTH).to(DEVICE)
    x = randn(4, 2, 3, dtype=F64)
    layer(x)  # a cell is not derived under a transform
    x = x.expand(2, 4, 2, 3)

    def loss(x):
        return layer(x)[0].square().sum()

    for randomness, same in (("same", True), ("different", False)):
        torch.manual_seed(3)
        first, second = vmap(grad(loss), randomness=randomness)(x)
        assert torch.equal(first, second) == same
    with pytest.raises(RuntimeError, match="randomness"):
        vmap(loss)(x)


@native
def test_training_keeps_no_masks():
    """Nothing of the size of a mask is kept for backward, but what the cell itself keeps."""
    layer, x = FastGRU(8, 64, dtype=F64, **BOTH), torch.randn(50, 4, 8, dtype=F64)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        layer(x)
    sizes = sorted(t.numel() for t in kept if t.numel() >= 50 * 4 * 64)
    # output, and what forward saves
    assert len(sizes) == 2 and sizes[0] == 50 * 4 * 64


def test_errors():
    numbers = drawn.of_call(torch.empty(0), SLOTS["both"], 1)[0]
    line = torch.zeros(1, dtype=torch.int64)
    if ops.NATIVE_BUILT:
        for given, words in (
            (numbers[:-1], "drawn extra slots must be 30 numbers"),
            (numbers + 0.5, "whole numbers from 0 to 255"),
            (numbers + 300, "whole numbers from 0 to 255"),
        ):
            with pytest.raises(RuntimeError, match=words):
                torch.ops.fastrnn.drawn_masks(given, 2, 4, line, line)

"""Extra slots that are masks drawn from a counter: made where they are used, and kept by nobody.

In place of `[T, B, E*H]` a cell's slots are one tensor of whole numbers from 0 to 255, which every
dtype holds, [8 + 11*E] or [8 + 11*E + 4*B]: a seed of 8 bytes, then for each slot

    kind    ZONEOUT: 1 where the mask hits, else 0; DROPOUT: 0 where it hits, else 1 / (1 - rate),
            and the same in every step; DROPOUT_EACH_STEP: likewise, another one in each
    bound   2 bytes: it hits where 16 bits are below, so a rate is one to 1/65536
    rate    8 bytes, a binary fraction

then, where rows do not count with their places, the number of each, 4 bytes. Bytes of a number go
from the lowest to the highest, but for the rate's. Slots 2k and 2k + 1 are the halves of one 32-bit
word of (unit, k) under a key of (seed, time, row, k), time -1 for what is the same in every step:

    key     two of the four words of Philox4x32-10 (Salmon et al., Parallel random numbers: as easy
            as 1, 2, 3, SC 2011), counter (time, row, k, high half of time)
    word    triple32 (Wellons, github.com/skeeto/hash-prospector) of unit + key[0], with key[1]
            between its first two rounds

`csrc/cpu/draws.h` has it for the CPU kernels, which draw in the step, `triton/draws.py` for GPUs,
where masks are tensors while a pass runs: made before forward, and again before backward.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence

import torch
from torch import Tensor

from . import ops, transforms

ZONEOUT, DROPOUT, DROPOUT_EACH_STEP = range(3)
SEED, SLOT = 8, 11
EVERY_STEP, BEFORE = -1, -2  # times: of all steps at once; of what the first step sees
_MASK = 0xFFFFFFFF


def of_call(like: Tensor, slots: tuple[tuple[int, float], ...], count: int) -> list[Tensor]:
    """For each of `count` directions [8 + 11*E], in the dtype and on the device of like.

    slots: (kind, rate) of each. The seeds come from torch's generator.
    """
    rest = torch.tensor(_numbers(slots), dtype=like.dtype, device=like.device).expand(count, -1)
    seeds = torch.randint(0, 256, (count, SEED), dtype=like.dtype, device=like.device)
    return list(torch.cat([seeds, rest], 1).unbind())


@torch.compiler.assume_constant_result  # torch.compile knows no bytes
def _numbers(slots: tuple[tuple[int, float], ...]) -> list[int]:
    """The numbers that follow the seed."""
    return _written(slots)


@functools.cache
def _written(slots: tuple[tuple[int, float], ...]) -> list[int]:
    numbers = []
    for kind, rate in slots:
        bound = min(int(rate * 2**16 + 0.5), 2**16 - 1)
        fraction = int(rate * 2**64).to_bytes(8, "big")
        numbers += [kind, bound & 255, bound >> 8, *fraction]
    return numbers


def with_rows(drawn: Tensor, rows: Tensor) -> Tensor:
    """The same slots, for a batch whose rows count as `rows` [B] int64 of this one."""
    numbers = (rows.unsqueeze(-1) >> torch.arange(0, 32, 8, device=rows.device)) & 255
    return torch.cat([drawn, numbers.flatten().to(drawn.device, drawn.dtype)])


def lines(drawn: Tensor, slots: int, hidden: int, shape: Sequence[int], batch_sizes) -> Tensor:
    """The masks of every line [.., E*H]; shape: (T, B), or with batch_sizes [T] (N,)."""
    device = drawn.device
    if batch_sizes is None:
        t, b = shape
        times = torch.arange(t, device=device).unsqueeze(-1).expand(t, b)
        rows = torch.arange(b, device=device).expand(t, b)
        return masks(drawn, slots, hidden, times, rows)
    steps = torch.arange(len(batch_sizes)).repeat_interleave(batch_sizes)
    first = (batch_sizes.cumsum(0) - batch_sizes).repeat_interleave(batch_sizes)
    return masks(
        drawn, slots, hidden, steps.to(device), (torch.arange(len(steps)) - first).to(device)
    )


def masks(drawn: Tensor, slots: int, hidden: int, times: Tensor, rows: Tensor) -> Tensor:
    """The masks [.., E*H] of lines at `times` of `rows` [..] int64."""
    if _plain():
        if ops.NATIVE_BUILT and drawn.is_cpu and drawn.dtype in _NATIVE:
            flat = times.reshape(-1), rows.reshape(-1)
            made = torch.ops.fastrnn.drawn_masks(drawn, slots, hidden, *flat)
            return made.view(*times.shape, -1)
        if drawn.is_cuda and importlib.util.find_spec("triton") is not None:
            from .triton import draws

            return draws.masks(drawn, slots, hidden, times, rows)
    return _by_torch(drawn, slots, hidden, times, rows)


def _by_torch(drawn, slots, hidden, times, rows) -> Tensor:
    numbers = drawn.to(torch.int64)
    given = numbers[SEED + SLOT * slots :]
    if len(given):
        rows = _whole(given.unflatten(0, (-1, 4)))[rows]
    seed = [_whole(numbers[:4]), _whole(numbers[4:8])]
    units = torch.arange(hidden, device=drawn.device)
    found = []
    for k in range(slots):
        kind, *at = numbers[SEED + SLOT * k : SEED + SLOT * (k + 1)].unbind()
        time = torch.where(kind == DROPOUT, EVERY_STEP, times)
        key = philox([time, rows, torch.full_like(rows, k // 2), time >> 32], seed)
        words = triple32(units, key[0].unsqueeze(-1), key[1].unsqueeze(-1))
        hits = (words >> 16 * (k % 2) & 0xFFFF) < at[0] + 256 * at[1]
        zoned, rate = kind == ZONEOUT, 0.0
        for byte in reversed(at[2:]):
            rate = (rate + byte.to(torch.float64)) / 256
        other = torch.where(zoned, 0.0, 1 / (1 - rate))
        found.append(torch.where(hits, zoned.to(drawn.dtype), other.to(drawn.dtype)))
    return torch.cat(found, -1)


_NATIVE = (torch.float32, torch.float64, torch.bfloat16)


def _plain() -> bool:
    """Neither traced nor transformed?"""
    compiling = torch.compiler.is_compiling()
    return not compiling and True not in transforms.active(compiling)


def _whole(numbers: Tensor) -> Tensor:
    """[.., 4] bytes as whole numbers [..]"""
    a, b, c, d = numbers.unbind(-1)
    return a + (b << 8) + (c << 16) + (d << 24)


def philox(counter: Sequence[Tensor], key: Sequence[Tensor | int]) -> list[Tensor]:
    """Philox4x32-10 on int64 tensors, of whose numbers the lower 32 bits count."""
    a, b, c, d = (word & _MASK for word in counter)
    k, m = key
    for _ in range(10):
        left, right = 0xD2511F53 * a, 0xCD9E8D57 * c  # of the 64 bits that wrap none is lost
        a, b, c, d = (
            (right >> 32 & _MASK) ^ b ^ k, right & _MASK, (left >> 32 & _MASK) ^ d ^ m, left & _MASK
        )  # fmt: skip
        k, m = k + 0x9E3779B9 & _MASK, m + 0xBB67AE85 & _MASK
    return [a, b, c, d]


def triple32(units: Tensor, first: Tensor | int, second: Tensor | int) -> Tensor:
    """The word of each unit under the two words of its row's key."""
    x = units + first & _MASK
    x = (x ^ x >> 17) * 0xED5AD4BB & _MASK ^ second
    x = (x ^ x >> 11) * 0xAC4C1B51 & _MASK
    x = (x ^ x >> 15) * 0x31848BAB & _MASK
    return x ^ x >> 14

"""Masks drawn from a counter, as a tensor: `fastrnn.drawn` says of what, and has the same in torch.

A kernel of its own, before each pass: drawn inside a scan's step, masks would be in the way of the
next one, which waits for this one's cell.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _bytes(at, mask, COUNT: tl.constexpr):
    """COUNT bytes, the lowest first, as uint32."""
    total = tl.load(at, mask=mask).to(tl.uint32)
    for i in tl.static_range(1, COUNT):
        total = total | (tl.load(at + i, mask=mask).to(tl.uint32) << (8 * i))
    return total


@triton.jit
def _draw_kernel(
    numbers,  # [8 + 11*E] or [8 + 11*E + 4*B] uint8
    times,  # [N] int64
    rows,  # [N] int64
    out,  # [N, E*H]
    N, H,
    E: tl.constexpr, GIVEN: tl.constexpr, LINES: tl.constexpr, UNITS: tl.constexpr,
):  # fmt: skip
    line = tl.program_id(0).to(tl.int64) * LINES + tl.arange(0, LINES)[:, None]
    unit = tl.program_id(1) * UNITS + tl.arange(0, UNITS)[None, :]
    there = line < N
    row, time = (
        tl.load(rows + line, mask=there, other=0),
        tl.load(times + line, mask=there, other=0),
    )
    if GIVEN:
        row = _bytes(numbers + 8 + 11 * E + 4 * row, there, 4)
    seed = _bytes(numbers, None, 4).to(tl.uint64)
    seed = seed | (_bytes(numbers + 4, None, 4).to(tl.uint64) << 32)
    for k in tl.static_range(E):
        slot = numbers + 8 + 11 * k
        kind = tl.load(slot).to(tl.int32)
        rate = tl.load(slot + 10).to(tl.float64) / 256
        for i in tl.static_range(1, 8):
            rate = (rate + tl.load(slot + 10 - i).to(tl.float64)) / 256
        now = tl.where(kind == 1, -1, time)  # fastrnn.drawn.DROPOUT, EVERY_STEP
        low, high = (now & 0xFFFFFFFF).to(tl.uint32), ((now >> 32) & 0xFFFFFFFF).to(tl.uint32)
        word = tl.full(row.shape, k // 2, tl.uint32)
        key, second, _, _ = tl.philox(seed, low, row.to(tl.uint32), word, high)
        x = unit.to(tl.uint32) + key
        x = ((x ^ (x >> 17)) * 0xED5AD4BB) ^ second
        x = (x ^ (x >> 11)) * 0xAC4C1B51
        x = (x ^ (x >> 15)) * 0x31848BAB
        x = x ^ (x >> 14)
        bits = x >> 16 if k % 2 else x & 0xFFFF
        below, other = tl.where(kind == 0, 1.0, 0.0), tl.where(kind == 0, 0.0, 1 / (1 - rate))
        mask = tl.where(bits < _bytes(slot + 1, None, 2), below, other)
        if out.dtype.element_ty != tl.float64:  # bfloat16 is made of float32 alone
            mask = mask.to(tl.float32)
        to = out + line * (E * H) + k * H + unit
        tl.store(to, mask.to(out.dtype.element_ty), mask=there & (unit < H))


def masks(drawn: Tensor, slots: int, hidden: int, times: Tensor, rows: Tensor) -> Tensor:
    """`fastrnn.drawn.masks` by Triton."""
    lines = times.numel()
    out = drawn.new_empty((lines, slots * hidden))
    size = 8, min(128, triton.next_power_of_2(hidden))
    grid = triton.cdiv(lines, size[0]), triton.cdiv(hidden, size[1])
    with torch.cuda.device(drawn.device) if drawn.is_cuda else nullcontext():
        if lines and hidden:
            _draw_kernel[grid](
                drawn.to(torch.uint8), times.reshape(-1), rows.reshape(-1), out, lines, hidden,
                slots, len(drawn) > 8 + 11 * slots, *size,
            )  # fmt: skip
    return out.view(*times.shape, -1)

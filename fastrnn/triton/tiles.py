"""Tiles in and out of memory, and their dots: what the scan kernels are made of.

A tensor line is given by one 64-bit pointer a batch row, so that N*G*H may pass 2^31; within a line
32 bits are enough. Several tiles (gates, states, saved values) travel as a tuple.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .cells import INTERPRET


def part(function):
    """triton.jit, for parts of a kernel; the interpreter takes a millisecond for each jit call."""
    return function if INTERPRET else triton.jit(function)


@part
def batch_tile(T, B, offsets, lengths, reverse, ROWS: tl.constexpr, RAGGED: tl.constexpr):
    """The batch rows of this program, as what `locate` reads: (batch, length, steps, ..).

    batch [ROWS] int64, length [ROWS] int64: steps of each row, 0 for rows past B; steps: those of
    the longest, which is the first, as lengths fall along the batch.
    """
    start = tl.program_id(0).to(tl.int64) * ROWS
    batch = start + tl.arange(0, ROWS)
    if RAGGED:
        length = tl.load(lengths + batch, mask=batch < B, other=0)
        steps = tl.load(lengths + start)
    else:
        length = tl.where(batch < B, T, 0).to(tl.int64)
        steps = T
    return batch, length, steps, B, offsets, reverse


@part
def locate(j, tile, RAGGED: tl.constexpr):
    """Scan step j -> (packed rows [ROWS] int64, which rows of the tile take part in the step)."""
    batch, length, steps, B, offsets, reverse = tile
    inside = (j >= 0) & (j < steps)
    j = tl.where(inside, j, 0).to(tl.int64)
    t = tl.where(reverse, steps - 1 - j, j)
    if RAGGED:
        first = tl.load(offsets + t)
    else:
        first = t * B
    # No row is longer than 2^62 steps; a scalar mask & a block one fails in the interpreter.
    return first + batch, tl.where(inside, t, 1 << 62) < length


@part
def entering_rows(resets, rows, valid, RESETS: tl.constexpr):
    """The rows that enter their step with the state of the step before: valid and not reset."""
    if RESETS:
        valid = valid & (tl.load(resets + rows, mask=valid, other=1) == 0)
    return valid


@part
def load_tiles(lines, mask_rows, units, stride, H: tl.constexpr, COUNT: tl.constexpr):
    """COUNT tiles [ROWS, UNITS], `stride` elements apart, of the lines that start at `lines`."""
    mask = mask_rows[:, None] & (units < H)[None, :]
    tiles = ()
    for i in tl.static_range(COUNT):
        at = (lines + i * stride)[:, None] + units[None, :]
        tiles = tiles + (tl.load(at, mask=mask, other=0.0),)
    return tiles


@part
def load_projected(
    j, tile, gx, units, H: tl.constexpr, G: tl.constexpr, D: tl.constexpr, RAGGED: tl.constexpr
):
    """G tiles of gx, of step j."""
    lines, valid = locate(j, tile, RAGGED)
    return load_tiles(gx + lines * (D * G * H), valid, units, H, H, G)


@part
def store_tiles(lines, mask_rows, units, stride, tiles, H: tl.constexpr, COUNT: tl.constexpr):
    mask = mask_rows[:, None] & (units < H)[None, :]
    for i in tl.static_range(COUNT):
        at = (lines + i * stride)[:, None] + units[None, :]
        tl.store(at, tiles[i].to(lines.dtype.element_ty), mask=mask)


@part
def widen(tiles, COUNT: tl.constexpr):
    """The tiles in float32."""
    wide = ()
    for i in tl.static_range(COUNT):
        wide = wide + (tiles[i].to(tl.float32),)
    return wide


@part
def select(mask_rows, tiles, others, COUNT: tl.constexpr):
    """Tiles in the rows of the mask, others elsewhere."""
    chosen = ()
    for i in tl.static_range(COUNT):
        chosen = chosen + (tl.where(mask_rows[:, None], tiles[i], others[i]),)
    return chosen


@part
def zero_unless(mask_rows, tiles, COUNT: tl.constexpr):
    """Tiles in the rows of the mask, zero elsewhere; where, not a product, so that NaN stops."""
    chosen = ()
    for i in tl.static_range(COUNT):
        chosen = chosen + (tl.where(mask_rows[:, None], tiles[i], 0.0),)
    return chosen


@part
def add(tiles, others, COUNT: tl.constexpr):
    sums = ()
    for i in tl.static_range(COUNT):
        sums = sums + (tiles[i] + others[i],)
    return sums


@part
def sum_rows(mask_rows, tiles, COUNT: tl.constexpr):
    """The sums [UNITS] over the rows of the mask; the others may be NaN."""
    chosen = zero_unless(mask_rows, tiles, COUNT)
    sums = ()
    for i in tl.static_range(COUNT):
        sums = sums + (tl.sum(chosen[i], 0),)
    return sums


@part
def only_units(tile, units, H: tl.constexpr):
    """The tile, zero past H: what a cell makes of zeros may be NaN, and dots would spread it."""
    if units.shape[0] > H:
        tile = tl.where((units < H)[None, :], tile, 0.0)
    return tile


@part
def step_forward(CELL: tl.constexpr, x, r, prev, p, e, P: tl.constexpr, E: tl.constexpr):
    """A cell's forward, with its parameters and extra slots if it has some."""
    if P:
        if E:
            result = CELL(x, r, prev, p, e)
        else:
            result = CELL(x, r, prev, p)
    else:
        if E:
            result = CELL(x, r, prev, e)
        else:
            result = CELL(x, r, prev)
    return result


@part
def step_backward(
    CELL: tl.constexpr, kept, prev, next, grad, p, e, P: tl.constexpr, E: tl.constexpr
):
    """A cell's backward: dx, dr, dprev, dp and de, the last two () where it has none."""
    if P:
        if E:
            result = CELL(kept, prev, next, grad, p, e)
        else:
            dx, dr, dprev, dp = CELL(kept, prev, next, grad, p)
            result = dx, dr, dprev, dp, ()
    else:
        if E:
            dx, dr, dprev, de = CELL(kept, prev, next, grad, e)
            result = dx, dr, dprev, (), de
        else:
            dx, dr, dprev = CELL(kept, prev, next, grad)
            result = dx, dr, dprev, (), ()
    return result


@part
def load_extra(j, tile, extra, units, H: tl.constexpr, E: tl.constexpr, RAGGED: tl.constexpr):
    """E tiles of the extra slots [N, E*H], of step j."""
    if E:
        lines, valid = locate(j, tile, RAGGED)
        tiles = load_tiles(extra + lines * (E * H), valid, units, H, H, E)
    else:
        tiles = ()
    return tiles


@part
def load_weights(w_hh, inner, units, H: tl.constexpr, G: tl.constexpr, BACKWARD: tl.constexpr):
    """G tiles [INNER, UNITS] of w_hh [G*H, H]: W_g^T for h W_g^T, or W_g for dr_g W_g."""
    mask = (inner < H)[:, None] & (units < H)[None, :]
    if BACKWARD:
        at = w_hh + inner.to(tl.int64)[:, None] * H + units[None, :]
    else:
        at = w_hh + units.to(tl.int64)[None, :] * H + inner[:, None]
    tiles = ()
    for _ in tl.static_range(G):
        tiles = tiles + (tl.load(at, mask=mask, other=0.0),)
        at += H * H
    return tiles


@part
def load_vectors(
    vectors, units, ROWS: tl.constexpr, H: tl.constexpr, COUNT: tl.constexpr, GIVEN: tl.constexpr
):
    """COUNT vectors [H] in a row (b_hh, params) as float32 tiles [ROWS, UNITS]; else zeros."""
    shape: tl.constexpr = (ROWS, units.shape[0])
    tiles = ()
    for i in tl.static_range(COUNT):
        if GIVEN:
            v = tl.load(vectors + i * H + units, mask=units < H, other=0.0).to(tl.float32)
            tiles = tiles + (tl.broadcast_to(v[None, :], shape),)
        else:
            tiles = tiles + (tl.full(shape, 0.0, tl.float32),)
    return tiles


@part
def load_sums(vectors, units, H: tl.constexpr, COUNT: tl.constexpr):
    """COUNT vectors [H] in a row, as they stand: [UNITS] each."""
    sums = ()
    for i in tl.static_range(COUNT):
        sums = sums + (tl.load(vectors + i * H + units, mask=units < H, other=0.0),)
    return sums


@part
def store_sums(vectors, units, sums, H: tl.constexpr, COUNT: tl.constexpr):
    for i in tl.static_range(COUNT):
        tl.store(vectors + i * H + units, sums[i], mask=units < H)


@part
def dot(a, b, acc, PRECISION: tl.constexpr, UPCAST: tl.constexpr):
    if UPCAST:  # the interpreter would multiply the bit patterns of bfloat16
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision=PRECISION)


@part
def dot_gates(h, weights, acc, G: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr):
    """acc_g + h W_g^T of every gate."""
    r = ()
    for g in tl.static_range(G):
        r = r + (dot(h, weights[g], acc[g], PRECISION, UPCAST),)
    return r


@part
def dot_back(dr, weights, acc, G: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr):
    """acc + the sum over the gates of dr_g W_g."""
    for g in tl.static_range(G):
        acc = dot(dr[g].to(weights[g].dtype), weights[g], acc, PRECISION, UPCAST)
    return acc


@part
def load_step(
    j, tile, owned, stride, grad_out, resets, state, out, saved, units,
    H: tl.constexpr, S: tl.constexpr, K: tl.constexpr, D: tl.constexpr,
    RAGGED: tl.constexpr, RESETS: tl.constexpr,
):  # fmt: skip
    """What backward reads of scan step j: (grad_out, K saved tiles, S states after the step, S
    states before it).
    """
    KEPT: tl.constexpr = K + S - 1
    before, started = locate(j - 1, tile, RAGGED)
    lines, valid = locate(j, tile, RAGGED)
    entering = entering_rows(resets, lines, valid, RESETS)
    grad = load_tiles(grad_out + lines * (D * H), valid, units, H, H, 1)
    kept = load_tiles(saved + lines * (KEPT * H), valid, units, H, H, K)
    next = load_tiles(out + lines * (D * H), valid, units, H, H, 1)
    next = next + load_tiles(saved + lines * (KEPT * H) + K * H, valid, units, H, H, S - 1)
    at = tl.where(started, out + before * (D * H), state + owned)
    prev = load_tiles(at, entering, units, H, H, 1)
    for s in tl.static_range(1, S):
        kept_at = saved + before * (KEPT * H) + (K + s - 1) * H
        at = tl.where(started, kept_at, state + owned + s * stride)
        prev = prev + load_tiles(at, entering, units, H, H, 1)
    return grad[0], kept, next, prev

"""The walk with R on chip for all steps, states in registers, and loads one step ahead.

REGISTERS picks the loop: out of a `while` Triton keeps the dot operand R in registers; into a `for`
it sinks the load from shared memory. So the same step runs in either.
"""

from __future__ import annotations

import triton.language as tl

from .tiles import (
    dot_back,
    dot_gates,
    entering_rows,
    load_bias,
    load_step,
    load_tiles,
    load_weights,
    locate,
    part,
    select,
    store_tiles,
    widen,
    zero_unless,
)


@part
def _fetch_forward(
    j, tile, gx, resets, units,
    H: tl.constexpr, G: tl.constexpr, D: tl.constexpr, RAGGED: tl.constexpr, RESETS: tl.constexpr,
):  # fmt: skip
    """What step j reads: (lines, taking part, entering with a state, G tiles of gx)."""
    lines, valid = locate(j, tile, RAGGED)
    entering = entering_rows(resets, lines, valid, RESETS)
    x = load_tiles(gx + lines * (D * G * H), valid, units, H, H, G)
    return lines, valid, entering, x


@part
def _forward_step(
    fetched, current, weights, bias, out, saved, units, CELL: tl.constexpr,
    H: tl.constexpr, G: tl.constexpr, S: tl.constexpr, K: tl.constexpr, D: tl.constexpr,
    SAVE: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """One step: the S states after it; rows that take no part keep theirs."""
    KEPT: tl.constexpr = K + S - 1
    lines, valid, entering, x = fetched
    prev = zero_unless(entering, current, S)
    r = dot_gates(prev[0].to(weights[0].dtype), weights, bias, G, PRECISION, UPCAST)
    next, kept = CELL(widen(x, G), r, prev)
    store_tiles(out + lines * (D * H), valid, units, H, next, H, 1)
    if SAVE:
        store_tiles(saved + lines * (KEPT * H), valid, units, H, kept + next[1:], H, KEPT)
    return select(valid, next, current, S)


@part
def forward_resident(
    tile, owned, stride, gx, w_hh, b_hh, resets, carry, out, saved, CELL: tl.constexpr,
    H: tl.constexpr, G: tl.constexpr, S: tl.constexpr, K: tl.constexpr, D: tl.constexpr,
    BIAS: tl.constexpr, RAGGED: tl.constexpr, RESETS: tl.constexpr, SAVE: tl.constexpr,
    PRECISION: tl.constexpr, UPCAST: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr,
    REGISTERS: tl.constexpr,
):  # fmt: skip
    steps = tile[2]
    units = tl.arange(0, UNITS)
    weights = load_weights(w_hh, units, units, H, G, False)
    bias = load_bias(b_hh, units, ROWS, H, G, BIAS)
    current = load_tiles(carry + owned, tile[1] > 0, units, stride, H, S)
    ahead = _fetch_forward(0, tile, gx, resets, units, H, G, D, RAGGED, RESETS)
    if REGISTERS:
        j = 0
        while j < steps:
            fetched = ahead
            ahead = _fetch_forward(j + 1, tile, gx, resets, units, H, G, D, RAGGED, RESETS)
            current = _forward_step(
                fetched, current, weights, bias, out, saved, units, CELL,
                H, G, S, K, D, SAVE, PRECISION, UPCAST,
            )  # fmt: skip
            j += 1
    else:
        for j in range(steps):
            fetched = ahead
            ahead = _fetch_forward(j + 1, tile, gx, resets, units, H, G, D, RAGGED, RESETS)
            current = _forward_step(
                fetched, current, weights, bias, out, saved, units, CELL,
                H, G, S, K, D, SAVE, PRECISION, UPCAST,
            )  # fmt: skip
    store_tiles(carry + owned, tile[1] > 0, units, stride, current, H, S)


@part
def _backward_step(
    fetched, grad, weights, dx, dr, units, CELL: tl.constexpr,
    H: tl.constexpr, G: tl.constexpr, S: tl.constexpr, K: tl.constexpr, D: tl.constexpr,
    SPLIT: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """One step backwards: the gradients of the S states before it."""
    lines, valid, entering, grad_out, kept, next, prev = fetched
    arriving = (grad[0] + grad_out.to(tl.float32),) + grad[1:]
    d_x, d_r, d_prev = CELL(widen(kept, K), widen(prev, S), widen(next, S), arriving)
    store_tiles(dx + lines * (D * G * H), valid, units, H, d_x, H, G)
    if SPLIT:
        store_tiles(dr + lines * (D * G * H), valid, units, H, d_r, H, G)
    d_h = dot_back(d_r, weights, d_prev[0], G, PRECISION, UPCAST)
    return select(valid, zero_unless(entering, (d_h,) + d_prev[1:], S), grad, S)


@part
def backward_resident(
    tile, owned, stride, grad_out, w_hh, resets, state, carry, out, saved, dx, dr,
    CELL: tl.constexpr, H: tl.constexpr, G: tl.constexpr, S: tl.constexpr, K: tl.constexpr,
    D: tl.constexpr, SPLIT: tl.constexpr, RAGGED: tl.constexpr, RESETS: tl.constexpr,
    PRECISION: tl.constexpr, UPCAST: tl.constexpr, UNITS: tl.constexpr, REGISTERS: tl.constexpr,
):  # fmt: skip
    steps = tile[2]
    units = tl.arange(0, UNITS)
    weights = load_weights(w_hh, units, units, H, G, True)
    grad = load_tiles(carry + owned, tile[1] > 0, units, stride, H, S)
    ahead = load_step(
        steps - 1, tile, owned, stride, grad_out, resets, state, out, saved, units,
        H, S, K, D, RAGGED, RESETS,
    )  # fmt: skip
    if REGISTERS:
        j = steps - 1
        while j >= 0:
            fetched = ahead
            ahead = load_step(
                j - 1, tile, owned, stride, grad_out, resets, state, out, saved, units,
                H, S, K, D, RAGGED, RESETS,
            )  # fmt: skip
            grad = _backward_step(
                fetched, grad, weights, dx, dr, units, CELL,
                H, G, S, K, D, SPLIT, PRECISION, UPCAST,
            )  # fmt: skip
            j -= 1
    else:
        for i in range(steps):
            fetched = ahead
            ahead = load_step(
                steps - 2 - i, tile, owned, stride, grad_out, resets, state, out, saved, units,
                H, S, K, D, RAGGED, RESETS,
            )  # fmt: skip
            grad = _backward_step(
                fetched, grad, weights, dx, dr, units, CELL,
                H, G, S, K, D, SPLIT, PRECISION, UPCAST,
            )  # fmt: skip
    store_tiles(carry + owned, tile[1] > 0, units, stride, grad, H, S)

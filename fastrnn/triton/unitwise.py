"""The walk of a cell without a recurrent product, in which no unit hears of another.

A program owns some units of its batch rows for all steps: states stay in registers, loads are one
step ahead, and programs that share the rows of a tile have nothing to tell each other.
"""

from __future__ import annotations

import triton.language as tl

from .tiles import (
    add,
    entering_rows,
    load_projected,
    load_step,
    load_tiles,
    load_vectors,
    locate,
    part,
    select,
    store_sums,
    store_tiles,
    sum_rows,
    widen,
    zero_unless,
)


@part
def forward_unitwise(
    tile, owned, stride, gx, resets, carry, parameters, out, saved, CELL: tl.constexpr,
    H: tl.constexpr, G: tl.constexpr, S: tl.constexpr, K: tl.constexpr, P: tl.constexpr,
    D: tl.constexpr, RAGGED: tl.constexpr, RESETS: tl.constexpr, SAVE: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr,
):  # fmt: skip
    KEPT: tl.constexpr = K + S - 1
    steps = tile[2]
    units = tl.program_id(2) * UNITS + tl.arange(0, UNITS)
    if P:
        p = load_vectors(parameters, units, ROWS, H, P, True)
    current = load_tiles(carry + owned, tile[1] > 0, units, stride, H, S)
    ahead = load_projected(0, tile, gx, units, H, G, D, RAGGED)
    j = 0
    while j < steps:
        x = widen(ahead, G)
        ahead = load_projected(j + 1, tile, gx, units, H, G, D, RAGGED)
        lines, valid = locate(j, tile, RAGGED)
        prev = zero_unless(entering_rows(resets, lines, valid, RESETS), current, S)
        if P:
            next, kept = CELL(x, x, prev, p)  # it does not look at r
        else:
            next, kept = CELL(x, x, prev)
        current = select(valid, next, current, S)
        store_tiles(out + lines * (D * H), valid, units, H, next, H, 1)
        if SAVE:
            store_tiles(saved + lines * (KEPT * H), valid, units, H, kept + next[1:], H, KEPT)
        j += 1
    store_tiles(carry + owned, tile[1] > 0, units, stride, current, H, S)


@part
def backward_unitwise(
    tile, owned, stride, grad_out, resets, state, carry, parameters, out, saved, dx, d_parameters,
    CELL: tl.constexpr, H: tl.constexpr, G: tl.constexpr, S: tl.constexpr, K: tl.constexpr,
    P: tl.constexpr, D: tl.constexpr, RAGGED: tl.constexpr, RESETS: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr,
):  # fmt: skip
    steps = tile[2]
    units = tl.program_id(2) * UNITS + tl.arange(0, UNITS)
    grad = load_tiles(carry + owned, tile[1] > 0, units, stride, H, S)
    if P:
        p = load_vectors(parameters, units, ROWS, H, P, True)
        d_p = load_vectors(parameters, units, ROWS, H, P, False)
    j = steps - 1
    ahead = load_step(
        j, tile, owned, stride, grad_out, resets, state, out, saved, units,
        H, S, K, D, RAGGED, RESETS,
    )  # fmt: skip
    while j >= 0:
        grad_now, kept, next, prev = ahead
        ahead = load_step(
            j - 1, tile, owned, stride, grad_out, resets, state, out, saved, units,
            H, S, K, D, RAGGED, RESETS,
        )  # fmt: skip
        lines, valid = locate(j, tile, RAGGED)
        entering = entering_rows(resets, lines, valid, RESETS)
        arriving = (grad[0] + grad_now.to(tl.float32),) + grad[1:]
        if P:
            d_x, _, d_prev, d_p_now = CELL(
                widen(kept, K), widen(prev, S), widen(next, S), arriving, p
            )
            d_p = add(d_p, zero_unless(valid, d_p_now, P), P)
        else:
            d_x, _, d_prev = CELL(widen(kept, K), widen(prev, S), widen(next, S), arriving)
        store_tiles(dx + lines * (D * G * H), valid, units, H, d_x, H, G)
        grad = select(valid, zero_unless(entering, d_prev, S), grad, S)
        j -= 1
    store_tiles(carry + owned, tile[1] > 0, units, stride, grad, H, S)
    if P:
        store_sums(d_parameters, units, sum_rows(tile[1] > 0, d_p, P), H, P)

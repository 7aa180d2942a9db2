"""The walk of a cell without a recurrent product, in which no unit hears of another.

A program owns some units of its batch rows for all steps: states stay in registers, loads are one
step ahead, and programs that share the rows of a tile have nothing to tell each other.
"""

from __future__ import annotations

import triton.language as tl

from .tiles import (
    add,
    entering_rows,
    load_extra,
    load_projected,
    load_step,
    load_tiles,
    load_vectors,
    locate,
    part,
    select,
    step_backward,
    step_forward,
    store_sums,
    store_tiles,
    sum_rows,
    widen,
    zero_unless,
)


@part
def forward_unitwise(
    tile, owned, stride, gx, resets, carry, parameters, extra, out, saved, CELL: tl.constexpr,
    H: tl.constexpr, G: tl.constexpr, S: tl.constexpr, K: tl.constexpr, P: tl.constexpr,
    E: tl.constexpr, D: tl.constexpr, RAGGED: tl.constexpr, RESETS: tl.constexpr,
    SAVE: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr,
):  # fmt: skip
    KEPT: tl.constexpr = K + S - 1
    steps = tile[2]
    units = tl.program_id(2) * UNITS + tl.arange(0, UNITS)
    p = load_vectors(parameters, units, ROWS, H, P, True) if P else ()
    current = load_tiles(carry + owned, tile[1] > 0, units, stride, H, S)
    ahead = load_projected(0, tile, gx, units, H, G, D, RAGGED)
    extra_ahead = load_extra(0, tile, extra, units, H, E, RAGGED)
    j = 0
    while j < steps:
        x, e = widen(ahead, G), widen(extra_ahead, E)
        ahead = load_projected(j + 1, tile, gx, units, H, G, D, RAGGED)
        extra_ahead = load_extra(j + 1, tile, extra, units, H, E, RAGGED)
        lines, valid = locate(j, tile, RAGGED)
        prev = zero_unless(entering_rows(resets, lines, valid, RESETS), current, S)
        next, kept = step_forward(CELL, x, x, prev, p, e, P, E)  # it does not look at r
        current = select(valid, next, current, S)
        store_tiles(out + lines * (D * H), valid, units, H, next, H, 1)
        if SAVE:
            store_tiles(saved + lines * (KEPT * H), valid, units, H, kept + next[1:], H, KEPT)
        j += 1
    store_tiles(carry + owned, tile[1] > 0, units, stride, current, H, S)


@part
def backward_unitwise(
    tile, owned, stride, grad_out, resets, state, carry, parameters, extra, out, saved, dx,
    d_parameters, d_extra, CELL: tl.constexpr, H: tl.constexpr, G: tl.constexpr, S: tl.constexpr,
    K: tl.constexpr, P: tl.constexpr, E: tl.constexpr, D: tl.constexpr, RAGGED: tl.constexpr,
    RESETS: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr,
):  # fmt: skip
    steps = tile[2]
    units = tl.program_id(2) * UNITS + tl.arange(0, UNITS)
    grad = load_tiles(carry + owned, tile[1] > 0, units, stride, H, S)
    p = load_vectors(parameters, units, ROWS, H, P, True) if P else ()
    if P:
        d_p = load_vectors(parameters, units, ROWS, H, P, False)
    j = steps - 1
    ahead = load_step(
        j, tile, owned, stride, grad_out, resets, state, out, saved, units,
        H, S, K, D, RAGGED, RESETS,
    )  # fmt: skip
    extra_ahead = load_extra(j, tile, extra, units, H, E, RAGGED)
    while j >= 0:
        grad_now, kept, next, prev = ahead
        e = extra_ahead
        extra_ahead = load_extra(j - 1, tile, extra, units, H, E, RAGGED)
        ahead = load_step(
            j - 1, tile, owned, stride, grad_out, resets, state, out, saved, units,
            H, S, K, D, RAGGED, RESETS,
        )  # fmt: skip
        lines, valid = locate(j, tile, RAGGED)
        entering = entering_rows(resets, lines, valid, RESETS)
        arriving = (grad[0] + grad_now.to(tl.float32),) + grad[1:]
        d_x, _, d_prev, d_p_now, d_e = step_backward(
            CELL, widen(kept, K), widen(prev, S), widen(next, S), arriving, p, widen(e, E), P, E
        )
        if P:
            d_p = add(d_p, zero_unless(valid, d_p_now, P), P)
        if E:
            store_tiles(d_extra + lines * (E * H), valid, units, H, d_e, H, E)
        store_tiles(dx + lines * (D * G * H), valid, units, H, d_x, H, G)
        grad = select(valid, zero_unless(entering, d_prev, S), grad, S)
        j -= 1
    store_tiles(carry + owned, tile[1] > 0, units, stride, grad, H, S)
    if P:
        store_sums(d_parameters, units, sum_rows(tile[1] > 0, d_p, P), H, P)

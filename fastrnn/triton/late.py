"""The walk of a cell with late slots, with R streamed from L2 as in streamed.py: any H.

A step goes over its units twice. The first time r is made, and what the cell asks for of it, which
goes to its place among the saved values; then, when all of that is there, its product with the
late slots of R, and the rest of the cell. `early` [D, B, (R-L)*H] keeps r for the second time.
Backward starts with the gradients of the late slots, and ends with the product for dL/dh.
"""

from __future__ import annotations

import triton.language as tl

from .streamed import products, products_back
from .tiles import (
    add,
    entering_rows,
    load_extra,
    load_step,
    load_sums,
    load_tiles,
    load_vectors,
    locate,
    part,
    step_backward,
    step_forward,
    store_sums,
    store_tiles,
    sum_rows,
    widen,
    zero_unless,
)


@part
def forward_late(
    tile, owned, stride, gx, w_hh, b_hh, resets, state, early, carry, parameters, extra, out, saved,
    CELL: tl.constexpr, FIRST: tl.constexpr, H: tl.constexpr, G: tl.constexpr, R: tl.constexpr,
    L: tl.constexpr, S: tl.constexpr, K: tl.constexpr, P: tl.constexpr, E: tl.constexpr,
    F: tl.constexpr, D: tl.constexpr, BIAS: tl.constexpr, RAGGED: tl.constexpr,
    RESETS: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, INNER: tl.constexpr,
):  # fmt: skip
    KEPT: tl.constexpr = K + S - 1
    for j in range(tile[2]):
        before, started = locate(j - 1, tile, RAGGED)
        lines, valid = locate(j, tile, RAGGED)
        entering = entering_rows(resets, lines, valid, RESETS)
        if F:
            fed_lines = saved + before * (KEPT * H) + (K + F - 1) * H
        else:
            fed_lines = out + before * (D * H)
        h_lines = tl.where(started, fed_lines, state + owned + F * stride)
        asked_lines = saved + lines * (KEPT * H) + (K - 1) * H
        for first in range(0, H, UNITS):
            units = first + tl.arange(0, UNITS)
            r = load_vectors(b_hh, units, ROWS, H, R - L, BIAS)
            r = products(h_lines, entering, w_hh, r, units, H, R - L, INNER, PRECISION, UPCAST)
            store_tiles(early + owned * (R - L), valid, units, H, r, H, R - L)
            x = load_tiles(gx + lines * (D * G * H), valid, units, H, H, G)
            prev = load_tiles(carry + owned, entering, units, stride, H, S)
            p = load_vectors(parameters, units, ROWS, H, P, True) if P else ()
            e = load_extra(j, tile, extra, units, H, E, RAGGED)
            asked = step_forward(FIRST, widen(x, G), r, prev, p, widen(e, E), P, E)
            store_tiles(asked_lines, valid, units, H, asked, H, 1)
        tl.debug_barrier()
        for first in range(0, H, UNITS):
            units = first + tl.arange(0, UNITS)
            late = load_vectors(b_hh + (R - L) * H, units, ROWS, H, L, BIAS)
            late = products(
                asked_lines, valid, w_hh + (R - L) * H * H, late, units, H, L, INNER, PRECISION,
                UPCAST,
            )  # fmt: skip
            r = load_tiles(early + owned * (R - L), valid, units, H, H, R - L)
            x = load_tiles(gx + lines * (D * G * H), valid, units, H, H, G)
            prev = load_tiles(carry + owned, entering, units, stride, H, S)
            p = load_vectors(parameters, units, ROWS, H, P, True) if P else ()
            e = load_extra(j, tile, extra, units, H, E, RAGGED)
            next, kept = step_forward(CELL, widen(x, G), r + late, prev, p, widen(e, E), P, E)
            store_tiles(out + lines * (D * H), valid, units, H, next, H, 1)
            store_tiles(saved + lines * (KEPT * H), valid, units, H, kept, H, K - 1)
            store_tiles(saved + lines * (KEPT * H) + K * H, valid, units, H, next[1:], H, S - 1)
            store_tiles(carry + owned, valid, units, stride, next, H, S)
        tl.debug_barrier()


@part
def _late_gradients(
    CELL: tl.constexpr, kept, prev, next, grad, p, e, P: tl.constexpr, E: tl.constexpr
):
    if P:
        if E:
            result = CELL(kept, prev, next, grad, p, e)
        else:
            result = CELL(kept, prev, next, grad, p)
    else:
        if E:
            result = CELL(kept, prev, next, grad, e)
        else:
            result = CELL(kept, prev, next, grad)
    return result


@part
def backward_late(
    tile, owned, stride, grad_out, w_hh, resets, state, carry, parameters, extra, out, saved, dx,
    dr, d_parameters, d_extra, CELL: tl.constexpr, FIRST: tl.constexpr, H: tl.constexpr,
    G: tl.constexpr, R: tl.constexpr, L: tl.constexpr, S: tl.constexpr, K: tl.constexpr,
    P: tl.constexpr, E: tl.constexpr, F: tl.constexpr, D: tl.constexpr, SPLIT: tl.constexpr,
    RAGGED: tl.constexpr, RESETS: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, INNER: tl.constexpr,
):  # fmt: skip
    for i in range(tile[2]):
        j = tile[2] - 1 - i
        lines, valid = locate(j, tile, RAGGED)
        entering = entering_rows(resets, lines, valid, RESETS)
        dr_lines = dr + lines * (D * R * H)
        for first in range(0, H, UNITS):
            units = first + tl.arange(0, UNITS)
            grad_out_now, kept, next, prev = load_step(
                j, tile, owned, stride, grad_out, resets, state, out, saved, units,
                H, S, K, D, RAGGED, RESETS,
            )  # fmt: skip
            grad = load_tiles(carry + owned, valid, units, stride, H, S)
            arriving = (grad[0] + grad_out_now.to(tl.float32),) + grad[1:]
            p = load_vectors(parameters, units, ROWS, H, P, True) if P else ()
            e = widen(load_extra(j, tile, extra, units, H, E, RAGGED), E)
            d_late = _late_gradients(
                FIRST, widen(kept, K), widen(prev, S), widen(next, S), arriving, p, e, P, E
            )
            store_tiles(dr_lines + (R - L) * H, valid, units, H, d_late, H, L)
        tl.debug_barrier()
        for first in range(0, H, UNITS):
            units = first + tl.arange(0, UNITS)
            d_asked = products_back(
                dr_lines + (R - L) * H, valid, w_hh + (R - L) * H * H,
                tl.full((ROWS, UNITS), 0.0, tl.float32), units, H, L, INNER, PRECISION, UPCAST,
            )  # fmt: skip
            grad_out_now, kept, next, prev = load_step(
                j, tile, owned, stride, grad_out, resets, state, out, saved, units,
                H, S, K, D, RAGGED, RESETS,
            )  # fmt: skip
            grad = load_tiles(carry + owned, valid, units, stride, H, S)
            arriving = (grad[0] + grad_out_now.to(tl.float32),) + grad[1:] + (d_asked,)
            p = load_vectors(parameters, units, ROWS, H, P, True) if P else ()
            e = widen(load_extra(j, tile, extra, units, H, E, RAGGED), E)
            d_x, d_r, d_prev, d_p_now, d_e = step_backward(
                CELL, widen(kept, K), widen(prev, S), widen(next, S), arriving, p, e, P, E
            )
            if P:
                d_p = add(load_sums(d_parameters, units, H, P), sum_rows(valid, d_p_now, P), P)
            if E:
                store_tiles(d_extra + lines * (E * H), valid, units, H, d_e, H, E)
            # Not those that are there: without SPLIT dx has dr's place.
            if SPLIT:
                store_tiles(dx + lines * (D * G * H), valid, units, H, d_x, H, G)
            store_tiles(dr_lines, valid, units, H, d_r, H, R - L)
            # As in streamed.py: what is replaced below must have been read.
            tl.debug_barrier()
            if P:
                store_sums(d_parameters, units, d_p, H, P)
            d_prev = zero_unless(entering, d_prev, S)
            store_tiles(carry + owned, valid, units, stride, d_prev, H, S)
        tl.debug_barrier()
        for first in range(0, H, UNITS):
            units = first + tl.arange(0, UNITS)
            d_h = load_tiles(carry + owned + F * stride, entering, units, stride, H, 1)[0]
            d_h = products_back(
                dr_lines, entering, w_hh, d_h, units, H, R - L, INNER, PRECISION, UPCAST
            )
            store_tiles(carry + owned + F * stride, entering, units, stride, (d_h,), H, 1)
        tl.debug_barrier()

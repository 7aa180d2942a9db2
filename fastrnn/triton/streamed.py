"""The walk with R streamed from L2 in tiles [INNER, UNITS]: any H.

h (forward) and dL/dr (backward) pass from step to step through the tensors that the kernel returns,
the float32 states through `carry`. A program reads only rows that it wrote itself, and a barrier of
the program stands between those writes and the reads.
"""

from __future__ import annotations

import triton.language as tl

from .tiles import (
    add,
    dot_back,
    dot_gates,
    entering_rows,
    load_extra,
    load_step,
    load_sums,
    load_tiles,
    load_vectors,
    load_weights,
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
def products(
    lines, rows, w, start, units, H: tl.constexpr, COUNT: tl.constexpr, INNER: tl.constexpr,
    PRECISION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """start + what the lines give with COUNT gates of R, for some units."""
    r = start
    for k in range(0, H, INNER):
        inner = k + tl.arange(0, INNER)
        operand = load_tiles(lines, rows, inner, H, H, 1)
        weights = load_weights(w, inner, units, H, COUNT, False)
        r = dot_gates(operand[0], weights, r, COUNT, PRECISION, UPCAST)
    return r


@part
def products_back(
    lines, rows, w, start, units, H: tl.constexpr, COUNT: tl.constexpr, INNER: tl.constexpr,
    PRECISION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """start + the sum over COUNT gates of the lines' gradients times R, for some units."""
    d = start
    for k in range(0, H, INNER):
        inner = k + tl.arange(0, INNER)
        operands = load_tiles(lines, rows, inner, H, H, COUNT)
        weights = load_weights(w, inner, units, H, COUNT, True)
        d = dot_back(operands, weights, d, COUNT, PRECISION, UPCAST)
    return d


@part
def forward_streamed(
    tile, owned, stride, gx, w_hh, b_hh, resets, state, carry, parameters, extra, out, saved,
    CELL: tl.constexpr, H: tl.constexpr, G: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    K: tl.constexpr, P: tl.constexpr, E: tl.constexpr, F: tl.constexpr, D: tl.constexpr,
    BIAS: tl.constexpr, RAGGED: tl.constexpr,
    RESETS: tl.constexpr, SAVE: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, INNER: tl.constexpr,
):  # fmt: skip
    KEPT: tl.constexpr = K + S - 1
    for j in range(tile[2]):
        before, started = locate(j - 1, tile, RAGGED)
        lines, valid = locate(j, tile, RAGGED)
        entering = entering_rows(resets, lines, valid, RESETS)
        if F:  # what the product multiplies is among what is saved
            fed_lines = saved + before * (KEPT * H) + (K + F - 1) * H
        else:
            fed_lines = out + before * (D * H)
        h_lines = tl.where(started, fed_lines, state + owned + F * stride)
        for first in range(0, H, UNITS):
            units = first + tl.arange(0, UNITS)
            x = load_tiles(gx + lines * (D * G * H), valid, units, H, H, G)
            r = load_vectors(b_hh, units, ROWS, H, R, BIAS)
            r = products(h_lines, entering, w_hh, r, units, H, R, INNER, PRECISION, UPCAST)
            prev = load_tiles(carry + owned, entering, units, stride, H, S)
            p = load_vectors(parameters, units, ROWS, H, P, True) if P else ()
            e = load_extra(j, tile, extra, units, H, E, RAGGED)
            next, kept = step_forward(CELL, widen(x, G), r, prev, p, widen(e, E), P, E)
            store_tiles(out + lines * (D * H), valid, units, H, next, H, 1)
            if SAVE:
                store_tiles(saved + lines * (KEPT * H), valid, units, H, kept + next[1:], H, KEPT)
            store_tiles(carry + owned, valid, units, stride, next, H, S)
        tl.debug_barrier()


@part
def backward_streamed(
    tile, owned, stride, grad_out, w_hh, resets, state, carry, parameters, extra, out, saved, dx,
    dr, d_parameters, d_extra, CELL: tl.constexpr, H: tl.constexpr, G: tl.constexpr,
    R: tl.constexpr, S: tl.constexpr, K: tl.constexpr, P: tl.constexpr, E: tl.constexpr,
    F: tl.constexpr, D: tl.constexpr, SPLIT: tl.constexpr, RAGGED: tl.constexpr,
    RESETS: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr, ROWS: tl.constexpr,
    UNITS: tl.constexpr, INNER: tl.constexpr,
):  # fmt: skip
    for i in range(tile[2]):
        j = tile[2] - 1 - i
        lines, valid = locate(j, tile, RAGGED)
        entering = entering_rows(resets, lines, valid, RESETS)
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
            d_x, d_r, d_prev, d_p_now, d_e = step_backward(
                CELL, widen(kept, K), widen(prev, S), widen(next, S), arriving, p, e, P, E
            )
            if P:
                d_p = add(load_sums(d_parameters, units, H, P), sum_rows(valid, d_p_now, P), P)
            if E:
                store_tiles(d_extra + lines * (E * H), valid, units, H, d_e, H, E)
            store_tiles(dx + lines * (D * G * H), valid, units, H, d_x, H, G)
            if SPLIT:
                store_tiles(dr + lines * (D * R * H), valid, units, H, d_r, H, R)
            # Not every cell's d_prev depends on grad, which must be read before it is replaced; and
            # several threads read what one of them writes of d_parameters.
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
                dr + lines * (D * R * H), entering, w_hh, d_h, units, H, R, INNER, PRECISION, UPCAST
            )
            store_tiles(carry + owned + F * stride, entering, units, stride, (d_h,), H, 1)
        tl.debug_barrier()

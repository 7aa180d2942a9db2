"""The walk with R on chip for all steps, states in registers, and loads one step ahead.

A program holds the weights of its units in registers: those of all units if it is ALONE, else other
programs hold the rest, and tell each other the operand of the next dot (exchange.py).

The dots are turned round: units are the rows of the matrix instruction and batch rows its columns,
of which eight are enough. Programs that share R have few units, so there the warps share the
columns of R: each of SHARES multiplies INNER of them.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .exchange import publish, receive
from .tiles import (
    add,
    dot,
    entering_rows,
    load_extra,
    load_projected,
    load_step,
    load_tiles,
    load_vectors,
    locate,
    only_units,
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
from .turn import turn_onto


@part
def _load_rows(
    w_hh, first, k, H: tl.constexpr, G: tl.constexpr, GATES: tl.constexpr, UNITS: tl.constexpr
):
    """The rows of R of UNITS units: [SHARES, GATES*UNITS, INNER]; those past G are 0."""
    each = tl.arange(0, GATES * UNITS)
    gate, unit = each // UNITS, first + each % UNITS
    at = w_hh + (gate * H + unit).to(tl.int64)[None, :, None] * H + k[:, None, :]
    mask = ((gate < G) & (unit < H))[None, :, None] & (k < H)[:, None, :]
    return tl.load(at, mask=mask, other=0.0)


@part
def _load_columns(w_hh, units, k, H: tl.constexpr, G: tl.constexpr):
    """The columns of R of the units, turned: for each gate [SHARES, UNITS, INNER]."""
    mask = (units < H)[None, :, None] & (k < H)[:, None, :]
    tiles = ()
    for g in tl.static_range(G):
        at = w_hh + (g * H + k).to(tl.int64)[:, None, :] * H + units[None, :, None]
        tiles = tiles + (tl.load(at, mask=mask, other=0.0),)
    return tiles


@part
def _only_share(tile):
    """[1, M, INNER] -> [M, INNER]"""
    return tl.reshape(tile, (tile.shape[1], tile.shape[2]))


@part
def forward_resident(
    tile, owned, stride, gx, w_hh, b_hh, resets, words, carry, parameters, extra, out, saved,
    CELL: tl.constexpr, H: tl.constexpr, G: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    K: tl.constexpr, P: tl.constexpr, E: tl.constexpr, F: tl.constexpr, D: tl.constexpr,
    BIAS: tl.constexpr, RAGGED: tl.constexpr,
    RESETS: tl.constexpr, SAVE: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, INNER: tl.constexpr, SHARES: tl.constexpr,
):  # fmt: skip
    KEPT: tl.constexpr = K + S - 1
    GATES: tl.constexpr = triton.next_power_of_2(R)
    ALONE: tl.constexpr = SHARES == 1
    DTYPE: tl.constexpr = w_hh.dtype.element_ty
    steps = tile[2]
    first = tl.program_id(2) * UNITS
    units = first + tl.arange(0, UNITS)
    k = tl.arange(0, SHARES)[:, None] * INNER + tl.arange(0, INNER)[None, :]
    weights = _load_rows(w_hh, first, k, H, R, GATES, UNITS)
    if ALONE:
        weights = _only_share(weights)
    bias = load_vectors(b_hh, units, ROWS, H, R, BIAS)
    p = load_vectors(parameters, units, ROWS, H, P, True) if P else ()
    current = load_tiles(carry + owned, tile[1] > 0, units, stride, H, S)
    exchange = words, stride, owned, tile[1] > 0
    if not ALONE:
        publish(exchange, 1, units, units < H, current[F], DTYPE)
    ahead = load_projected(0, tile, gx, units, H, G, D, RAGGED)
    extra_ahead = load_extra(0, tile, extra, units, H, E, RAGGED)
    j = 0
    while j < steps:
        x, e = ahead, extra_ahead
        ahead = load_projected(j + 1, tile, gx, units, H, G, D, RAGGED)
        extra_ahead = load_extra(j + 1, tile, extra, units, H, E, RAGGED)
        lines, valid = locate(j, tile, RAGGED)
        entering = entering_rows(resets, lines, valid, RESETS)
        prev = zero_unless(entering, current, S)
        if ALONE:
            h = tl.trans(only_units(prev[F], units, H).to(DTYPE))
        else:
            h = receive(exchange, j + 1, k, H, 0, 1, DTYPE)[0]
            if RESETS:
                h = tl.where(entering[None, None, :], h, 0.0).to(DTYPE)
        nothing = tl.full(weights.shape[:-1] + (ROWS,), 0.0, tl.float32)
        r = turn_onto(
            bias, dot(weights, h, nothing, PRECISION, UPCAST), SHARES, R, GATES, UNITS, ROWS
        )
        next, kept = step_forward(CELL, widen(x, G), r, prev, p, widen(e, E), P, E)
        current = select(valid, next, current, S)
        if not ALONE:  # before the stores: others wait for it
            publish(exchange, j + 2, units, units < H, current[F], DTYPE)
        store_tiles(out + lines * (D * H), valid, units, H, next, H, 1)
        if SAVE:
            store_tiles(saved + lines * (KEPT * H), valid, units, H, kept + next[1:], H, KEPT)
        j += 1
    store_tiles(carry + owned, tile[1] > 0, units, stride, current, H, S)


@part
def _dot_own(
    weights,
    dr,
    units,
    H: tl.constexpr,
    G: tl.constexpr,
    ROWS: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """The sum of dr_g W_g over the gates, turned [UNITS, ROWS], of a program that is alone."""
    nothing = tl.full((weights[0].shape[1], ROWS), 0.0, tl.float32)
    sums = nothing
    for g in tl.static_range(G):  # each from zero: no dot waits for another
        operand = tl.trans(only_units(dr[g], units, H).to(weights[g].dtype))
        sums += dot(_only_share(weights[g]), operand, nothing, PRECISION, UPCAST)
    return sums


@part
def _dot_received(
    exchange, number, k, weights, H: tl.constexpr, FIRST: tl.constexpr, COUNT: tl.constexpr,
    ROWS: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """What `_dot_all` does, for COUNT gates from FIRST on."""
    nothing = tl.full(weights[0].shape[:-1] + (ROWS,), 0.0, tl.float32)
    operands = receive(exchange, number, k, H, FIRST, COUNT, weights[0].dtype)
    sums = nothing
    for i in tl.static_range(COUNT):
        sums += dot(weights[FIRST + i], operands[i], nothing, PRECISION, UPCAST)
    return sums


@part
def _dot_all(
    exchange, number, k, weights, H: tl.constexpr, G: tl.constexpr, TOGETHER: tl.constexpr,
    ROWS: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """The sum of dr_g W_g over the gates, turned, for each share: [SHARES, UNITS, ROWS]."""
    sums = tl.full(weights[0].shape[:-1] + (ROWS,), 0.0, tl.float32)
    for g in tl.static_range(0, G, TOGETHER):
        sums += _dot_received(
            exchange, number, k, weights, H, g, TOGETHER if g + TOGETHER < G else G - g,
            ROWS, PRECISION, UPCAST,
        )  # fmt: skip
    return sums


@part
def backward_resident(
    tile, owned, stride, grad_out, w_hh, resets, state, words, carry, parameters, extra, out, saved,
    dx, dr, d_parameters, d_extra, CELL: tl.constexpr, H: tl.constexpr, G: tl.constexpr,
    R: tl.constexpr, S: tl.constexpr, K: tl.constexpr, P: tl.constexpr, E: tl.constexpr,
    F: tl.constexpr, D: tl.constexpr, SPLIT: tl.constexpr, RAGGED: tl.constexpr,
    RESETS: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr, ROWS: tl.constexpr,
    UNITS: tl.constexpr, INNER: tl.constexpr, SHARES: tl.constexpr, TOGETHER: tl.constexpr,
):  # fmt: skip
    ALONE: tl.constexpr = SHARES == 1
    DTYPE: tl.constexpr = w_hh.dtype.element_ty
    steps = tile[2]
    units = tl.program_id(2) * UNITS + tl.arange(0, UNITS)
    k = tl.arange(0, SHARES)[:, None] * INNER + tl.arange(0, INNER)[None, :]
    weights = _load_columns(w_hh, units, k, H, R)
    grad = load_tiles(carry + owned, tile[1] > 0, units, stride, H, S)
    p = load_vectors(parameters, units, ROWS, H, P, True) if P else ()
    if P:
        d_p = load_vectors(parameters, units, ROWS, H, P, False)
    exchange = words, stride * R, owned * R, tile[1] > 0
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
        d_x, d_r, d_prev, d_p_now, d_e = step_backward(
            CELL, widen(kept, K), widen(prev, S), widen(next, S), arriving, p, widen(e, E), P, E
        )
        if P:
            d_p = add(d_p, zero_unless(valid, d_p_now, P), P)
        if E:
            store_tiles(d_extra + lines * (E * H), valid, units, H, d_e, H, E)
        number = steps - j
        if not ALONE:
            for g in tl.static_range(R):
                publish(exchange, number, g * H + units, units < H, d_r[g], DTYPE)
        store_tiles(dx + lines * (D * G * H), valid, units, H, d_x, H, G)
        if SPLIT:
            store_tiles(dr + lines * (D * R * H), valid, units, H, d_r, H, R)
        if ALONE:
            sums = _dot_own(weights, d_r, units, H, R, ROWS, PRECISION, UPCAST)
        else:
            sums = _dot_all(exchange, number, k, weights, H, R, TOGETHER, ROWS, PRECISION, UPCAST)
        d_h = turn_onto(d_prev[F:], sums, SHARES, 1, 1, UNITS, ROWS)
        d_prev = d_prev[:F] + d_h + d_prev[F + 1 :]
        grad = select(valid, zero_unless(entering, d_prev, S), grad, S)
        j -= 1
    store_tiles(carry + owned, tile[1] > 0, units, stride, grad, H, S)
    if P:
        store_sums(d_parameters, units, sum_rows(tile[1] > 0, d_p, P), H, P)

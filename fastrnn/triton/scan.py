"""The kernel pair of every cell: a program owns a tile of batch rows and walks all their steps.

Grid: (batch tiles, directions). Cell maths and states are float32; the operands of the dots have
the dtype of the tensors. Two ways to hold the recurrent matrix R, chosen by RESIDENT:

- resident: R lies in registers or shared memory for all steps, the states travel in registers, and
  what a step reads is loaded one step ahead.
- streamed: R comes from L2 in tiles [INNER, UNITS]. A program reads h (forward) or dL/dr (backward)
  where it wrote them, in the tensors that it returns, and keeps its float32 states in `carry`; a
  barrier of the program stands between such a write and its reads.

j is a step in scan order, t in time. A line is one row of the packed form [N, ..] (dense: N = T*B).
KEPT = K + S - 1 values are saved for each unit: those of the cell, then the states besides h.
`carry` [S, D, B, H] float32 is both the way in and out: initial to final state, or their gradients.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .tiles import (
    dot_back,
    dot_gates,
    entering_rows,
    load_bias,
    load_tiles,
    load_weights,
    locate,
    select,
    store_tiles,
    widen,
    zero_unless,
)


@triton.jit
def _tile(T, B, lengths, ROWS: tl.constexpr, RAGGED: tl.constexpr):
    """(batch rows of this program, their lengths, its number of steps).

    Lengths fall along the batch, so the first row of the tile is its longest.
    """
    start = tl.program_id(0) * ROWS
    batch = start.to(tl.int64) + tl.arange(0, ROWS)
    if RAGGED:
        length = tl.load(lengths + batch, mask=batch < B, other=0)
        steps = tl.load(lengths + start)
    else:
        length = tl.where(batch < B, T, 0).to(tl.int64)
        steps = T
    return batch, length, steps


@triton.jit
def forward_kernel(
    gx,  # [N, D*G*H]
    w_hh,  # [D, G*H, H]
    b_hh,  # [D, G*H]
    resets,  # [N] uint8
    state,  # [S, D, B, H]
    carry,  # [S, D, B, H] float32: initial states in, final states out
    out,  # [N, D*H]
    saved,  # [D, N, KEPT, H]
    offsets,  # [T] int64: first line of each step
    lengths,  # [B] int64: steps of each batch row
    T,
    B,
    N,
    CELL: tl.constexpr,
    H: tl.constexpr,
    G: tl.constexpr,
    S: tl.constexpr,
    K: tl.constexpr,
    D: tl.constexpr,
    REVERSE: tl.constexpr,
    BIAS: tl.constexpr,
    RAGGED: tl.constexpr,
    RESETS: tl.constexpr,
    SAVE: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    INNER: tl.constexpr,
    RESIDENT: tl.constexpr,
):
    # Long because both ways to hold R stand side by side, as one list of arguments serves them.
    KEPT: tl.constexpr = K + S - 1
    d = tl.program_id(1).to(tl.int64)
    batch, length, steps = _tile(T, B, lengths, ROWS, RAGGED)
    reverse = (d == 1) | REVERSE
    gx += d * (G * H)
    w_hh += d * (G * H * H)
    b_hh += d * (G * H)
    out += d * H
    saved += d * N * (KEPT * H)
    owned = (d * B + batch) * H
    stride = D * B.to(tl.int64) * H
    inner = tl.arange(0, INNER)
    units = tl.arange(0, UNITS)

    if RESIDENT:
        weights = load_weights(w_hh, inner, units, H, G, False)
        bias = load_bias(b_hh, units, ROWS, H, G, BIAS)
        current = load_tiles(carry + owned, length > 0, units, stride, H, S)
        lines, valid = locate(0, steps, reverse, batch, length, offsets, B, RAGGED)
        entering = entering_rows(resets, lines, valid, RESETS)
        ahead = load_tiles(gx + lines * (D * G * H), valid, units, H, H, G)
        for j in range(steps):
            x = widen(ahead, G)
            prev = zero_unless(entering, current, S)
            at, now = lines, valid
            lines, valid = locate(j + 1, steps, reverse, batch, length, offsets, B, RAGGED)
            entering = entering_rows(resets, lines, valid, RESETS)
            ahead = load_tiles(gx + lines * (D * G * H), valid, units, H, H, G)
            r = dot_gates(prev[0].to(w_hh.dtype.element_ty), weights, bias, G, PRECISION, UPCAST)
            next, kept = CELL(x, r, prev)
            store_tiles(out + at * (D * H), now, units, H, next, H, 1)
            if SAVE:
                store_tiles(saved + at * (KEPT * H), now, units, H, kept + next[1:], H, KEPT)
            current = select(now, next, current, S)
        store_tiles(carry + owned, length > 0, units, stride, current, H, S)
    else:
        for j in range(steps):
            before, started = locate(j - 1, steps, reverse, batch, length, offsets, B, RAGGED)
            at, now = locate(j, steps, reverse, batch, length, offsets, B, RAGGED)
            entering = entering_rows(resets, at, now, RESETS)
            h_lines = tl.where(started, out + before * (D * H), state + owned)
            for first in range(0, H, UNITS):
                x = load_tiles(gx + at * (D * G * H), now, first + units, H, H, G)
                r = load_bias(b_hh, first + units, ROWS, H, G, BIAS)
                for k in range(0, H, INNER):
                    h = load_tiles(h_lines, entering, k + inner, H, H, 1)
                    weights = load_weights(w_hh, k + inner, first + units, H, G, False)
                    r = dot_gates(h[0], weights, r, G, PRECISION, UPCAST)
                prev = load_tiles(carry + owned, entering, first + units, stride, H, S)
                next, kept = CELL(widen(x, G), r, prev)
                store_tiles(out + at * (D * H), now, first + units, H, next, H, 1)
                if SAVE:
                    store_tiles(
                        saved + at * (KEPT * H), now, first + units, H, kept + next[1:], H, KEPT
                    )
                store_tiles(carry + owned, now, first + units, stride, next, H, S)
            tl.debug_barrier()


@triton.jit
def _load_step(
    grad_out,
    out,
    saved,
    state,
    owned,
    stride,
    at,
    now,
    before,
    started,
    entering,
    units,
    H: tl.constexpr,
    S: tl.constexpr,
    K: tl.constexpr,
    D: tl.constexpr,
):
    """What a step of backward reads: (grad_out tile, K saved, S next states, S states before)."""
    KEPT: tl.constexpr = K + S - 1
    grad = load_tiles(grad_out + at * (D * H), now, units, H, H, 1)
    kept = load_tiles(saved + at * (KEPT * H), now, units, H, H, K)
    next = load_tiles(out + at * (D * H), now, units, H, H, 1)
    next = next + load_tiles(saved + at * (KEPT * H) + K * H, now, units, H, H, S - 1)
    lines = tl.where(started, out + before * (D * H), state + owned)
    prev = load_tiles(lines, entering, units, H, H, 1)
    for s in tl.static_range(1, S):
        lines = tl.where(
            started, saved + before * (KEPT * H) + (K + s - 1) * H, state + owned + s * stride
        )
        prev = prev + load_tiles(lines, entering, units, H, H, 1)
    return grad[0], kept, next, prev


@triton.jit
def backward_kernel(
    grad_out,  # [N, D*H]
    w_hh,  # [D, G*H, H]
    resets,  # [N] uint8
    state,  # [S, D, B, H]
    carry,  # [S, D, B, H] float32: gradient of the final states in, of the initial states out
    out,  # [N, D*H]
    saved,  # [D, N, KEPT, H]
    dx,  # [N, D*G*H]: gradient of gx
    dr,  # [N, D*G*H]: gradient of r; dx itself where the cell does not tell them apart
    offsets,
    lengths,
    T,
    B,
    N,
    CELL: tl.constexpr,
    H: tl.constexpr,
    G: tl.constexpr,
    S: tl.constexpr,
    K: tl.constexpr,
    D: tl.constexpr,
    REVERSE: tl.constexpr,
    SPLIT: tl.constexpr,
    RAGGED: tl.constexpr,
    RESETS: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    INNER: tl.constexpr,
    RESIDENT: tl.constexpr,
):
    # Long for the same reason as forward_kernel.
    KEPT: tl.constexpr = K + S - 1
    d = tl.program_id(1).to(tl.int64)
    batch, length, steps = _tile(T, B, lengths, ROWS, RAGGED)
    reverse = (d == 1) | REVERSE
    grad_out += d * H
    w_hh += d * (G * H * H)
    out += d * H
    saved += d * N * (KEPT * H)
    dx += d * (G * H)
    dr += d * (G * H)
    owned = (d * B + batch) * H
    stride = D * B.to(tl.int64) * H
    inner = tl.arange(0, INNER)
    units = tl.arange(0, UNITS)

    if RESIDENT:
        weights = load_weights(w_hh, inner, units, H, G, True)
        grad = load_tiles(carry + owned, length > 0, units, stride, H, S)
        lines, valid = locate(steps - 1, steps, reverse, batch, length, offsets, B, RAGGED)
        before, started = locate(steps - 2, steps, reverse, batch, length, offsets, B, RAGGED)
        entering = entering_rows(resets, lines, valid, RESETS)
        ahead = _load_step(
            grad_out,
            out,
            saved,
            state,
            owned,
            stride,
            lines,
            valid,
            before,
            started,
            entering,
            units,
            H,
            S,
            K,
            D,
        )
        for i in range(steps):
            grad_out_now, kept, next, prev = ahead
            at, now, enters = lines, valid, entering
            lines, valid = before, started
            before, started = locate(
                steps - 3 - i, steps, reverse, batch, length, offsets, B, RAGGED
            )
            entering = entering_rows(resets, lines, valid, RESETS)
            ahead = _load_step(
                grad_out,
                out,
                saved,
                state,
                owned,
                stride,
                lines,
                valid,
                before,
                started,
                entering,
                units,
                H,
                S,
                K,
                D,
            )
            arriving = (grad[0] + grad_out_now.to(tl.float32),) + grad[1:]
            d_x, d_r, d_prev = CELL(widen(kept, K), widen(prev, S), widen(next, S), arriving)
            d_r = zero_unless(now, d_r, G)
            store_tiles(dx + at * (D * G * H), now, units, H, d_x, H, G)
            if SPLIT:
                store_tiles(dr + at * (D * G * H), now, units, H, d_r, H, G)
            d_h = dot_back(d_r, weights, d_prev[0], G, PRECISION, UPCAST)
            d_prev = zero_unless(enters, (d_h,) + d_prev[1:], S)
            grad = select(now, d_prev, grad, S)
        store_tiles(carry + owned, length > 0, units, stride, grad, H, S)
    else:
        for i in range(steps):
            j = steps - 1 - i
            before, started = locate(j - 1, steps, reverse, batch, length, offsets, B, RAGGED)
            at, now = locate(j, steps, reverse, batch, length, offsets, B, RAGGED)
            entering = entering_rows(resets, at, now, RESETS)
            for first in range(0, H, UNITS):
                grad = load_tiles(carry + owned, now, first + units, stride, H, S)
                grad_out_now, kept, next, prev = _load_step(
                    grad_out,
                    out,
                    saved,
                    state,
                    owned,
                    stride,
                    at,
                    now,
                    before,
                    started,
                    entering,
                    first + units,
                    H,
                    S,
                    K,
                    D,
                )
                arriving = (grad[0] + grad_out_now.to(tl.float32),) + grad[1:]
                d_x, d_r, d_prev = CELL(widen(kept, K), widen(prev, S), widen(next, S), arriving)
                store_tiles(dx + at * (D * G * H), now, first + units, H, d_x, H, G)
                if SPLIT:
                    store_tiles(dr + at * (D * G * H), now, first + units, H, d_r, H, G)
                d_prev = zero_unless(entering, d_prev, S)
                store_tiles(carry + owned, now, first + units, stride, d_prev, H, S)
            tl.debug_barrier()
            for first in range(0, H, UNITS):
                d_h = load_tiles(carry + owned, entering, first + units, stride, H, 1)[0]
                for k in range(0, H, INNER):
                    d_r = load_tiles(dr + at * (D * G * H), entering, k + inner, H, H, G)
                    weights = load_weights(w_hh, k + inner, first + units, H, G, True)
                    d_h = dot_back(d_r, weights, d_h, G, PRECISION, UPCAST)
                store_tiles(carry + owned, entering, first + units, stride, (d_h,), H, 1)
            tl.debug_barrier()

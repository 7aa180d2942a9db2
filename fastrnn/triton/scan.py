"""The kernel pair of every cell: a program owns a tile of batch rows and walks all their steps.

Grid: (batch tiles, directions, programs that share a tile). Cell maths and states are float32; the
operands of the dots have the dtype of the tensors. HOLD says where the recurrent matrix R is:
"resident" on chip, in one program or shared by several (resident.py), or "streamed" from L2
(streamed.py); where the cell has no R, "nowhere" (unitwise.py).

Names: j is a step in scan order, t in time. A line is one row of the packed form [N, ..] (dense:
N = T*B). For each unit KEPT = K + S - 1 values are saved: those of the cell, then the states
besides h. `carry` [S, D, B, H] float32 is the way in and out: initial to final states, or their
gradients.
Directions from BACK on go from the last step to the first. Of a layer in heads each head has its
own, of its units (gpu/heads.py). Of a cell with P parameters each program sums the gradients over
its steps and rows. W_hh multiplies state F and gives R tiles; E tiles of a step and unit come ready
from the caller.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .resident import backward_resident, forward_resident
from .streamed import backward_streamed, forward_streamed
from .tiles import batch_tile
from .unitwise import backward_unitwise, forward_unitwise


@triton.jit(do_not_specialize=["T", "B", "N"])
def forward_kernel(
    gx,  # [N, D*G*H]
    w_hh,  # [D, R*H, H]; any tensor where HOLD is "nowhere"
    b_hh,  # [D, R*H]
    resets,  # [N] uint8
    state,  # [S, D, B, H]
    words,  # [2, D, B, H] zeros, where programs share R (exchange.py)
    carry,  # [S, D, B, H] float32: initial states in, final states out
    out,  # [N, D*H]
    saved,  # [D, N, KEPT, H]
    offsets,  # [T] int64: first line of each step
    lengths,  # [B] int64: steps of each batch row, falling
    T, B, N,
    parameters,  # [D, P, H]; None where P = 0
    extra,  # [D, N, E*H]; None where E = 0
    CELL: tl.constexpr, H: tl.constexpr, G: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    K: tl.constexpr, P: tl.constexpr, E: tl.constexpr, F: tl.constexpr, D: tl.constexpr,
    BACK: tl.constexpr, BIAS: tl.constexpr,
    RAGGED: tl.constexpr, RESETS: tl.constexpr, SAVE: tl.constexpr, PRECISION: tl.constexpr,
    UPCAST: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr, INNER: tl.constexpr,
    SHARES: tl.constexpr, TOGETHER: tl.constexpr, HOLD: tl.constexpr,
):  # fmt: skip
    d = tl.program_id(1).to(tl.int64)
    tile = batch_tile(T, B, offsets, lengths, d >= BACK, ROWS, RAGGED)
    owned = (d * B + tile[0]) * H
    stride = tl.full((), D * H, tl.int64) * B
    gx += d * (G * H)
    w_hh += d * (R * H * H)
    b_hh += d * (R * H)
    out += d * H
    saved += d * N * ((K + S - 1) * H)
    if P:
        parameters += d * (P * H)
    if E:
        extra += d * N * (E * H)
    if HOLD == "streamed":
        forward_streamed(
            tile, owned, stride, gx, w_hh, b_hh, resets, state, carry, parameters, extra, out,
            saved, CELL, H, G, R, S, K, P, E, F, D, BIAS, RAGGED, RESETS, SAVE, PRECISION, UPCAST,
            ROWS, UNITS, INNER,
        )  # fmt: skip
    elif HOLD == "nowhere":
        forward_unitwise(
            tile, owned, stride, gx, resets, carry, parameters, extra, out, saved, CELL, H, G, S, K,
            P, E, D, RAGGED, RESETS, SAVE, ROWS, UNITS,
        )  # fmt: skip
    else:
        forward_resident(
            tile, owned, stride, gx, w_hh, b_hh, resets, words, carry, parameters, extra, out,
            saved, CELL, H, G, R, S, K, P, E, F, D, BIAS, RAGGED, RESETS, SAVE, PRECISION, UPCAST,
            ROWS, UNITS, INNER,
            SHARES,
        )  # fmt: skip


@triton.jit(do_not_specialize=["T", "B", "N"])
def backward_kernel(
    grad_out,  # [N, D*H]
    w_hh,  # [D, R*H, H]
    resets,  # [N] uint8
    state,  # [S, D, B, H]
    words,  # [2, D, B, R*H] zeros, where programs share R
    carry,  # [S, D, B, H] float32: gradients of the final states in, of the initial ones out
    out,  # [N, D*H]
    saved,  # [D, N, KEPT, H]
    dx,  # [N, D*G*H]: gradient of gx
    dr,  # [N, D*R*H]: gradient of r; dx itself where the cell does not tell them apart
    offsets,  # [T] int64
    lengths,  # [B] int64
    T, B, N,
    parameters,  # [D, P, H]; None where P = 0
    d_parameters,  # [D, batch tiles, P, H] float32: zeros in, gradients of parameters out; or None
    extra,  # [D, N, E*H]; None where E = 0
    d_extra,  # [D, N, E*H]: its gradient; or None
    CELL: tl.constexpr, H: tl.constexpr, G: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    K: tl.constexpr, P: tl.constexpr, E: tl.constexpr, F: tl.constexpr, D: tl.constexpr,
    BACK: tl.constexpr, SPLIT: tl.constexpr,
    RAGGED: tl.constexpr, RESETS: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, INNER: tl.constexpr, SHARES: tl.constexpr,
    TOGETHER: tl.constexpr, HOLD: tl.constexpr,
):  # fmt: skip
    d = tl.program_id(1).to(tl.int64)
    tile = batch_tile(T, B, offsets, lengths, d >= BACK, ROWS, RAGGED)
    owned = (d * B + tile[0]) * H
    stride = tl.full((), D * H, tl.int64) * B
    grad_out += d * H
    w_hh += d * (R * H * H)
    out += d * H
    saved += d * N * ((K + S - 1) * H)
    dx += d * (G * H)
    dr += d * (R * H)
    if P:
        parameters += d * (P * H)
        d_parameters += (d * tl.num_programs(0) + tl.program_id(0)) * (P * H)
    if E:
        extra += d * N * (E * H)
        d_extra += d * N * (E * H)
    if HOLD == "streamed":
        backward_streamed(
            tile, owned, stride, grad_out, w_hh, resets, state, carry, parameters, extra, out,
            saved, dx, dr, d_parameters, d_extra, CELL, H, G, R, S, K, P, E, F, D, SPLIT, RAGGED,
            RESETS, PRECISION, UPCAST,
            ROWS, UNITS, INNER,
        )  # fmt: skip
    elif HOLD == "nowhere":
        backward_unitwise(
            tile, owned, stride, grad_out, resets, state, carry, parameters, extra, out, saved, dx,
            d_parameters, d_extra, CELL, H, G, S, K, P, E, D, RAGGED, RESETS, ROWS, UNITS,
        )  # fmt: skip
    else:
        backward_resident(
            tile, owned, stride, grad_out, w_hh, resets, state, words, carry, parameters, extra,
            out, saved, dx, dr, d_parameters, d_extra, CELL, H, G, R, S, K, P, E, F, D, SPLIT,
            RAGGED, RESETS, PRECISION,
            UPCAST, ROWS, UNITS, INNER, SHARES, TOGETHER,
        )  # fmt: skip

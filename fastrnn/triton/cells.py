"""The cells as Triton functions: what a tile of units does at one step, and the same backwards.

The counterpart of the C++ policies in `csrc/cells/`, held to the steps in
`fastrnn/cells/builtin.py` by tests. A cell knows neither memory nor indices: tuples of float32
tiles [rows, units] come in and go out.

    forward(x, r, state[, p][, e]) -> next, saved
        x, r: G and R gates; state, next: S states before and after the step; saved: K values; p, e:
        the P parameters and the E extra slots of a cell that has any; of one that looks across
        units, which has all units of a row in its tiles, p has also a tile that is 1 for units that
        there are, else 0
    backward(saved, prev, next, grad[, p][, e]) -> dx, dr, dprev[, dp][, de]
        prev, next: the S states before and after the step; grad: dL/dnext
        dx, dr: dL/dx and dL/dr of the gates; dprev: the part of dL/dprev that does not pass
        through r (the scan adds dr W_hh to that of the state that W_hh multiplies, mostly the
        first); dp: dL/dp of this row and step alone; de: dL/de

Of a cell with late slots (fastrnn.cells) r has them last in forward, and grad has dL/dasked last
in backward. Two more functions come first:

    ask(x, r, state[, p][, e]) -> (asked,), without late slots
    late(saved, prev, next, grad[, p][, e]) -> their gradients

x = W_ih x_t + b_ih, r = W_hh h + b_hh; gate order and formulas are those of torch.nn. The pairs of
cells that `fastrnn.cell` has made are written by `fastrnn.cells.triton_source` (derived.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import triton
import triton.language as tl
from triton.language.extra import libdevice

from ..cells import on_add

INTERPRET: bool = triton.knobs.runtime.interpret


@triton.jit
def over_units(a, inside):
    """The sums [rows, 1] over the units of each row, of those that there are."""
    return tl.sum(tl.where(inside > 0.0, a, 0.0), 1)[:, None]


@triton.jit
def _tanh_by_exp(x):
    # Where libdevice cannot run (the interpreter): no overflow, absolute error of one rounding.
    e = tl.exp(-2.0 * tl.abs(x))
    t = (1.0 - e) / (1.0 + e)
    return tl.where(x < 0, -t, t)


@triton.jit
def _expm1_by_exp(x):
    # Near 0 the error of u = exp(x) is that of another x, log(u), and x / log(u) mends it (Kahan).
    u = tl.exp(x)
    mended = (u - 1.0) * (x / tl.log(tl.where(u == 1.0, 2.0, u)))
    return tl.where(tl.abs(x) < 0.5, tl.where(u == 1.0, x, mended), u - 1.0)


@triton.jit
def _log1p_by_log(x):
    # In the same way: u = 1 + x is the rounded one of another x, u - 1.
    u = 1.0 + x
    mended = tl.log(u) * (x / tl.where(u == 1.0, 1.0, u - 1.0))
    return tl.where(tl.abs(x) < 0.5, tl.where(u == 1.0, x, mended), tl.log(u))


tanh = _tanh_by_exp if INTERPRET else libdevice.tanh
expm1 = _expm1_by_exp if INTERPRET else libdevice.expm1
log1p = _log1p_by_log if INTERPRET else libdevice.log1p


@triton.jit
def _sine(x, ahead: tl.constexpr):
    # sin(x + ahead * pi/2). Quarter turns are taken off in three parts (Cody and Waite), the first
    # two short enough for exact products up to |x| of 1e4; then Taylor's series. The library's sin,
    # for any x, keeps a table on the stack, which is a trip to memory at each step.
    turns = tl.floor(x * 0.6366197723675814 + 0.5)
    a = ((x - turns * 1.5703125) - turns * 4.837512969970703e-4) - turns * 7.549789954891882e-8
    s = a * a
    odd = a + a * s * (-1.6666667e-1 + s * (8.3333333e-3 + s * (-1.9841270e-4 + s * 2.7557319e-6)))
    even = 1.0 + s * (
        -0.5 + s * (4.1666667e-2 + s * (-1.3888889e-3 + s * (2.4801587e-5 - s * 2.7557319e-7)))
    )
    turns += ahead
    place = turns - 4.0 * tl.floor(turns * 0.25)
    y = tl.where((place == 1.0) | (place == 3.0), even, odd)
    return tl.where(place >= 2.0, -y, y)


@triton.jit
def sin(x):
    return _sine(x, 0)


@triton.jit
def cos(x):
    return _sine(x, 1)


@triton.jit
def maximum(a, b):
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)  # as torch's does


@triton.jit
def minimum(a, b):
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def tanh_forward(x, r, state):
    return (tanh(x[0] + r[0]),), ()


@triton.jit
def tanh_backward(saved, prev, next, grad):
    dx = (grad[0] * (1.0 - next[0] * next[0]),)
    return dx, dx, (tl.zeros_like(grad[0]),)


@triton.jit
def relu_forward(x, r, state):
    a = x[0] + r[0]
    # where, not maximum: a NaN must pass, as it does in torch.
    return (tl.where(a <= 0, 0.0, a),), ()


@triton.jit
def relu_backward(saved, prev, next, grad):
    dx = (tl.where(next[0] <= 0, 0.0, grad[0]),)  # NaN lets it pass, as torch.relu's does
    return dx, dx, (tl.zeros_like(grad[0]),)


@triton.jit
def identity_forward(x, r, state):
    return (x[0] + r[0],), ()


@triton.jit
def identity_backward(saved, prev, next, grad):
    dx = (grad[0],)
    return dx, dx, (tl.zeros_like(grad[0]),)


@triton.jit
def lstm_forward(x, r, state):
    i, f = tl.sigmoid(x[0] + r[0]), tl.sigmoid(x[1] + r[1])
    g, o = tanh(x[2] + r[2]), tl.sigmoid(x[3] + r[3])
    c = f * state[1] + i * g
    return (o * tanh(c), c), (i, f, g, o)


@triton.jit
def lstm_backward(saved, prev, next, grad):
    i, f, g, o = saved[0], saved[1], saved[2], saved[3]
    tanh_c = tanh(next[1])
    dc = grad[1] + grad[0] * o * (1.0 - tanh_c * tanh_c)
    dx = (
        dc * g * i * (1.0 - i),
        dc * prev[1] * f * (1.0 - f),
        dc * i * (1.0 - g * g),
        grad[0] * tanh_c * o * (1.0 - o),
    )
    return dx, dx, (tl.zeros_like(grad[0]), dc * f)


@triton.jit
def gru_forward(x, r, state):
    reset, z = tl.sigmoid(x[0] + r[0]), tl.sigmoid(x[1] + r[1])
    n = tanh(x[2] + reset * r[2])
    return (n + z * (state[0] - n),), (reset, z, n, r[2])


@triton.jit
def gru_backward(saved, prev, next, grad):
    reset, z, n, r_n = saved[0], saved[1], saved[2], saved[3]
    dn = grad[0] * (1.0 - z) * (1.0 - n * n)
    dz = grad[0] * (prev[0] - n) * z * (1.0 - z)
    dreset = dn * r_n * reset * (1.0 - reset)
    return (dreset, dz, dn), (dreset, dz, dn * reset), (grad[0] * z,)


@dataclass(frozen=True)
class TritonCell:
    """The two functions of one cell, and whether its backward's dr differs from its dx; of a cell
    with late slots also those that come before each of them."""

    forward: Callable
    backward: Callable
    split: bool = False
    ask: Callable | None = None
    late: Callable | None = None


TRITON_CELLS: dict[str, TritonCell] = {
    "rnn_tanh": TritonCell(tanh_forward, tanh_backward),
    "rnn_relu": TritonCell(relu_forward, relu_backward),
    "rnn_identity": TritonCell(identity_forward, identity_backward),
    "lstm": TritonCell(lstm_forward, lstm_backward),
    "gru": TritonCell(gru_forward, gru_backward, split=True),
}


def register(name: str, cell: TritonCell) -> None:
    """Gives the cell `name` of `fastrnn.cells` its Triton functions. ValueError if it has some."""
    if name in TRITON_CELLS:
        raise ValueError(f"cell must be without Triton functions, got {name!r}, which has a pair")
    TRITON_CELLS[name] = cell
    for forget in on_add:
        forget()

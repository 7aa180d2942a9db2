"""Cells as a user declares them, for the tests of what Triton makes of them."""

import torch
from torch.nn import functional as F

import fastrnn
from fastrnn import cells


@fastrnn.cell(gates=2)
def light_gru(x, r, state):
    z, n = torch.sigmoid(x[0] + r[0]), torch.relu(x[1] + r[1])
    return (n + z * (state[0] - n),)


@fastrnn.cell(gates=2, states=2)
def janet(x, r, state):
    f, g = torch.sigmoid(x[0] + r[0]), torch.tanh(x[1] + r[1])
    c = f * state[1] + (1 - f) * g
    return c, c


@fastrnn.cell(gates=4, states=2, params=3)
def peephole_lstm(x, r, state, p):
    h, c = state
    i = torch.sigmoid(x[0] + r[0] + p[0] * c)
    f = torch.sigmoid(x[1] + r[1] + p[1] * c)
    c = f * c + i * torch.tanh(x[2] + r[2])
    o = torch.sigmoid(x[3] + r[3] + p[2] * c)
    return o * torch.tanh(c), c


@fastrnn.cell(gates=4, states=4)
def slstm(x, r, state):
    h, c, n, m = state
    keep, enter = F.logsigmoid(x[1] + r[1]) + m, x[0] + r[0]
    m = torch.maximum(keep, enter)
    keep, enter = torch.exp(keep - m), torch.exp(enter - m)
    c, n = keep * c + enter * torch.tanh(x[2] + r[2]), keep * n + enter
    return torch.sigmoid(x[3] + r[3]) * c / n.clamp(min=0.25), c, n, m


@fastrnn.cell(gates=3, states=8, params=1)
def delays(x, r, state, p):
    """The most states, a gate that nothing reads, a state and gradients that are constant."""
    h = torch.tanh(x[0] + r[2] + p[0] * state[6])
    return (h, *state[:6], torch.full_like(h, 0.5))


@fastrnn.cell(gates=4, states=2, params=2)
def every_function(x, r, state, p):
    a, b, c, d = (x[g] + r[g] for g in range(4))
    decayed = torch.exp(-torch.abs(a))
    low = torch.minimum(torch.expm1(-decayed * p[1]), b)
    high = torch.maximum(torch.log1p(decayed) * torch.cos(b), p[0])
    length = torch.sqrt(1.5 + d * d) - torch.log(2.5 + torch.sin(c * d))
    odd = ((a > 0.1) & ~(b <= -0.2)) | (c >= 1.0) & (d != p[0])
    fresh = ((state[1] == 0.0) | (a < d - 0.5)) & (c < 0.3)
    h = torch.where(odd, torch.tanh(high + length), torch.erf(low) / length)
    return h * torch.sigmoid(c), torch.where(fresh, 0.3 * low - high, state[1] * 0.75 + h)


NEW = (light_gru, janet, peephole_lstm, slstm, delays, every_function)
TITLES = tuple(cell.title for cell in NEW)
# The package's own cells, derived from their steps.
DERIVED = {
    name: fastrnn.cell(gates=cell.gates, states=cell.states, name=name)(cell.step)
    for name, cell in tuple(cells.CELLS.items())
    if cell.derived is None
}


def named(title: str) -> str:
    """The full name of the cell of that title, or of a cell that fastrnn brings."""
    return next((cell.name for cell in NEW if cell.title == title), title)

"""The cells whose Triton kernels are tested: new ones, and fastrnn's own, derived."""

import torch
from across_cells import ACROSS
from late_cells import LATE
from new_cells import ind_rnn, janet, light_gru, min_gru, peephole_lstm, slstm
from slot_cells import many_back, more_back, more_in

import fastrnn
from fastrnn import cells


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


YES, NO = torch.tensor(True), torch.tensor(False)


@fastrnn.cell(gates=2)
def chosen(x, r, state):
    """Constant masks: what is not chosen is not read. Comparisons of what is equal."""
    fresh = torch.where(YES, torch.tanh(x[0]), state[0])
    a, b = x[1], x[1] * 1.0
    for bit, mask in enumerate((a < b, a <= b, a > b, a >= b, a == b, a != b)):
        fresh = fresh + torch.where(mask, 0.01 * 2**bit, 0.0)
    return (torch.where(NO, r[1], fresh * r[0] + a),)


NEW = (light_gru, janet, peephole_lstm, slstm, delays, chosen, every_function, ind_rnn, min_gru)
TITLES = tuple(cell.title for cell in NEW)
SLOTS = (more_in, more_back, many_back)  # with slots of their own: tests/test_triton_slots.py
# The package's own cells, derived from their steps.
DERIVED = {
    name: fastrnn.cell(gates=cell.gates, states=cell.states, name=name)(cell.step)
    for name, cell in tuple(cells.CELLS.items())
    if cell.derived is None
}


def named(title: str) -> str:
    """The full name of the cell of that title, or of a cell that fastrnn brings."""
    return next(
        (cell.name for cell in (*NEW, *ACROSS, *SLOTS, *LATE) if cell.title == title), title
    )

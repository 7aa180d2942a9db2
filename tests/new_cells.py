"""Cells that torch.nn has not, as a user declares them."""

import torch
from torch.nn import functional as F

import fastrnn


@fastrnn.cell(gates=2)
def light_gru(x, r, state):
    """Ravanelli et al., arXiv 1803.10225, without its batch normalisation."""
    z, n = torch.sigmoid(x[0] + r[0]), torch.relu(x[1] + r[1])
    return (n + z * (state[0] - n),)


@fastrnn.cell(gates=2)
def janet(x, r, state):
    """Van der Westhuizen and Lasenby, arXiv 1804.04849: a forget gate only."""
    f = torch.sigmoid(x[0] + r[0])
    return (f * state[0] + (1 - f) * torch.tanh(x[1] + r[1]),)


@fastrnn.cell(gates=4, states=2, params=3)
def peephole_lstm(x, r, state, p):
    """Gers and Schmidhuber 2000."""
    h, c = state
    i = torch.sigmoid(x[0] + r[0] + p[0] * c)
    f = torch.sigmoid(x[1] + r[1] + p[1] * c)
    c = f * c + i * torch.tanh(x[2] + r[2])
    o = torch.sigmoid(x[3] + r[3] + p[2] * c)
    return o * torch.tanh(c), c


@fastrnn.cell(gates=4, states=4)
def slstm(x, r, state):
    """Beck et al., arXiv 2405.04517: exponential gates, a normaliser and a stabiliser as states."""
    h, c, n, m = state
    keep, enter = F.logsigmoid(x[1] + r[1]) + m, x[0] + r[0]
    m = torch.maximum(keep, enter)
    keep, enter = torch.exp(keep - m), torch.exp(enter - m)
    c, n = keep * c + enter * torch.tanh(x[2] + r[2]), keep * n + enter
    return torch.sigmoid(x[3] + r[3]) * c / n.clamp(min=0.25), c, n, m

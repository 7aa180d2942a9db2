"""Cells that torch.nn has not: the zoo's, and one as a user declares it."""

import torch
from torch.nn import functional as F

import fastrnn
from fastrnn.zoo.ind_rnn import ind_rnn
from fastrnn.zoo.janet import janet
from fastrnn.zoo.light_gru import light_gru
from fastrnn.zoo.min_gru import min_gru
from fastrnn.zoo.peephole_lstm import peephole_lstm

__all__ = ["block_gru", "ind_rnn", "janet", "light_gru", "min_gru", "peephole_lstm", "slstm"]


@fastrnn.cell(gates=3, product="heads", params=1)
def block_gru(x, r, state, p):
    """A GRU whose units lie in heads, with a vector of its own."""
    reset, update = torch.sigmoid(x[0] + r[0]), torch.sigmoid(x[1] + r[1] + p[0])
    new = torch.tanh(x[2] + reset * r[2])
    return (new + update * (state[0] - new),)


@fastrnn.cell(gates=4, states=4)
def slstm(x, r, state):
    """Beck et al., arXiv 2405.04517: exponential gates, a normaliser and a stabiliser as states."""
    h, c, n, m = state
    keep, enter = F.logsigmoid(x[1] + r[1]) + m, x[0] + r[0]
    m = torch.maximum(keep, enter)
    keep, enter = torch.exp(keep - m), torch.exp(enter - m)
    c, n = keep * c + enter * torch.tanh(x[2] + r[2]), keep * n + enter
    return torch.sigmoid(x[3] + r[3]) * c / n.clamp(min=0.25), c, n, m

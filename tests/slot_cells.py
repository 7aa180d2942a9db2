"""Cells whose x and r differ in slots, with slots from the caller, one of which feeds its c."""

import torch

import fastrnn


@fastrnn.cell(inputs=3, recurrent=2, extra=1, params=1)
def more_in(x, r, state, p):
    z = torch.sigmoid(x[0] + r[0])
    n = torch.tanh(x[1] + r[1] * x[3])
    return (z * state[0] + (1 - z) * n * p[0] + x[2] * x[3],)


@fastrnn.cell(inputs=1, recurrent=2, extra=2, states=2, feeds=1)
def more_back(x, r, state):
    h, c = state
    c = torch.sigmoid(r[0] + x[1]) * c + torch.tanh(x[0] + r[1])
    return torch.tanh(c + x[1] * x[2]) + 0.3 * h, c


@fastrnn.cell(inputs=2, recurrent=5, states=2)
def many_back(x, r, state):
    h, c = state
    f, i, o = (torch.sigmoid(r[k]) for k in range(3))
    c = f * c + i * torch.tanh(x[0] + r[3])
    return o * torch.tanh(c) + torch.sigmoid(x[1] + r[4]) * h, c

"""Cells with late slots, as users declare them."""

import torch

import fastrnn
from fastrnn.zoo.reset_before_gru import reset_before_gru


@fastrnn.cell(inputs=2, recurrent=3, late=2, states=2, extra=1, params=1, feeds=1)
def everything(x, r, state, p, product):
    """Two late slots, x and r apart, an extra slot, a parameter; W_hh multiplies the second state,
    and then what is made of it, of the input and of all else."""
    h, c = state
    a = torch.tanh(x[0] + r[0] + p[0] * h)
    u, v = product(a * c + 0.5 * torch.sigmoid(x[1]) - x[2])
    z = torch.sigmoid(u + p[0] * a)
    c = c + z * (torch.tanh(v) * x[2] + x[1] - c)
    return torch.tanh(c) * a, c


@fastrnn.cell(gates=2, late=1)
def two_slots(x, r, state, product):
    """Panels of two registers, the last perhaps narrow; it asks for what it makes of x alone."""
    (n,) = product(torch.tanh(x[1]))
    z = torch.sigmoid(x[0] + r[0])
    return (z * state[0] + (1 - z) * torch.tanh(n),)


LATE = (reset_before_gru, everything, two_slots)

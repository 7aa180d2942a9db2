"""Cells that look across the units of a row, as users declare them."""

import torch
import torch.nn.functional as F

import fastrnn
from fastrnn.zoo.layer_norm_gru import layer_norm_gru
from fastrnn.zoo.layer_norm_lstm import layer_norm_lstm


@fastrnn.cell(gates=2, states=2, params=3)
def centred(x, r, state, p):
    """Means of a product, of a state and of what is made of them; a mean is a state itself."""
    a = F.layer_norm(x[0] + r[0], x[0].shape[-1:], p[0], p[1])
    size = (state[1] * state[1]).mean(-1, keepdim=True)
    z = torch.sigmoid(x[1] + r[1] - r[1].mean(-1)[..., None] + p[2] * size)
    h = state[0] + z * (torch.tanh(a) - state[0])
    return h, 0.5 * state[1] + h.mean(-1, keepdim=True)


@fastrnn.cell(inputs=2, product="none")
def shared_softmax(x, r, state):
    """No product and no parameters; units that are not there have an exponential too."""
    weight = torch.exp(x[0] - x[0] * x[0])
    return (0.5 * state[0] + weight / weight.sum(-1, keepdim=True) * x[1],)


ACROSS = (centred, shared_softmax, layer_norm_lstm, layer_norm_gru)

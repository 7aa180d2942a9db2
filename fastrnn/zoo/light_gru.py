"""A GRU for speech: no reset gate, and relu for tanh.

M. Ravanelli, P. Brakel, M. Omologo and Y. Bengio 2018, "Light gated recurrent units for speech
recognition", arXiv 1803.10225:

    z_t = sigmoid(W_z x_t + U_z h_{t-1} + b_z)
    n_t = relu(W_n x_t + U_n h_{t-1} + b_n)
    h_t = z_t * h_{t-1} + (1 - z_t) * n_t

The paper normalises W_z x_t and W_n x_t over the batch. That is not done here: it is about the
input alone, and has its place before the layer.
"""

from __future__ import annotations

import torch

from ..cells.declare import cell
from .layer import ZooLayer


@cell(gates=2)
def light_gru(x, r, state):
    """Gates z n."""
    z, n = torch.sigmoid(x[0] + r[0]), torch.relu(x[1] + r[1])
    return (n + z * (state[0] - n),)


class LightGRU(ZooLayer):
    """Light GRU (Ravanelli et al. 2018), without its batch normalisation: gates z n.

    Arguments, results and errors are those of `fastrnn.Recurrent`, without its cell.
    """

    definition = light_gru

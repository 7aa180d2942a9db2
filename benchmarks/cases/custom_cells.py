"""The cells of the `custom-cells` preset: three that no library has, as a user writes them.

Every contestant of that preset computes these steps, the loops by calling them. Their types are for
TorchScript, which takes what has none for a tensor; it needs types, not strings that name them.
"""

import torch
from torch import Tensor

import fastrnn

One = tuple[Tensor]
Two = tuple[Tensor, Tensor]
Three = tuple[Tensor, Tensor, Tensor]
Four = tuple[Tensor, Tensor, Tensor, Tensor]


@fastrnn.cell(gates=2)
def light_gru(x: Two, r: Two, state: One) -> One:
    """Ravanelli et al. 2018, without its batch norm: no reset gate, rectified candidate."""
    z, n = torch.sigmoid(x[0] + r[0]), torch.relu(x[1] + r[1])
    return (n + z * (state[0] - n),)


@fastrnn.cell(gates=2)
def janet(x: Two, r: Two, state: One) -> One:
    """van der Westhuizen and Lasenby 2018: a forget gate only; the input's is lower by one."""
    s = x[0] + r[0]
    n = torch.tanh(x[1] + r[1])
    return (torch.sigmoid(s) * state[0] + (1.0 - torch.sigmoid(s - 1.0)) * n,)


@fastrnn.cell(gates=4, states=2, params=3)
def peephole_lstm(x: Four, r: Four, state: Two, p: Three) -> Two:
    """Gers and Schmidhuber 2000: gates i f g o, of which i, f and o see the cell state."""
    i = torch.sigmoid(x[0] + r[0] + p[0] * state[1])
    f = torch.sigmoid(x[1] + r[1] + p[1] * state[1])
    c = f * state[1] + i * torch.tanh(x[2] + r[2])
    return torch.sigmoid(x[3] + r[3] + p[2] * c) * torch.tanh(c), c


OWN = {cell.title: cell for cell in (light_gru, janet, peephole_lstm)}

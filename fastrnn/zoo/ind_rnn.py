"""A network of neurons that do not see each other within a layer.

S. Li, W. Li, C. Cook, C. Zhu and Y. Gao 2018, "Independently recurrent neural network (IndRNN):
Building a longer and deeper RNN", arXiv 1803.04831:

    h_t = relu(W x_t + u * h_{t-1} + b)

u is a vector: layers are stacked for units to meet.
"""

from __future__ import annotations

import torch

from ..cells.declare import cell
from .layer import ZooLayer


@cell(inputs=1, product="none", params=1)
def ind_rnn(x, r, state, p):
    """The one slot of x is W x_t + b, the one parameter u."""
    return (torch.relu(x[0] + p[0] * state[0]),)


class IndRNN(ZooLayer):
    """Independently recurrent network (Li et al. 2018): weight_ih, bias_ih and params `[1, H]`, u.

    u is drawn from [0, 1], as in the paper, which bounds it by a number that tends to 1 for long
    sequences; to keep it there in training is the caller's business. Arguments, results and errors
    are those of `fastrnn.Recurrent`, without its cell.
    """

    definition = ind_rnn

    def reset_parameters(self) -> None:
        super().reset_parameters()
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.startswith("params"):
                    parameter.uniform_(0, 1)

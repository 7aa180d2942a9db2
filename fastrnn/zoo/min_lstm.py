"""An LSTM whose gates and candidate do not see the state, and share it between them.

L. Feng, F. Tung, M. Ahmed, Y. Bengio and H. Hajimirsadeghi 2024, "Were RNNs all we needed?", arXiv
2410.01201. This is the version that the paper computes in log space (appendix B), whose candidate
is positive by way of g, and whose gates sum to one:

    f_t = sigmoid(W_f x_t + b_f)    i_t = sigmoid(W_i x_t + b_i)
    n_t = g(W_h x_t + b_h)          g(a) = a + 0.5 where a >= 0, else sigmoid(a)
    h_t = f_t / (f_t + i_t) * h_{t-1} + i_t / (f_t + i_t) * n_t

A scan needs no logarithms for the sum over time; the gates' quotient is taken by them, since both
gates may be nearly zero. hx is h_0 itself, zeros if it is not given; the paper's code begins with g
of what it is given.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from ..cells.declare import cell
from .layer import ZooLayer


@cell(inputs=3, product="none")
def min_lstm(x, r, state):
    """Slots f i h of x."""
    i = torch.sigmoid(F.logsigmoid(x[1]) - F.logsigmoid(x[0]))  # i / (f + i)
    n = torch.where(x[2] >= 0, x[2] + 0.5, torch.sigmoid(x[2]))
    return (state[0] + i * (n - state[0]),)


class MinLSTM(ZooLayer):
    """minLSTM (Feng et al. 2024), the version of its log-space form: slots f i h, no W_hh.

    Arguments, results and errors are those of `fastrnn.Recurrent`, without its cell.
    """

    definition = min_lstm

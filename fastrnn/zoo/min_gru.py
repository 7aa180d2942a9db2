"""A GRU whose gate and candidate do not see the state.

L. Feng, F. Tung, M. Ahmed, Y. Bengio and H. Hajimirsadeghi 2024, "Were RNNs all we needed?", arXiv
2410.01201. This is the version that the paper computes in log space (appendix B), whose candidate
is positive by way of g:

    z_t = sigmoid(W_z x_t + b_z)
    n_t = g(W_h x_t + b_h)          g(a) = a + 0.5 where a >= 0, else sigmoid(a)
    h_t = (1 - z_t) * h_{t-1} + z_t * n_t

A scan needs no logarithms for it. hx is h_0 itself, zeros if it is not given; the paper's code
begins with g of what it is given.
"""

from __future__ import annotations

import torch

from ..cells.declare import cell
from .layer import ZooLayer


@cell(inputs=2, product="none")
def min_gru(x, r, state):
    """Slots z h of x."""
    z = torch.sigmoid(x[0])
    n = torch.where(x[1] >= 0, x[1] + 0.5, torch.sigmoid(x[1]))
    return (state[0] + z * (n - state[0]),)


class MinGRU(ZooLayer):
    """minGRU (Feng et al. 2024), the version of its log-space form: slots z h, no W_hh.

    Arguments, results and errors are those of `fastrnn.Recurrent`, without its cell.
    """

    definition = min_gru

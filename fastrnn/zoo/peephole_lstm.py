"""An LSTM whose gates see the cell's state.

F. Gers and J. Schmidhuber 2000, "Recurrent nets that time and count"; in the notation, and with the
activations, of Greff et al. 2015 ("LSTM: A search space odyssey", arXiv 1503.04069):

    i_t = sigmoid(W_i x_t + R_i h_{t-1} + p_i * c_{t-1} + b_i)
    f_t = sigmoid(W_f x_t + R_f h_{t-1} + p_f * c_{t-1} + b_f)
    c_t = f_t * c_{t-1} + i_t * tanh(W_g x_t + R_g h_{t-1} + b_g)
    o_t = sigmoid(W_o x_t + R_o h_{t-1} + p_o * c_t + b_o)
    h_t = o_t * tanh(c_t)

The output gate sees the new state, the two others the old one.
"""

from __future__ import annotations

import torch

from ..cells.declare import cell
from .layer import ZooLayer


@cell(gates=4, states=2, params=3)
def peephole_lstm(x, r, state, p):
    """Gates i f g o, states h c, params p_i p_f p_o."""
    _, c = state
    i = torch.sigmoid(x[0] + r[0] + p[0] * c)
    f = torch.sigmoid(x[1] + r[1] + p[1] * c)
    c = f * c + i * torch.tanh(x[2] + r[2])
    o = torch.sigmoid(x[3] + r[3] + p[2] * c)
    return o * torch.tanh(c), c


class PeepholeLSTM(ZooLayer):
    """LSTM with peepholes (Gers and Schmidhuber 2000): gates i f g o, states (h, c).

    params_l0 `[3, H]` are the peepholes of i, f and o. Arguments, results and errors are those of
    `fastrnn.Recurrent`, without its cell.
    """

    definition = peephole_lstm

"""The GRU as it was published: it resets the state before the product.

K. Cho, B. van Merrienboer, C. Gulcehre, D. Bahdanau, F. Bougares, H. Schwenk and Y. Bengio 2014,
"Learning phrase representations using RNN encoder-decoder for statistical machine translation",
arXiv 1406.1078 (v3; Keras' reset_after=False, ONNX' linear_before_reset=0):

    r_t = sigmoid(W_r x_t + U_r h_{t-1} + b_r)
    z_t = sigmoid(W_z x_t + U_z h_{t-1} + b_z)
    n_t = tanh(W_n x_t + U_n (r_t * h_{t-1}) + b_n)
    h_t = z_t * h_{t-1} + (1 - z_t) * n_t

torch.nn.GRU resets U_n h_{t-1} instead, which takes one product a step, and no second one.
"""

from __future__ import annotations

import torch

from ..cells.declare import cell
from .layer import ZooLayer


@cell(gates=3, late=1)
def reset_before_gru(x, r, state, product):
    """Gates r z n, the last of which multiplies what the first has left of h."""
    (h,) = state
    reset, z = torch.sigmoid(x[0] + r[0]), torch.sigmoid(x[1] + r[1])
    (late,) = product(reset * h)
    n = torch.tanh(x[2] + late)
    return (n + z * (h - n),)


class ResetBeforeGRU(ZooLayer):
    """GRU that resets before the product (Cho et al. 2014; Keras' reset_after=False): gates r z n.

    Weights are those of `FastGRU`, and do another thing. Arguments, results and errors are those of
    `fastrnn.Recurrent`, without its cell.
    """

    definition = reset_before_gru

"""A GRU whose two products are normalised over the units of a row.

After J. Ba, J. Kiros and G. Hinton 2016, "Layer normalization", arXiv 1607.06450; this is the
variant of Haste (https://github.com/lmnt-com/haste), whose reset gate comes after the product:

    u_t = LN(W x_t) * s_u + b_u     v_t = LN(R h_{t-1}) * s_v + b_v      LN over all 3 H numbers
    r_t = sigmoid(u_r + v_r)        z_t = sigmoid(u_z + v_z)
    n_t = tanh(u_n + r_t * v_n)
    h_t = z_t * h_{t-1} + (1 - z_t) * n_t
"""

from __future__ import annotations

import torch

from ..cells.declare import cell
from .norms import EPS, NormLayer, normalised


@cell(gates=3, params=12)
def layer_norm_gru(x, r, state, p, eps=EPS):
    """Gates r z n as FastGRU's (Haste's are z r n), params s_u (3), b_u (3), s_v (3), b_v (3)."""
    u = [p[k] * gate + p[3 + k] for k, gate in enumerate(normalised(x, eps))]
    v = [p[6 + k] * gate + p[9 + k] for k, gate in enumerate(normalised(r, eps))]
    reset, z = torch.sigmoid(u[0] + v[0]), torch.sigmoid(u[1] + v[1])
    n = torch.tanh(u[2] + reset * v[2])
    return (n + z * (state[0] - n),)


class LayerNormGRU(NormLayer):
    """GRU with layer normalisation of W x and of R h, as Haste's: gates r z n.

    params_l0 `[12, H]` are the scales of W x, gate by gate, its shifts (Haste's bias), and those of
    R h. There are no other biases unless bias=True. Other arguments, results and errors are those
    of `fastrnn.Recurrent`, without its cell. `LayerNormLSTM` says how to have another eps.
    """

    definition = layer_norm_gru
    shifts = (3, 4, 5, 9, 10, 11)

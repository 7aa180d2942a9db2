"""An LSTM whose gates and cell state are normalised over the units of a row.

After J. Ba, J. Kiros and G. Hinton 2016, "Layer normalization", arXiv 1607.06450; this is the
variant of torchaudio's RNN-T (`torchaudio.models.rnnt._CustomLSTM`), where the four gates are
normalised together, and the state that is carried is the normalised one:

    i_t, f_t, g_t, o_t = LN(W x_t + R h_{t-1}) * s + b          LN over all 4 H numbers
    c_t = LN(sigmoid(f_t) * c_{t-1} + sigmoid(i_t) * tanh(g_t)) * s_c + b_c
    h_t = sigmoid(o_t) * tanh(c_t)
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from ..cells.declare import cell
from .norms import EPS, NormLayer, normalised


@cell(gates=4, states=2, params=10)
def layer_norm_lstm(x, r, state, p, eps=EPS):
    """Gates i f g o, states h c, params s (4), b (4), s_c, b_c."""
    gates = normalised([x[g] + r[g] for g in range(4)], eps)
    i, f, g, o = (p[k] * gate + p[4 + k] for k, gate in enumerate(gates))
    c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    c = F.layer_norm(c, c.shape[-1:], p[8], p[9], eps)
    return torch.sigmoid(o) * torch.tanh(c), c


class LayerNormLSTM(NormLayer):
    """LSTM with layer normalisation of gates and state, as torchaudio's RNN-T has it.

    params_l0 `[10, H]` are the scales of i f g o, their shifts, and the state's scale and shift: of
    `_CustomLSTM` with layer_norm=True, `torch.cat([g_norm.weight, g_norm.bias, c_norm.weight,
    c_norm.bias]).view(10, H)`; x2g.weight and p2g.weight are weight_ih_l0 and weight_hh_l0. There
    are no other biases unless bias=True. Other arguments, results and errors are those of
    `fastrnn.Recurrent`, without its cell.

    The normalisations' eps is 1e-5. Another makes another cell:

        @fastrnn.cell(gates=4, states=2, params=10)
        def of_rnnt(x, r, state, p):
            return layer_norm_lstm.step(x, r, state, p, eps=1e-3)

        class OfRNNT(zoo.LayerNormLSTM):
            definition = of_rnnt
    """

    definition = layer_norm_lstm
    shifts = (4, 5, 6, 7, 9)

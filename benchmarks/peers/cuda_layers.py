"""FlashRNN and Haste behind torch.nn's constructor, call and state_dict, so all else is shared.

Written from their sources; both need CUDA and neither has been run here yet: the gate decides.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class _OneLayer(nn.RNNBase):
    """Parameters of torch.nn for one dense layer in one direction."""

    MODE = "LSTM"

    def __init__(self, input_size, hidden_size, num_layers, bidirectional, device, dtype):
        super().__init__(self.MODE, input_size, hidden_size, device=device, dtype=dtype)


class FlashLSTM(_OneLayer):
    """flashrnn(Wx [B, T, G, 1, H], R [G, 1, H, H], b [G, 1, H]) -> states [S, B, T, 1, H]."""

    def forward(self, x: Tensor, hx=None):
        from flashrnn import flashrnn

        t, b, _ = x.shape
        h = self.hidden_size
        wx = (x.transpose(0, 1) @ self.weight_ih_l0.T).view(b, t, 4, 1, h)
        recurrent = self.weight_hh_l0.view(4, 1, h, h)
        bias = (self.bias_ih_l0 + self.bias_hh_l0).view(4, 1, h)
        dtype = str(x.dtype).removeprefix("torch.")
        states, _ = flashrnn(wx, recurrent, bias, function="lstm", dtype=dtype)
        h_all, c_all = states[0, :, :, 0], states[1, :, :, 0]  # [B, T, H]
        return h_all.transpose(0, 1), (h_all[None, :, -1], c_all[None, :, -1])


class _Haste(_OneLayer):
    """Haste's functions on the layer's own parameters, so that their gradients have our names."""

    def zoneout(self, x: Tensor) -> Tensor:
        return torch.empty(0, 0, 0, dtype=x.dtype, device=x.device)


class HasteLSTM(_Haste):
    def forward(self, x: Tensor, hx=None):
        from haste_pytorch.lstm import LSTMFunction

        def igfo(w: Tensor) -> Tensor:  # [G*H, ...]: haste orders the gates i g f o
            i, f, g, o = w.chunk(4)
            return torch.cat((i, g, f, o)).t().contiguous()

        zero = x.new_zeros(x.shape[1], self.hidden_size)
        h, c = LSTMFunction.apply(
            self.training, 0.0, x.contiguous(), zero, zero.clone(),
            igfo(self.weight_ih_l0), igfo(self.weight_hh_l0),
            igfo(self.bias_ih_l0 + self.bias_hh_l0), self.zoneout(x),
        )  # fmt: skip
        return h[1:], (h[-1:], c[-1:])


class HasteGRU(_Haste):
    MODE = "GRU"

    def forward(self, x: Tensor, hx=None):
        from haste_pytorch.gru import GRUFunction

        def zrn(w: Tensor) -> Tensor:  # [G*H, ...]: haste orders the gates z r n
            r, z, n = w.chunk(3)
            return torch.cat((z, r, n)).t().contiguous()

        zero = x.new_zeros(x.shape[1], self.hidden_size)
        h = GRUFunction.apply(
            self.training, 0.0, x.contiguous(), zero,
            zrn(self.weight_ih_l0), zrn(self.weight_hh_l0),
            zrn(self.bias_ih_l0), zrn(self.bias_hh_l0), self.zoneout(x),
        )  # fmt: skip
        return h[1:], h[-1:]

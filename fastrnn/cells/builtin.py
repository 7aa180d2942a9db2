"""The cells that torch.nn has, and the linear one. Their kernels are written by hand.

`step` is the oracle: the reference scan loops over it, and the kernels (`csrc/cells/`,
`fastrnn/triton/cells.py`) are held to it by tests, and so are the kernels derived from it.

    x = W_ih x_t + b_ih     r = W_hh h + b_hh

x and r are kept apart because GRU multiplies the r of its new gate by the reset gate. Gate order is
that of `torch.nn`: i f g o for LSTM, r z n for GRU.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .spec import Cell, Tensors


def _elman(
    activation: Callable[[Tensor], Tensor],
) -> Callable[[Tensors, Tensors, Tensors], Tensors]:
    """h' = activation(x + r)   (Elman 1990; torch.nn.RNN)."""

    def step(x: Tensors, r: Tensors, state: Tensors) -> Tensors:
        return (activation(x[0] + r[0]),)

    return step


def _identity(a: Tensor) -> Tensor:
    return a


def lstm(x: Tensors, r: Tensors, state: Tensors) -> Tensors:
    """c' = f c + i g,  h' = o tanh(c')   (Hochreiter and Schmidhuber 1997; torch.nn.LSTM)."""
    i, f = torch.sigmoid(x[0] + r[0]), torch.sigmoid(x[1] + r[1])
    g, o = torch.tanh(x[2] + r[2]), torch.sigmoid(x[3] + r[3])
    c = f * state[1] + i * g
    return o * torch.tanh(c), c


def gru(x: Tensors, r: Tensors, state: Tensors) -> Tensors:
    """n = tanh(x_n + reset r_n),  h' = n + z (h - n)   (Cho et al. 2014; as in torch.nn.GRU)."""
    reset, z = torch.sigmoid(x[0] + r[0]), torch.sigmoid(x[1] + r[1])
    n = torch.tanh(x[2] + reset * r[2])
    return (n + z * (state[0] - n),)


def _rnn(nonlinearity: str, activation: Callable[[Tensor], Tensor], torch_layer: str) -> Cell:
    return Cell(
        f"rnn_{nonlinearity}", gates=1, states=1, step=_elman(activation), saved=0,
        layer="FastRNN", torch_layer=torch_layer, arguments={"nonlinearity": nonlinearity},
    )  # fmt: skip


BUILTIN = (
    _rnn("tanh", torch.tanh, "RNN"),
    _rnn("relu", torch.relu, "RNN"),
    _rnn("identity", _identity, ""),
    Cell("lstm", 4, 2, lstm, saved=4, kept=1, layer="FastLSTM", torch_layer="LSTM"),
    Cell("gru", 3, 1, gru, saved=4, kept=1, layer="FastGRU", torch_layer="GRU"),
)

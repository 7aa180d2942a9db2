"""The cells of the `zoo` preset: of fastrnn's zoo, and LSTM with zoneout.

As with the suite's own, every contestant computes their steps; here each has its weights in the
form that its cell has. Masks of zoneout are drawn beforehand and given to everybody.
"""

from __future__ import annotations

import importlib

import torch
from torch import Tensor

HEADS = 4  # of a cell whose product is in heads
ZONEOUT = (0.05, 0.5)  # of h and c: the rates of its paper
ZONED = "lstm_zoneout"
ZOO = ("layer_norm_lstm", "layer_norm_gru", "slstm", ZONED, "min_gru")


def get(name: str):
    """A cell; deriving its kernels takes a while, so each is made when it is asked for."""
    if name != ZONED:
        return getattr(importlib.import_module(f"fastrnn.zoo.{name}"), name)
    from fastrnn.cells import CELLS, regularised

    return CELLS[regularised.name_of("lstm", (True, True), False)]


def masks(case, generator: torch.Generator) -> Tensor:
    """What zoneout keeps of h and c [T, B, 2*H]: drawn in training, the rates in inference."""
    rates = torch.tensor(ZONEOUT).repeat_interleave(case.H).expand(case.T, case.B, -1)
    if case.mode != "training":
        return rates.contiguous()
    return (torch.rand(rates.shape, generator=generator) < rates).to(rates.dtype)

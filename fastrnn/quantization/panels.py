"""Weights in int8 or bfloat16, in the order in which all machines' kernels read them.

A weight `[slots*H, K]` is w = scale q with one scale a row, |q| <= 127. The int8 numbers lie as
`csrc/cpu/int8_layout.h` says: panels of some units of all slots, `[K/4, slots, units/16, 16, 4]`,
zeros past H and K; bfloat16 numbers likewise, two neighbours in the place of four. Scales and
biases have the panels' order of columns.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

UNITS, BYTES = 16, 4  # kInt8Units, and of neighbours along K
_MOST = 4  # columns of 16 units in a panel, unless a cell has more slots (kMaxVectors)
LARGEST = 127


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(q, scale): weight `[N, K]` as int8 `[N, K]` and a scale for each row, float32 `[N]`."""
    scale = weight.abs().amax(1) / LARGEST
    q = weight / torch.where(scale > 0, scale, 1).unsqueeze(1)
    return q.round().clamp(-LARGEST, LARGEST).to(torch.int8), scale


def together(slots: int) -> int:
    """16 units each, that a panel of so many slots has."""
    return _MOST // slots if 0 < slots < _MOST else 1


def _split(columns: Tensor, slots: int, each: int) -> list[Tensor]:
    """`[slots*H, ..]` as panels `[slots, each, 16, ..]`, the last of which may have fewer units."""
    parts = columns.unflatten(0, (slots, -1))
    parts = F.pad(parts, (0, 0) * (parts.dim() - 2) + (0, -parts.shape[1] % UNITS))
    return list(parts.unflatten(1, (-1, UNITS)).split(each, 1))


def pack_matrix(q: Tensor, slots: int, each: int) -> Tensor:
    """`[slots*H, K]` in int8 or bfloat16 as the panels' numbers, one after the other."""
    neighbours = BYTES // q.element_size()
    quads = F.pad(q, (0, -q.shape[1] % neighbours)).unflatten(1, (-1, neighbours))
    panels = _split(quads, slots, each)
    return torch.cat([p.permute(3, 0, 1, 2, 4).reshape(-1) for p in panels])


def pack_columns(values: Tensor, slots: int, each: int) -> Tensor:
    """`[slots*H]`, a number for each column, in the panels' order."""
    return torch.cat([p.reshape(-1) for p in _split(values, slots, each)])

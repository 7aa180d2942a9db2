"""Backward with less memory: the values that a cell saves for backward, computed a second time.

The states of all steps are known once the forward scan is over, so the gates of all steps are two
GEMMs and one pointwise pass, with no loop over time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from . import cells
from .reference import FORWARD, REVERSE, name_weights


def saved_values(
    cell: str,
    input: Tensor,  # [T, B, I] or packed [N, I]; project=False: the ready gx
    weights: Sequence[Tensor],
    state: Sequence[Tensor],  # S tensors [D, B, H]
    output: Tensor,  # [T, B, D*H] or [N, D*H]
    carried: Tensor,  # [D, N, S-1, H]: the states besides h after each step
    batch_sizes: Tensor | None,
    resets: Tensor | None,
    directions: int,
    project: bool,
) -> Tensor:
    """`saved` [D, N, K+S-1, H] as the forward op gives it, from what it computed."""
    spec = cells.get(cell)
    b, h = state[0].shape[1:]
    rows = input if batch_sizes is not None else input.flatten(0, 1)  # [N, I]
    outputs = (output if batch_sizes is not None else output.flatten(0, 1)).split(h, -1)
    if batch_sizes is None:
        batch_sizes = torch.full((input.shape[0],), b)
    reverses = [reverse for bit, reverse in ((FORWARD, False), (REVERSE, True)) if directions & bit]
    per_direction = len(weights) // len(reverses)
    saved = []
    for d, reverse in enumerate(reverses):
        before = _row_before(batch_sizes, rows.shape[0], reverse).to(input.device)
        after = [outputs[d], *carried[d].unbind(1)]  # S tensors [N, H]
        entering = [torch.cat([a, s[d]])[before] for a, s in zip(after, state)]
        if resets is not None:
            entering = [e.masked_fill(resets.reshape(-1, 1), 0) for e in entering]
        w_ih, w_hh, b_ih, b_hh, _ = name_weights(
            weights[d * per_direction : (d + 1) * per_direction], project
        )
        x = F.linear(rows, w_ih, b_ih) if project else rows
        r = F.linear(entering[0], w_hh, b_hh)
        shape = (spec.gates, h)
        kept = spec.keep(x.unflatten(-1, shape), r.unflatten(-1, shape), tuple(entering))
        saved.append(torch.stack([*kept, *after[1:]], 1))
    return torch.stack(saved)


def _row_before(batch_sizes: Tensor, n: int, reverse: bool) -> Tensor:
    """For each packed row [N] the row its state comes from; N + k stands for initial row k."""
    steps = len(batch_sizes)
    step = torch.repeat_interleave(torch.arange(steps), batch_sizes, output_size=n)  # [N]
    offsets = batch_sizes.cumsum(0) - batch_sizes
    place = torch.arange(n) - offsets[step]
    source = step + 1 if reverse else step - 1
    inside = source.clamp(0, max(steps - 1, 0))
    known = (source == inside) & (place < batch_sizes[inside])
    return torch.where(known, offsets[inside] + place, n + place)

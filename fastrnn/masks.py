"""Zoneout and recurrent dropout of a layer: their options, and the masks of a call.

The masks are extra slots of the cell, drawn from a counter (`drawn.py`): those of zoneout for each
state that has some, then that of recurrent dropout. Each layer and direction has a seed of its own
from torch's generator, and a row counts with its place in the caller's batch.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from . import cells, drawn
from .cells import regularised

if TYPE_CHECKING:
    from .layer import Layer

EACH = ("sequence", "step")


def read_zoneout(zoneout: object, cell: cells.Cell, proj_size: int) -> tuple[float, ...]:
    """The rate of each state; () where there is none."""
    states = cell.states
    several = isinstance(zoneout, (tuple, list))
    rates = tuple(zoneout) if several else (zoneout,) * states
    if len(rates) != states:
        raise ValueError(
            f"zoneout must be a rate, or one for each of the {states} states, got {zoneout!r}"
        )
    rates = tuple(_rate("zoneout", rate) for rate in rates)
    _check_fits("zoneout", any(rates), zoneout, cell, proj_size)
    return rates if any(rates) else ()


def read_dropout(rate: object, each: object, cell: cells.Cell, proj_size: int) -> float:
    """The rate of recurrent dropout; each: recurrent_mask."""
    if each not in EACH:
        raise ValueError(f"recurrent_mask must be one of {', '.join(EACH)}, got {each!r}")
    value = _rate("recurrent_dropout", rate)
    _check_fits("recurrent_dropout", value > 0, rate, cell, proj_size)
    return value


def _rate(name: str, rate: object) -> float:
    number = isinstance(rate, numbers.Real) and not isinstance(rate, bool)
    if not number or not 0 <= rate < 1:
        raise ValueError(f"{name} must be a number from 0 on and below 1, got {rate!r}")
    return float(rate)


def _check_fits(name: str, on: bool, given: object, cell: cells.Cell, proj_size: int) -> None:
    if on and proj_size:
        raise ValueError(f"{name} must be 0 with proj_size, got {given!r}")


def cell_of(layer: Layer) -> str:
    """The name of the cell that a call of the layer scans in its present mode."""
    dropped = bool(layer.recurrent_dropout) and layer.training
    if not (layer.zoneout or dropped):
        return layer.cell
    zoned = tuple(rate > 0 for rate in layer.zoneout) or (False,) * layer.states
    return regularised.name_of(layer.cell, zoned, dropped)


def of_call(
    layer: Layer,
    input: Tensor,  # [T, B, I] or packed [N, I]
    state: Sequence[Tensor] | None,  # S tensors [L*D, B, H]
    batch_sizes: Tensor | None,  # of a packed input
    order: Tensor | None,  # [B]: which rows of the caller's those of a packed input are
) -> tuple[list[Tensor], Sequence[Tensor] | None]:
    """(the extra slots of each of the L*D directions, the states that the cell has).

    In training slots are drawn; what zoneout expects in evaluation is a number, [.., n*H].
    """
    h, count = layer.hidden_size, len(layer._all_weights)
    rates = [rate for rate in layer.zoneout if rate]
    if not layer.training:
        expected = input.new_tensor(rates).repeat_interleave(h)
        return [expected.expand(*input.shape[:-1], -1)] * count, state
    slots = [(drawn.ZONEOUT, rate) for rate in rates]
    if layer.recurrent_dropout:
        each = layer.recurrent_mask == "step"
        slots.append((drawn.DROPOUT_EACH_STEP if each else drawn.DROPOUT, layer.recurrent_dropout))
    masks = drawn.of_call(input, tuple(slots), count)
    if order is not None:
        masks = [drawn.with_rows(mask, order) for mask in masks]
    if layer.recurrent_dropout and state is not None:
        fed = state[cells.get(layer.cell).feeds]
        rows = torch.arange(fed.shape[1], device=fed.device)
        before = torch.full_like(rows, drawn.BEFORE)
        first = [drawn.masks(mask, len(slots), h, before, rows)[..., -h:] for mask in masks]
        state = [*state, fed * torch.stack(first).to(fed.dtype)]
    return masks, state


def as_tensors(
    layer: Layer, masks: Sequence[Tensor], input: Tensor, batch_sizes: Tensor | None
) -> list[Tensor]:
    """Drawn slots made [.., E*H], to stand beside those that the caller brings."""
    if not layer.training:
        return list(masks)
    slots = sum(rate > 0 for rate in layer.zoneout) + (layer.recurrent_dropout > 0)
    shape = input.shape[:-1]
    return [drawn.lines(mask, slots, layer.hidden_size, shape, batch_sizes) for mask in masks]

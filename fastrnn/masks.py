"""Zoneout and recurrent dropout of a layer: their options, and the masks of a call.

Masks are drawn by torch's generator, for each layer and direction in their order: those of zoneout
`[T, B, H]` for each state in turn, then that of recurrent dropout.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from . import cells, transforms
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
    why = "is in heads" if cell.in_heads else "looks across units" if cell.across else ""
    if on and why:
        raise ValueError(f"{name} must be 0: the cell {cell.title!r} {why}, got {given!r}")


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
) -> tuple[list[list[Tensor]], Sequence[Tensor] | None]:
    """(for each of the L*D directions masks [.., H] or [.., n*H], the states that the cell has)."""
    dropped = bool(layer.recurrent_dropout) and layer.training
    masks, at_first = [], []
    for _ in layer._all_weights:
        masks.append([])
        if layer.zoneout:
            masks[-1] += _zoneout(layer, input)
        if dropped:
            mask, first = _dropout(layer, input, batch_sizes, state is not None)
            masks[-1].append(mask)
            at_first.append(first)
    if dropped and state is not None:
        fed = state[cells.get(layer.cell).feeds]
        state = [*state, fed * torch.stack(at_first).to(fed.dtype)]
    return masks, state


def _zoneout(layer: Layer, input: Tensor) -> list[Tensor]:
    h, lines = layer.hidden_size, input.shape[:-1]
    rates = [rate for rate in layer.zoneout if rate]
    if not layer.training:
        return [input.new_tensor(rates).repeat_interleave(h).expand(*lines, -1)]
    if len({*rates}) == 1:
        return [draw(input, (*lines, len(rates) * h), rates[0])]
    return [draw(input, (*lines, h), rate) for rate in rates]


def _dropout(
    layer: Layer, input: Tensor, batch_sizes: Tensor | None, given: bool
) -> tuple[Tensor, Tensor | None]:
    """The mask of every line [.., H], and, where it is needed, of the first state [B, H]."""
    h, keep = layer.hidden_size, 1 - layer.recurrent_dropout
    b = input.shape[1] if batch_sizes is None else int(batch_sizes[0])
    if layer.recurrent_mask == "step":
        mask = draw(input, (*input.shape[:-1], h), keep).div_(keep)
        return mask, draw(input, (b, h), keep).div_(keep) if given else None
    first = draw(input, (b, h), keep).div_(keep)
    if batch_sizes is None:
        return first.expand(input.shape[0], b, h), first
    steps = torch.arange(b) < batch_sizes[:, None]
    return first.index_select(0, steps.nonzero(as_tuple=True)[1].to(first.device)), first


def draw(like: Tensor, shape: tuple[int, ...], rate: float) -> Tensor:
    """Ones with that probability, to 1/65536, else zeros: in the dtype and on the device of like.

    A draw of torch's generator, which takes longer than what a scan does with a number, is cut into
    four: a sixth of the time of bernoulli_. In graphs and under torch.func, which have no such
    draw, it is bernoulli_ all the same: other numbers of the same seed.
    """
    if torch.compiler.is_compiling() or True in transforms.active(False):
        return like.new_empty(shape).bernoulli_(rate)
    count = math.prod(shape)
    bits = like.new_empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    bits = bits.view(torch.int16)[:count].view(shape)
    bound = min(round(rate * 2**16) - 2**15, 2**15 - 1)
    return torch.lt(bits, bound, out=like.new_empty(shape))  # in one pass

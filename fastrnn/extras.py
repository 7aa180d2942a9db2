"""Extra slots of a cell's x: as callers bring them, and as the last weights of each direction.

The ops take the E slots of a direction as one tensor, rows as the input's, `[T, B, E*H]` or packed
`[N, E*H]`, read where it lies, expanded ones too; or, where they are masks drawn from a counter, as
one with a single axis, which says of what (`drawn.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from . import cells, drawn, torch_private

Weights = Sequence[Sequence[Tensor]]


def read(
    module,
    extra: object,
    input: Tensor,  # [T, B, I] or packed [N, I]
    unbatched: bool,
) -> Tensor | None:
    """A layer's `extra=` as [T, B, E*H] or [N, E*H]; None where its cell has no extra slots."""
    count = module.extra_slots
    if not count:
        if extra is not None:
            raise ValueError("extra must be None: the layer's cell has no extra slots")
        return None
    if isinstance(extra, (Tensor, PackedSequence)):
        extra = (extra,)
    if not isinstance(extra, (tuple, list)) or len(extra) != count:
        got = f"{len(extra)}" if isinstance(extra, (tuple, list)) else type(extra).__name__
        raise ValueError(f"extra must be {count} Tensors, one for each extra slot, got {got}")
    return join([_slot(module, k, slot, input, unbatched) for k, slot in enumerate(extra)])


def _slot(module, place: int, slot: object, input: Tensor, unbatched: bool) -> Tensor:
    if isinstance(slot, PackedSequence) and input.dim() == 2:
        slot = slot.data
    if not isinstance(slot, Tensor):
        raise TypeError(f"extra[{place}] must be a Tensor, got {type(slot).__name__}")
    swapped = module.batch_first and not unbatched and input.dim() == 3
    if unbatched and slot.dim() == 2:
        slot = slot.unsqueeze(1)
    elif swapped and slot.dim() == 3:
        slot = slot.transpose(0, 1)
    expected = (*input.shape[:-1], module.hidden_size)
    if slot.shape != expected:
        axes = "rows, hidden" if input.dim() == 2 else "time, batch, hidden"
        raise ValueError(
            f"extra[{place}] must have shape {list(expected)} ({axes}, as the input's), got "
            f"{[*slot.shape]}"
        )
    check_like(f"extra[{place}]", slot, "the input's", input)
    return slot


def check_like(name: str, slot: Tensor, whose: str, other: Tensor) -> None:
    """Same dtype, but for autocast, and same device."""
    if slot.dtype != other.dtype and not (
        torch_private.any_autocast() and slot.is_floating_point()
    ):
        raise ValueError(f"{name} must have {whose} dtype {other.dtype}, got {slot.dtype}")
    if slot.device != other.device:
        raise ValueError(f"{name} must be on {whose} device {other.device}, got {slot.device}")


def of_scan(spec: cells.Cell, extra: object, gx: Tensor, h: int) -> list[Tensor]:
    """`functional.scan`'s `extra=` as the last of its weights."""
    given = (extra,) if isinstance(extra, Tensor) else tuple(extra or ())
    if len(given) != spec.extra:
        raise ValueError(
            f"extra must have {spec.extra} tensors for the cell {spec.title}, got {len(given)}"
        )
    for place, slot in enumerate(given):
        expected = (*gx.shape[:-1], h)
        if slot.shape != expected:
            raise ValueError(
                f"extra[{place}] must have shape {list(expected)}, got {[*slot.shape]}"
            )
        check_like(f"extra[{place}]", slot, "gx's", gx)
    return [join(given)] if given else []


def join(slots: Sequence[Tensor]) -> Tensor:
    """[.., H] each as [.., E*H], without a copy of a single one."""
    return slots[0] if len(slots) == 1 else torch.cat(slots, -1)


def append(layers: Weights, directions: int, slots: Sequence[Sequence[Tensor]]) -> Weights:
    """The weights of each layer, both directions together, with each direction's slots."""
    joined = []
    for index, weights in enumerate(layers):
        each, with_slots = len(weights) // directions, []
        for d in range(directions):
            own = join(slots[index * directions + d])
            with_slots += [*weights[d * each : (d + 1) * each], own]
        joined.append(with_slots)
    return joined


def change(cell: str, weights: Sequence[Tensor], directions: int, f: Callable) -> list[Tensor]:
    """The weights of a layer with f(slots) in the place of each direction's extra slots."""
    weights = list(weights)
    if cells.get(cell).extra:
        each = len(weights) // directions
        for place in range(each - 1, len(weights), each):
            weights[place] = f(weights[place])
    return weights


def pick(slots: Tensor, f: Callable, rows: Tensor) -> Tensor:
    """f(slots), of some lines of a batch; drawn ones, of some rows of it [B']."""
    return f(slots) if slots.dim() > 1 else drawn.with_rows(slots, rows)


def made(
    cell: str, input: Tensor, weights: Sequence[Tensor], batch_sizes, directions: int, project: bool
) -> Sequence[Tensor]:
    """The weights of a layer with tensors in the place of drawn extra slots."""
    spec = cells.get(cell)
    if not spec.extra or weights[-1].dim() > 1:
        return weights
    h, shape = cells.units(spec, input, weights, project), input.shape[:-1]
    return change(
        cell, weights, directions.bit_count(),
        lambda slots: drawn.lines(slots, spec.extra, h, shape, batch_sizes),
    )  # fmt: skip

"""Ragged batches in their two forms: padded with lengths, and packed.

Padded: input [T, B, ..] in any order of rows, with the steps of each row, lengths [B]. Packed, as
in PackedSequence: the rows of all steps in one buffer [N, ..], with the rows of each step,
batch_sizes [T], which fall.
"""

from __future__ import annotations

import functools
import numbers
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from . import extras, ops, torch_private


class Packing:
    """Where the valid rows of a padded batch lie: padded `[T, B, ..]` <-> packed `[N, ..]`.

    Rows are taken in order of falling length, so that the rows of a step are the first rows of the
    state, as in PackedSequence. Everything here is index arithmetic: no loop over T or B. Made by
    `pack_lengths`, which checks. Raises nothing of its own.
    """

    def __init__(self, batch_sizes: Tensor, order: Tensor, inverse: Tensor, index: Tensor):
        self.batch_sizes = batch_sizes  # [T'] int64 on the CPU, T' the greatest length
        self.order = order  # [B]: order[k] is the batch row at place k
        self.inverse = inverse  # [B]: the place of each batch row
        self.index = index  # [N]: place in the flattened [T*B] of each packed row

    def pack(self, padded: Tensor) -> Tensor:
        """`[T, B, ..]` -> `[N, ..]`"""
        return padded.flatten(0, 1).index_select(0, self.index)

    def pad(self, packed: Tensor, t: int, b: int) -> Tensor:
        """`[N, ..]` -> `[T, B, ..]` with zeros outside the lengths."""
        padded = packed.new_zeros((t * b, *packed.shape[1:]))
        return padded.index_copy(0, self.index, packed).unflatten(0, (t, b))

    def sort(self, state: Tensor) -> Tensor:
        """`[L*D, B, H]` in the caller's order of rows -> in falling order of lengths."""
        return state.index_select(1, self.order)

    def unsort(self, state: Tensor) -> Tensor:
        """`[L*D, B, H]` in falling order of lengths -> in the caller's order of rows."""
        return state.index_select(1, self.inverse)


def read_lengths(lengths: Tensor | Sequence[int], t: int, b: int) -> Tensor:
    """lengths as int64 [B] on the CPU, a copy.

    Checked as `pack_lengths` says. In a compiled or exported program, where values are not known,
    they are checked by the op, when it runs.
    """
    if isinstance(lengths, Tensor):
        if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
            raise TypeError(f"lengths must be integers, got {lengths.dtype}")
        # The caller may change his own before backward.
        lengths = lengths.detach().to("cpu", torch.int64, copy=True)
    else:
        lengths = [n.item() if isinstance(n, Tensor) and n.dim() == 0 else n for n in lengths]
        if not all(isinstance(n, numbers.Integral) and not isinstance(n, bool) for n in lengths):
            raise TypeError(f"lengths must be integers, got {lengths}")
        lengths = torch.tensor(lengths, dtype=torch.int64)
    if lengths.shape != (b,):
        raise ValueError(
            f"lengths must have shape [{b}] (one for each batch row), got {list(lengths.shape)}"
        )
    if b and not torch.compiler.is_compiling():
        least, most = (int(n) for n in lengths.aminmax())
        if not 0 <= least <= most <= t:
            raise ValueError(
                f"lengths must lie between 0 and {t} (the time steps of input), got {least} to "
                f"{most}"
            )
    return lengths


def pack_lengths(lengths: Tensor | Sequence[int], t: int, b: int, device: torch.device) -> Packing:
    """The packing of a padded batch `[T, B, ..]` whose row b has lengths[b] valid steps, 0 to T.

    lengths: `[B]` integers, a Tensor on any device or a sequence; t, b: T and B; device: that of
    the batch. Raises TypeError for lengths that are no integers, ValueError where they are not one
    for each row, or not between 0 and T.
    """
    falling, order = read_lengths(lengths, t, b).sort(descending=True, stable=True)
    steps = torch.arange(int(falling[0]) if b else 0)
    valid = steps[:, None] < falling  # [T', B]: falling, so valid rows come first in each step
    step, place = valid.nonzero(as_tuple=True)
    return Packing(
        valid.sum(1),
        _sent(order, device),
        _sent(order.argsort(), device),
        _sent(step * b + order[place], device),
    )


def _sent(values: Tensor, device: torch.device) -> Tensor:
    """values, of the CPU's pageable memory, on device: where that is a GPU, without waiting for it.

    CUDA has taken them out of such memory when the call returns.
    """
    return values.to(device, non_blocking=device.type == "cuda")


def tell_graph_rows(hx: Tensor | Sequence[Tensor], b: int) -> None:
    """Tells a compiled graph, where b is read from batch_sizes, that hx `[L*D, B, H]` has b rows.

    It is checked when the graph runs, with a RuntimeError. Does nothing outside of graphs.
    """
    first = hx if isinstance(hx, Tensor) else next(iter(hx), None)
    if torch.compiler.is_compiling() and isinstance(first, Tensor) and first.dim() == 3:
        torch_private.check(b == first.shape[1])


def pack_resets(resets: Tensor, batch_sizes: Tensor, order: Tensor | None) -> Tensor:
    """resets [T, B] in the caller's order of rows -> [N] as a PackedSequence lays out its rows."""
    if order is not None:
        resets = resets.index_select(1, order)
    valid = torch.arange(resets.shape[1]) < batch_sizes[:, None]
    # By index: a mask on a GPU would be counted there first.
    index = valid.flatten().nonzero().squeeze(1)
    return resets.flatten().index_select(0, _sent(index, resets.device))


def forward_by_packing(forward: Callable) -> Callable:
    """A backend's forward op, which takes packed batches, as one that takes lengths too."""

    def op(cell, input, weights, state, batch_sizes, resets, directions, project, save) -> tuple:
        rest = directions, project, save
        if batch_sizes is None or input.dim() == 2:
            return forward(cell, input, weights, state, batch_sizes, resets, *rest)
        t, b, _ = input.shape
        packing = pack_lengths(batch_sizes, t, b, input.device)
        d = directions.bit_count()
        pick = functools.partial(extras.pick, f=packing.pack, rows=packing.order)
        output, final, saved = forward(
            cell, packing.pack(input), extras.change(cell, weights, d, pick),
            [packing.sort(s) for s in state], packing.batch_sizes,
            None if resets is None else packing.pack(resets), *rest,
        )  # fmt: skip
        if save:  # [D, N, ..] in [D, T*B, ..]: the shapes of results must not hang on lengths
            lines = saved.new_empty((len(saved), t * b, *saved.shape[2:]))
            lines[:, : saved.shape[1]] = saved
            saved = lines
        return packing.pad(output, t, b), [packing.unsort(s) for s in final], saved

    return op


def backward_by_packing(backward: Callable) -> Callable:
    """The backward op, likewise."""

    def op(
        cell, grad_output, grad_final, input, weights, state, output, saved, batch_sizes, resets,
        directions, project, needs,
    ) -> tuple:  # fmt: skip
        rest = directions, project, needs
        if batch_sizes is None or input.dim() == 2:
            return backward(
                cell, grad_output, grad_final, input, weights, state, output, saved, batch_sizes,
                resets, *rest,
            )  # fmt: skip
        t, b, _ = input.shape
        packing = pack_lengths(batch_sizes, t, b, input.device)
        pack, sort, d = packing.pack, packing.sort, directions.bit_count()
        pick = functools.partial(extras.pick, f=pack, rows=packing.order)
        grad_input, grad_weights, grad_state = backward(
            cell, None if grad_output is None else pack(grad_output),
            [sort(g) for g in grad_final], pack(input), extras.change(cell, weights, d, pick),
            [sort(s) for s in state],
            pack(output), saved[:, : len(packing.index)], packing.batch_sizes,
            None if resets is None else pack(resets), *rest,
        )  # fmt: skip
        if grad_input.dim() == 2:  # it is wanted
            grad_input = packing.pad(grad_input, t, b)
        if needs & ops.NEED_EXTRA and grad_weights[-1].dim() > 1:
            grad_weights = extras.change(cell, grad_weights, d, lambda g: packing.pad(g, t, b))
        return grad_input, grad_weights, [packing.unsort(g) for g in grad_state]

    return op

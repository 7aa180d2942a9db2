"""Per-sample gradients of `torch.nn.utils._per_sample_grad.call_for_per_sample_grads`.

That function calls a module with its parameters as ExpandedWeights: tensors that hand each function
they meet to a table of handlers. What backward finds for one goes to `grad_sample` [B, ..] of the
parameter. The ops get their handlers here, so that no other call pays for it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from . import extras
from .torch_private import (
    ExpandedWeight,
    expanded,
    implements_per_sample_grads,
    set_grad_sample,
)


class _Handler:
    """What torch asks of a handler: apply(names of keywords, function, *arguments)."""

    def __init__(self, handle: Callable) -> None:
        self.handle = handle

    def apply(self, names: tuple[str, ...], function: Callable, *arguments):
        return self.handle(function, *arguments)


def register(forward: Callable, backward: Callable, save: int) -> None:
    """Handlers of a pair of ops; backward runs forward again, with that `save`."""
    if ExpandedWeight:
        gradient = _Handler(lambda _, *call: _backward(forward, backward, save, *call))
        implements_per_sample_grads(forward)(_Handler(_forward))
        implements_per_sample_grads(backward)(gradient)


def refuse_lengths(weights: Sequence[Tensor]) -> None:
    if expanded(weights):
        raise RuntimeError(
            "lengths must be None for per-sample gradients (call_for_per_sample_grads) where a "
            "backend packs them, whose order would be that of falling lengths: pass a "
            "PackedSequence, which has that order"
        )


def _plain(weight: Tensor) -> Tensor:
    return weight.orig_weight if isinstance(weight, ExpandedWeight) else weight


class _Rows:
    """The batch rows of a call, each as a call of its own."""

    def __init__(self, input: Tensor, batch_sizes: Tensor | None, b: int | None = None) -> None:
        self.axis = 0 if input.dim() == 2 else 1  # of the rows: a single step has no time
        self.places = None  # of each packed row in [N]
        self.lengths = batch_sizes if input.dim() == 3 else None
        if batch_sizes is None or self.lengths is not None:
            self.count = input.shape[self.axis]
            return
        self.axis = None
        sizes = batch_sizes.tolist()
        starts = [0, *batch_sizes.cumsum(0).tolist()]
        self.count = sizes[0] if b is None else b
        self.places = [
            torch.tensor(
                [start + row for start, size in zip(starts, sizes) if row < size],
                dtype=torch.int64,
                device=input.device,
            )
            for row in range(self.count)
        ]

    def check(self, weights: Sequence[Tensor]) -> None:
        """As torch does: the batch must be the one that the ExpandedWeights were made for."""
        for weight in weights:
            if isinstance(weight, ExpandedWeight):
                wanted = weight.batch_size
                if wanted != self.count and (self.places is None or wanted < self.count):
                    raise RuntimeError(
                        f"input must have batch_size = {wanted} rows for per-sample gradients, got "
                        f"{self.count} (call_for_per_sample_grads takes the first axis for the "
                        "batch unless it is told batch_first=False or batch_size)"
                    )

    def of(self, steps: Tensor | None, row: int) -> Tensor | None:
        """A row of input, output or resets."""
        if steps is None:
            return None
        if self.places is not None:
            return steps.index_select(0, self.places[row])
        return steps.narrow(self.axis, row, 1)

    def of_extra(
        self, cell: str, weights: Sequence[Tensor], directions: int, row: int
    ) -> list[Tensor]:
        """The weights with a row's extra slots."""
        rows = torch.tensor([row], device=weights[-1].device)
        pick = functools.partial(extras.pick, f=lambda e: self.of(e, row), rows=rows)
        return extras.change(cell, weights, directions.bit_count(), pick)

    def sizes(self, row: int) -> Tensor | None:
        """batch_sizes of a row alone."""
        if self.lengths is not None:
            return self.lengths.narrow(0, row, 1)
        return None if self.places is None else torch.ones(len(self.places[row]), dtype=torch.int64)

    def of_states(self, states: Sequence[Tensor], row: int) -> list[Tensor]:
        return [s.narrow(s.dim() - 2, row, 1) for s in states]

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Undoes `of`."""
        if self.places is None:
            return torch.cat(parts, self.axis)
        return torch.cat(parts).index_select(0, torch.cat(self.places).argsort())

    def join_states(self, parts: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        return [torch.cat(states, states[0].dim() - 2) for states in zip(*parts)]


def _rows(input, state, batch_sizes) -> _Rows:
    return _Rows(input, batch_sizes, state[0].shape[-2] if state else None)


def _forward(op, cell, input, weights, state, batch_sizes, *rest):
    """The handler of a forward op."""
    _rows(input, state, batch_sizes).check(weights)
    return op(cell, input, [_plain(w) for w in weights], state, batch_sizes, *rest)


def _backward(
    forward, backward, save, cell, grad_output, grad_final, input, weights, state, output, saved,
    batch_sizes, resets, directions, project, needs,
) -> tuple[Tensor, list[None], list[Tensor]]:  # fmt: skip
    """The handler of a backward op: one call of the kernels for each row, as under vmap.

    forward is run again for each, as only the op knows how it lays out what it saves.
    """
    rows, plain, grads = _rows(input, state, batch_sizes), [_plain(w) for w in weights], []
    for row in range(rows.count):
        x, s = rows.of(input, row), rows.of_states(state, row)
        call = rows.sizes(row), rows.of(resets, row), directions, project
        own = rows.of_extra(cell, plain, directions, row)
        y, _, kept = forward(cell, x, own, s, *call, save)
        grad_y, grad_final_row = rows.of(grad_output, row), rows.of_states(grad_final, row)
        grads.append(backward(cell, grad_y, grad_final_row, x, own, s, y, kept, *call, needs))
    inputs, samples, states = zip(*grads)
    for weight, of_rows in zip(weights, zip(*samples)):
        _keep(weight, torch.stack(of_rows))
    # With no dimensions where nobody wanted it: any row's will do.
    grad_input = rows.join(inputs) if inputs[0].dim() == input.dim() else inputs[0]
    return grad_input, [None] * len(weights), rows.join_states(states)


def by_rows(
    scan: Callable, cell, input, weights, state, batch_sizes, resets, directions, project
) -> tuple[Tensor, list[Tensor]]:
    """scan, which is plain torch, on each row, with weights of its own."""
    rows = _rows(input, state, batch_sizes)
    rows.check(weights)
    own = [_for_rows(w, rows.count) if isinstance(w, ExpandedWeight) else w for w in weights]
    outputs, finals = [], []
    for row in range(rows.count):
        mine = [w[row] if isinstance(e, ExpandedWeight) else w for w, e in zip(own, weights)]
        mine = rows.of_extra(cell, mine, directions, row)
        output, final = scan(
            cell, rows.of(input, row), mine, rows.of_states(state, row), rows.sizes(row),
            rows.of(resets, row), directions, project,
        )  # fmt: skip
        outputs.append(output)
        finals.append(final)
    return rows.join(outputs), rows.join_states(finals)


def _for_rows(weight: Tensor, count: int) -> Tensor:
    """The weight [count, ..] once for each row; its gradient is kept."""
    copies = weight.orig_weight.detach().expand(count, *weight.shape).requires_grad_()
    copies.register_hook(lambda grad: _keep(weight, grad))
    return copies


def _keep(weight: Tensor, samples: Tensor) -> None:
    if isinstance(weight, ExpandedWeight):
        set_grad_sample(weight, lambda _: samples)


if ExpandedWeight:
    # What callers ask of a weight. dtype, shape and device torch's own class answers.
    for _getter in (Tensor.is_cpu.__get__, Tensor.requires_grad.__get__):
        implements_per_sample_grads(_getter)(_Handler(lambda get, w, *_: get(_plain(w))))

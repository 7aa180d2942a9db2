"""Heads as directions: a layer in N heads is D*N dense ones of H/N units that share their rows.

Heads know nothing of each other, as directions do not. So the ops of a layer without heads run, on
the weights and states of each direction's heads one after the other; a program of the scan's has
then one head of its batch rows. The weights are put in order, which are small, and so are their
gradients: input, output and what lies between the two scans are not moved, but for a projection
that comes ready from the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .. import cells, ops


class Heads:
    """One call's weights and states by head, and what comes back by direction again."""

    def __init__(
        self, cell: str, weights: Sequence[Tensor], directions: int, project: bool
    ) -> None:
        self.spec, self.project, self.D = cells.get(cell), project, directions.bit_count()
        self.count = len(weights) // self.D  # weights of a direction
        self.bits = ops.weight_bits(cell, len(weights), directions, project)[: self.count]
        self.N, _, self.own = weights[1 if project else 0].shape  # heads, units of each

    def _axis(self, bit: int, weight: Tensor) -> int:
        """Of a weight that is no W_hh, the axis with all units."""
        return weight.dim() - 1 if bit in (ops.NEED_PARAMS, ops.NEED_EXTRA) else 0

    def split(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """The weights of each head, those of a direction's heads one after the other."""
        found = []
        for d in range(self.D):
            kinds = []
            for bit, weight in zip(self.bits, weights[d * self.count : (d + 1) * self.count]):
                if bit == ops.WEIGHT_BITS[1]:  # W_hh
                    kinds.append(weight.unbind())
                    continue
                axis = self._axis(bit, weight)
                parts = weight.unflatten(axis, (-1, self.N, self.own)).unbind(axis + 1)
                kinds.append([p.flatten(axis, axis + 1) for p in parts])
            found += [w for of_head in zip(*kinds) for w in of_head]
        return found

    def join(self, gradients: Sequence[Tensor], needs: int) -> list[Tensor]:
        """Undoes `split`."""
        found = []
        for d in range(self.D):
            mine = gradients[d * self.N * self.count : (d + 1) * self.N * self.count]
            for i, bit in enumerate(self.bits):
                parts = mine[i :: self.count]
                axis = self._axis(bit, parts[0])
                if not needs & bit:
                    found.append(parts[0])
                elif bit == ops.WEIGHT_BITS[1]:
                    found.append(torch.stack(parts))
                else:
                    wide = [p.unflatten(axis, (-1, self.own)) for p in parts]
                    found.append(torch.stack(wide, axis + 1).flatten(axis, axis + 2))
        return found

    def split_states(self, states: Sequence[Tensor]) -> list[Tensor]:
        """[D, B, H] -> [D*N, B, H/N]"""
        return [s.unflatten(-1, (self.N, self.own)).transpose(1, 2).flatten(0, 1) for s in states]

    def join_states(self, states: Sequence[Tensor]) -> list[Tensor]:
        return [s.unflatten(0, (self.D, self.N)).transpose(1, 2).flatten(2) for s in states]

    def input(self, input: Tensor) -> Tensor:
        """A ready projection has the gates of each head together; any other input is as it was."""
        if self.project:
            return input
        return input.unflatten(-1, (-1, self.N, self.own)).transpose(-3, -2).flatten(-3)

    def grad_input(self, gradient: Tensor) -> Tensor:
        if self.project or not gradient.dim() > 1:  # or nobody wants it
            return gradient
        return gradient.unflatten(-1, (self.N, -1, self.own)).transpose(-3, -2).flatten(-3)

    def saved(self, saved: Tensor, heads: bool) -> Tensor:
        """What is saved, in the shape that the op promises, or in that of the heads."""
        if saved.dim() < 4:  # nothing is saved
            return saved
        lines, kept = saved.shape[1:3]
        return saved.contiguous().view(
            (self.D * self.N, lines, kept, self.own)
            if heads
            else (self.D, lines, kept, self.N * self.own)
        )


def forward(
    run: Callable, cell, input, weights, state, batch_sizes, resets, directions, project, save
) -> tuple[Tensor, list[Tensor], Tensor]:
    """`fastrnn::forward` of a cell with heads; run: that of a cell without."""
    heads = Heads(cell, weights, directions, project)
    output, final, saved = run(
        cell, heads.input(input), heads.split(weights), heads.split_states(state), batch_sizes,
        resets, directions, project, save,
    )  # fmt: skip
    return output, heads.join_states(final), heads.saved(saved, False)


def backward(
    run: Callable, cell, grad_output, grad_final, input, weights, state, output, saved,
    batch_sizes, resets, directions, project, needs,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:  # fmt: skip
    """`fastrnn::backward`, likewise."""
    heads = Heads(cell, weights, directions, project)
    grad_input, grad_weights, grad_state = run(
        cell, grad_output, heads.split_states(grad_final), heads.input(input),
        heads.split(weights), heads.split_states(state), output, heads.saved(saved, True),
        batch_sizes, resets, directions, project, needs,
    )  # fmt: skip
    return (
        heads.grad_input(grad_input),
        heads.join(grad_weights, needs),
        heads.join_states(grad_state),
    )

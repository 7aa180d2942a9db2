"""The derivatives of the flat ops of graph.py: of forward by backward, of that by the reference."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from . import cells, ops, reference


def sizes_of(cell, input, weights, state, directions, project) -> tuple[int, ...]:
    """S, D, B, H of a call's stacked states."""
    d = 2 if directions == reference.BOTH else 1
    b = input.shape[1] if state is None else state.shape[2]
    spec = cells.get(cell)
    return spec.states, d, b, cells.units(spec, input, weights, project)


def stacked(state: Sequence[Tensor]) -> Tensor:
    """S states as [S, D, B, H]: zeros follow a projected h."""
    first, more = state[0], state[-1].shape[-1] - state[0].shape[-1]
    return torch.stack((F.pad(first, (0, more)) if more else first, *state[1:]))


def unstacked(states: Tensor, p: int) -> tuple[Tensor, ...]:
    """The S states of [S, D, B, H]; p: numbers of h."""
    first, *rest = states.unbind()
    return first if p == first.shape[-1] else first[..., :p], *rest


class Scan(torch.autograd.Function):
    """The derivative of a flat forward op; below: that op below autograd; pair: both flat ops."""

    @staticmethod
    def forward(ctx, below, pair, settings, batch_sizes, resets, input, state, *weights):
        cell, directions, project, save = settings
        with torch.enable_grad():  # for the next of torch.func's levels
            output, final, saved = below(
                cell, input, weights, state, batch_sizes, resets, directions, project, save
            )
        ctx.settings, ctx.ops = settings, pair
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(saved)
        ctx.save_for_backward(batch_sizes, resets, output, saved, input, state, *weights)
        return output, final, saved

    @staticmethod
    def backward(ctx, grad_output, grad_final, _):
        cell, directions, project, save = ctx.settings
        batch_sizes, resets, output, saved, input, state, *weights = ctx.saved_tensors
        need_input, need_state, *need_weights = ctx.needs_input_grad[5:]
        forward, backward = ctx.ops
        call = cell, input, weights, state, batch_sizes, resets, directions, project
        if save == ops.SAVE_NOTHING:
            with torch.no_grad():
                saved = forward(*call, ops.SAVE_ALL)[2]
        bits = ops.weight_bits(cell, len(weights), directions, project)
        needs = ops.NEED_INPUT * need_input | ops.NEED_STATE * need_state
        for bit, need in zip(bits, need_weights):
            needs |= bit * need
        grad_input, *kinds, grad_state = backward(
            cell, grad_output, grad_final, input, weights, state, output, saved, batch_sizes,
            resets, directions, project, needs,
        )  # fmt: skip
        grad_weights = zip(_by_weight(kinds, bits, directions, needs), need_weights)
        return (
            *[None] * 5,
            grad_input if need_input else None,
            grad_state if need_state else None,
            *(g if need else None for g, need in grad_weights),
        )


class Gradient(torch.autograd.Function):
    """The derivative of a flat backward op, through the reference."""

    @staticmethod
    def forward(ctx, backward, settings, batch_sizes, resets, saved, output, *differentiable):
        cell, directions, project, needs = settings
        grad_output, grad_final, input, state, *weights = differentiable
        ctx.settings = settings
        ctx.save_for_backward(batch_sizes, resets, output, *differentiable)
        with torch.enable_grad():
            return backward(
                cell, grad_output, grad_final, input, weights, state, output, saved, batch_sizes,
                resets, directions, project, needs,
            )  # fmt: skip

    @staticmethod
    def backward(ctx, grad_input, *rest):
        cell, directions, project, needs = ctx.settings
        *kinds, grad_state = rest
        batch_sizes, resets, output, *differentiable = ctx.saved_tensors
        grad_output, grad_final, input, state, *weights = differentiable
        sizes = sizes_of(cell, input, weights, state, directions, project)
        state, grad_final = (
            input.new_zeros(sizes) if t is None else t for t in (state, grad_final)
        )
        grad_output = torch.zeros_like(output) if grad_output is None else grad_output
        p = cells.hidden(cells.get(cell), input, weights, project)

        def primal(input, state, *weights):
            output, final = reference.in_its_precision(
                cell, input, weights, unstacked(state, p), batch_sizes, resets, directions, project
            )
            return output, stacked(final)

        bits = ops.weight_bits(cell, len(weights), directions, project)
        grads = [
            grad_input if needs & ops.NEED_INPUT else None,
            grad_state if needs & ops.NEED_STATE else None,
            *_by_weight(kinds, bits, directions, needs),
        ]
        derivatives = reference.second_derivatives(
            primal, (grad_output, grad_final), (input, state, *weights), grads
        )
        needed = ctx.needs_input_grad[6:]
        return *[None] * 6, *(g if need else None for g, need in zip(derivatives, needed))


def _by_weight(
    kinds: Sequence[Tensor], bits: Sequence[int], directions: int, needs: int
) -> list[Tensor | None]:
    """The gradient of each weight, from those of each kind [D, ..]."""
    of = dict(zip(ops.KIND_BITS, kinds))
    count = len(bits) // (2 if directions == reference.BOTH else 1)
    return [of[bit][i // count] if needs & bit else None for i, bit in enumerate(bits)]

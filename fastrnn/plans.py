"""A scan's plan, and the kernels called by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from . import ops, reference, signals
from .backends import Backend


class Plan(NamedTuple):
    """What a scan does, apart from its tensors."""

    cell: str
    backend: Backend
    directions: int
    project: bool
    weights: int  # of the differentiable tensors (input, *weights, *state)
    save: int  # what forward saves; SAVE_NOTHING: backward runs it again
    single: bool = False  # one step: input [B, I], states [B, H]


def forward(plan: Plan, batch_sizes, resets, input, tensors) -> tuple:
    """(output, S final states, saved) by the forward kernel."""
    weights, state = tensors[: plan.weights], tensors[plan.weights :]
    try:
        return plan.backend.forward(
            plan.cell, input, weights, state, batch_sizes, resets, plan.directions, plan.project,
            plan.save,
        )  # fmt: skip
    except RuntimeError as error:
        signals.raise_handlers(error)
        raise


def needed(plan: Plan, need_input: bool, need: Sequence[bool]) -> int:
    """The ops' bit mask; need: of (*weights, *state)."""
    needs = ops.NEED_INPUT * need_input
    if True in need[plan.weights :]:
        needs |= ops.NEED_STATE
    if False not in need[: plan.weights]:
        return needs | ops.NEED_WEIGHTS
    d = 2 if plan.directions == reference.BOTH else 1
    for bit, needed in zip(ops.weight_bits(plan.weights // d, plan.project) * d, need):
        needs |= bit * needed
    return needs


def final_zeros(plan: Plan, output: Tensor, input: Tensor, state: Sequence[Tensor]) -> Tensor:
    """Zeros in the shape of a final state."""
    if plan.single:
        return output.new_zeros(output.shape)
    d = 2 if plan.directions == reference.BOTH else 1
    b = (state[0] if state else input).shape[1]
    return output.new_zeros(d, b, output.shape[-1] // d)


def gradient(
    plan: Plan, needs: int, finals: int, batch_sizes, resets, output, saved, grad_output, *rest
) -> tuple[Tensor, ...]:
    """Gradients of (input, *weights, *state) by the backward kernel, of what `needs` says.

    rest: gradients of `finals` final states, input, weights, state
    """
    split = finals + 1 + plan.weights
    grad_final, input = rest[:finals], rest[finals]
    weights, state = rest[finals + 1 : split], rest[split:]
    if plan.save == ops.SAVE_NOTHING:
        again = plan._replace(save=ops.SAVE_ALL)
        _, _, saved = forward(again, batch_sizes, resets, input, (*weights, *state))
    try:
        grad_input, grad_weights, grad_state = plan.backend.backward(
            plan.cell, grad_output, grad_final, input, weights, state, output, saved,
            batch_sizes, resets, plan.directions, plan.project, needs,
        )  # fmt: skip
    except RuntimeError as error:
        signals.raise_handlers(error)
        raise
    return grad_input, *grad_weights, *grad_state

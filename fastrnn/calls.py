"""A call of a scan, apart from its tensors, and the kernels that serve it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from . import cells, ops, reference, signals
from .backends import Backend


class Call(NamedTuple):
    """What a scan does, apart from its tensors."""

    cell: str
    backend: Backend
    directions: int
    project: bool
    weights: int  # of the differentiable tensors (input, *weights, *state)
    save: int  # what forward saves; SAVE_NOTHING: backward runs it again
    single: bool = False  # one step: input [B, I], states [B, H]


def forward(call: Call, batch_sizes, resets, input, tensors) -> tuple:
    """(output, S final states, saved) by the forward kernel."""
    weights, state = tensors[: call.weights], tensors[call.weights :]
    try:
        return call.backend.forward(
            call.cell, input, weights, state, batch_sizes, resets, call.directions, call.project,
            call.save,
        )  # fmt: skip
    except RuntimeError as error:
        signals.raise_handlers(error)
        raise


def needed(call: Call, need_input: bool, need: Sequence[bool]) -> int:
    """The ops' bit mask; need: of (*weights, *state)."""
    needs = ops.NEED_INPUT * need_input
    if True in need[call.weights :]:
        needs |= ops.NEED_STATE
    if False not in need[: call.weights]:
        return needs | ops.NEED_WEIGHTS
    bits = ops.weight_bits(call.cell, call.weights, call.directions, call.project)
    for bit, needed in zip(bits, need):
        needs |= bit * needed
    return needs


def final_zeros(call: Call, input: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Zeros in the shapes of the final states; tensors: (*weights, *state)."""
    weights, state, spec = tensors[: call.weights], tensors[call.weights :], cells.get(call.cell)
    size = (input.shape[0],)
    if not call.single:
        b = (state[0] if state else input).shape[1]
        size = (2 if call.directions == reference.BOTH else 1, b)
    h, p = (f(spec, input, weights, call.project) for f in (cells.units, cells.hidden))
    first = input.new_zeros(*size, p)
    rest = first if p == h else input.new_zeros(*size, h)
    return [first, *[rest] * (spec.states - 1)]


def gradient(
    call: Call, needs: int, finals: int, batch_sizes, resets, output, saved, grad_output, *rest
) -> tuple[Tensor, ...]:
    """Gradients of (input, *weights, *state) by the backward kernel, of what `needs` says.

    rest: gradients of `finals` final states, input, weights, state
    """
    split = finals + 1 + call.weights
    grad_final, input = rest[:finals], rest[finals]
    weights, state = rest[finals + 1 : split], rest[split:]
    if call.save == ops.SAVE_NOTHING:
        again = call._replace(save=ops.SAVE_ALL)
        _, _, saved = forward(again, batch_sizes, resets, input, (*weights, *state))
    try:
        grad_input, grad_weights, grad_state = call.backend.backward(
            call.cell, grad_output, grad_final, input, weights, state, output, saved,
            batch_sizes, resets, call.directions, call.project, needs,
        )  # fmt: skip
    except RuntimeError as error:
        signals.raise_handlers(error)
        raise
    return grad_input, *grad_weights, *grad_state

"""The scan as a differentiable function: the grad guard, backward, double backward, torch.func.

One implementation under two forms of `autograd.Function`: the ctx form costs a third of the
setup_context form per call, which alone can be transformed by `torch.func`. First derivatives are
kernels; second derivatives and forward mode differentiate the reference scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from . import cells, ops, reference


class Plan(NamedTuple):
    """What a scan does, apart from its tensors."""

    cell: str
    backend: str
    directions: int
    project: bool
    states: int  # S: the last S of the differentiable tensors are the initial states
    save: int  # what forward saves; SAVE_NOTHING: backward runs it again


def recurrent_scan(
    cell: str,
    input: Tensor,  # [T, B, I] or packed [N, I]; project=False: the ready gx [.., G*H]
    weights: Sequence[Tensor],  # for each direction in torch.nn's order
    state: Sequence[Tensor] | None,  # S tensors [D, B, H]; None, for a dense input: zeros
    batch_sizes: Tensor | None,  # [T] int64 on the CPU
    resets: Tensor | None,  # [T, B] or [N] bool
    directions: int,
    project: bool,
    backend: str,
    recompute_gates: bool = False,
) -> tuple[Tensor, Sequence[Tensor]]:
    """One layer on a backend that `ops.choose` returned: (output, S final states)."""
    grad = torch.is_grad_enabled()
    transformed = forward_mode = False
    if not torch.compiler.is_compiling():
        transformed = torch._C._are_functorch_transforms_active()
        forward_mode = forward_ad._current_level >= 0 or (transformed and _under_jvp())
    if state is None:
        inside = not (grad or transformed or forward_mode) and ops.knows_zeros(backend, input)
        state = () if inside else _zeros(cell, input, weights, directions)
    if backend == "reference":
        return reference.forward(
            cell, input, weights, state, batch_sizes, resets, directions, project
        )
    if forward_mode:
        return _reference(cell, input, weights, state, batch_sizes, resets, directions, project)
    if grad and (
        input.requires_grad
        or any([w.requires_grad for w in weights])
        or any([s.requires_grad for s in state])
        or transformed
    ):
        save = ops.SAVE_ALL
        if recompute_gates and cells.get(cell).saved > 0:
            save = ops.SAVE_PARTIAL if ops.recomputes(backend, input) else ops.SAVE_NOTHING
        plan = Plan(cell, backend, directions, project, len(state), save)
        tensors = (input, *weights, *state)
        if torch.compiler.is_compiling():
            tensors = _distinct(tensors)
        function = TransformableScan if transformed else RecurrentScan
        result = function.apply(plan, batch_sizes, resets, *tensors)
        return result[0], result[1 : 1 + len(state)]
    output, final, _ = ops.kernels(backend)[0](
        cell, input, weights, state, batch_sizes, resets, directions, project, ops.SAVE_NOTHING
    )
    return output, final


def _zeros(
    cell: str, input: Tensor, weights: Sequence[Tensor], directions: int
) -> tuple[Tensor, ...]:
    """Initial states for a dense input: S tensors [D, B, H], the first [D, B, P] if projected."""
    spec = cells.get(cell)
    d, b = 2 if directions == reference.BOTH else 1, input.shape[1]
    h, p = weights[0].shape[0] // spec.gates, weights[1].shape[1]
    h0 = input.new_zeros(d, b, p)
    return (h0, *(h0 if p == h else input.new_zeros(d, b, h) for _ in range(1, spec.states)))


def _distinct(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors, with views for repeated ones (tied weights, h = c): Dynamo refuses those."""
    distinct: list[Tensor] = []
    for tensor in tensors:
        repeated = any([tensor is other for other in distinct])
        distinct.append(tensor.view_as(tensor) if repeated else tensor)
    return distinct


def _reference(cell, input, weights, state, *rest) -> tuple[Tensor, list[Tensor]]:
    """The reference scan in the precision it computes in, results in that of the input."""
    compute = ops.compute_dtype(input.dtype, input.device.type, "reference")
    weights, state = [w.to(compute) for w in weights], [s.to(compute) for s in state]
    output, final = reference.forward(cell, input.to(compute), weights, state, *rest)
    return output.to(input.dtype), [f.to(input.dtype) for f in final]


def _under_jvp() -> bool:
    """Whether a torch.func transform of forward mode is active, at any depth."""
    jvp = torch._C._functorch.TransformType.Jvp
    return any(i.key() == jvp for i in torch._C._functorch.get_interpreter_stack())


def _forward(plan: Plan, batch_sizes, resets, input, tensors) -> tuple[Tensor, ...]:
    weights, state = tensors[: -plan.states], tensors[-plan.states :]
    output, final, saved = ops.kernels(plan.backend)[0](
        plan.cell, input, weights, state, batch_sizes, resets, plan.directions, plan.project,
        plan.save,
    )  # fmt: skip
    return output, *final, saved


def _backward(ctx, grad_output: Tensor, grad_final: Sequence[Tensor]) -> tuple:
    """Gradients of (plan, batch_sizes, resets, input, *weights, *state)."""
    plan = ctx.plan
    batch_sizes, resets, output, saved, *primals = ctx.saved_tensors
    needs = ctx.needs_input_grad[3:]
    arguments = (batch_sizes, resets, output, saved, grad_output, *grad_final, *primals)
    # Grad mode is on here only where somebody asks for derivatives of these gradients.
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        grads = ScanGradient.apply(plan, needs[0], *arguments)
    else:
        grads = _kernel_gradient(plan, needs[0], *arguments)
    return None, None, None, *(g if need else None for g, need in zip(grads, needs))


def _kernel_gradient(
    plan: Plan, need_input: bool, batch_sizes, resets, output, saved, grad_output, *rest
) -> tuple[Tensor, ...]:
    """Gradients of (input, *weights, *state) by the backward kernel."""
    grad_final, (input, *primals) = rest[: plan.states], rest[plan.states :]
    weights, state = primals[: -plan.states], primals[-plan.states :]
    if plan.save == ops.SAVE_NOTHING:
        _, _, saved = ops.kernels(plan.backend)[0](
            plan.cell, input, weights, state, batch_sizes, resets, plan.directions, plan.project,
            ops.SAVE_ALL,
        )  # fmt: skip
    grad_input, grad_weights, grad_state = ops.kernels(plan.backend)[1](
        plan.cell, grad_output, grad_final, input, weights, state, output, saved,
        batch_sizes, resets, plan.directions, plan.project, need_input,
    )  # fmt: skip
    return grad_input, *grad_weights, *grad_state


class RecurrentScan(torch.autograd.Function):
    """The ctx form: eager training and torch.compile."""

    @staticmethod
    def forward(ctx, plan, batch_sizes, resets, input, *tensors):
        *results, saved = _forward(plan, batch_sizes, resets, input, tensors)
        ctx.plan = plan
        ctx.save_for_backward(batch_sizes, resets, results[0], saved, input, *tensors)
        return tuple(results)

    @staticmethod
    def backward(ctx, grad_output, *grad_final):
        return _backward(ctx, grad_output, grad_final)


class TransformableScan(torch.autograd.Function):
    """The setup_context form: torch.func transforms. `saved` has to be an output here."""

    generate_vmap_rule = True

    @staticmethod
    def forward(plan, batch_sizes, resets, input, *tensors):
        return _forward(plan, batch_sizes, resets, input, tensors)

    @staticmethod
    def setup_context(ctx, inputs, outputs):
        plan, batch_sizes, resets, *primals = inputs
        ctx.plan = plan
        ctx.mark_non_differentiable(outputs[-1])
        ctx.save_for_backward(batch_sizes, resets, outputs[0], outputs[-1], *primals)

    @staticmethod
    def backward(ctx, grad_output, *grad_rest):
        return _backward(ctx, grad_output, grad_rest[:-1])


class ScanGradient(torch.autograd.Function):
    """The backward kernel as a function that can be differentiated, through the reference."""

    generate_vmap_rule = True

    @staticmethod
    def forward(plan, need_input, *arguments):
        return _kernel_gradient(plan, need_input, *arguments)

    @staticmethod
    def setup_context(ctx, inputs, outputs):
        plan, need_input, batch_sizes, resets, _, _, *differentiable = inputs
        ctx.plan, ctx.need_input = plan, need_input
        ctx.save_for_backward(batch_sizes, resets, *differentiable)

    @staticmethod
    def backward(ctx, *grads):
        plan = ctx.plan
        batch_sizes, resets, *differentiable = ctx.saved_tensors
        split = 1 + plan.states

        def primal(input, *tensors):
            weights, state = tensors[: -plan.states], tensors[-plan.states :]
            output, final = _reference(
                plan.cell, input, weights, state, batch_sizes, resets, plan.directions, plan.project
            )
            return output, *final

        def gradient(*tensors):
            _, vjp = torch.func.vjp(primal, *tensors[split:])
            return vjp(tuple(tensors[:split]))

        if not ctx.need_input:
            grads = (torch.zeros_like(differentiable[split]), *grads[1:])
        _, vjp = torch.func.vjp(gradient, *differentiable)
        return None, None, None, None, None, None, *vjp(tuple(grads))

"""The scan as a differentiable function: the grad guard, backward, double backward, torch.func.

One implementation under two forms of `autograd.Function`: the ctx form costs a third of the
setup_context form per call, which alone can be transformed by `torch.func`. First derivatives are
kernels; second derivatives and forward mode differentiate the reference scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
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
    weights: int  # of the differentiable tensors (input, *weights, *state)
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
    grad, compiling = torch.is_grad_enabled(), torch.compiler.is_compiling()
    transformed = forward_mode = False
    if not compiling:
        transformed = torch._C._are_functorch_transforms_active()
        forward_mode = forward_ad._current_level >= 0 or (transformed and _under_jvp())
    if state is None:
        known = ops.knows_zeros(backend, input)
        state = () if known else _zeros(cell, input, weights, directions)
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
        plan = Plan(cell, backend, directions, project, len(weights), save)
        tensors = (input, *weights, *state)
        if transformed:
            output, *final, _ = TransformableScan.apply(plan, batch_sizes, resets, *tensors)
        elif compiling:
            output, *final = RecurrentScan.apply(plan, batch_sizes, resets, *_distinct(tensors))
        else:
            output, *final = _apply(plan, batch_sizes, resets, *tensors)
        return output, final
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


def _reference(
    cell, input, weights, state, batch_sizes, resets, directions, project
) -> tuple[Tensor, list[Tensor]]:
    """The reference scan in the precision it computes in, results in that of the input."""
    compute = ops.compute_dtype(input.dtype, input.device.type, "reference")
    state = state or _zeros(cell, input, weights, directions)
    weights, state = [w.to(compute) for w in weights], [s.to(compute) for s in state]
    output, final = reference.forward(
        cell, input.to(compute), weights, state, batch_sizes, resets, directions, project
    )
    return output.to(input.dtype), [f.to(input.dtype) for f in final]


def _under_jvp() -> bool:
    """Whether a torch.func transform of forward mode is active, at any depth."""
    jvp = torch._C._functorch.TransformType.Jvp
    return any(i.key() == jvp for i in torch._C._functorch.get_interpreter_stack())


def _forward(plan: Plan, batch_sizes, resets, input, tensors) -> tuple:
    """(output, S final states, saved) by the forward kernel."""
    weights, state = tensors[: plan.weights], tensors[plan.weights :]
    return ops.kernels(plan.backend)[0](
        plan.cell, input, weights, state, batch_sizes, resets, plan.directions, plan.project,
        plan.save,
    )  # fmt: skip


def _backward(ctx, grad_output: Tensor | None, grad_final: Sequence[Tensor | None]) -> tuple:
    """Gradients of (plan, batch_sizes, resets, input, *weights, *state); None stands for zeros."""
    plan = ctx.plan
    batch_sizes, resets, output, saved, input, *tensors = ctx.saved_tensors
    needs = ctx.needs_input_grad[3:]
    need_state = True in needs[1 + plan.weights :]
    # Grad mode is on here only where somebody asks for derivatives of these gradients.
    twice = torch.is_grad_enabled() and not torch.compiler.is_compiling()
    if grad_output is None:
        grad_output = torch.zeros_like(output)
    given = [g for g in grad_final if g is not None]
    if len(given) < len(grad_final):
        if given or twice or not ops.knows_zeros(plan.backend, input):
            given = _without_gaps(plan, grad_final, output, input, tensors[plan.weights :])
    gradient = ScanGradient.apply if twice else _kernel_gradient
    grads = gradient(
        plan, needs[0], need_state, len(given), batch_sizes, resets, output, saved, grad_output,
        *given, input, *tensors,
    )  # fmt: skip
    return None, None, None, *[g if need else None for g, need in zip_longest(grads, needs)]


def _without_gaps(
    plan: Plan, grad_final, output: Tensor, input: Tensor, state: Sequence[Tensor]
) -> list[Tensor]:
    """The final states' gradients, with zeros [D, B, H] for those that are None."""
    d = 2 if plan.directions == reference.BOTH else 1
    b = (state[0] if state else input).shape[1]
    zeros = output.new_zeros(d, b, output.shape[-1] // d)
    return [zeros if g is None else g for g in grad_final]


def _kernel_gradient(
    plan: Plan, need_input: bool, need_state: bool, finals: int, batch_sizes, resets, output, saved,
    grad_output, *rest,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Gradients of (input, *weights, *state) by the backward kernel, of `state` if needed.

    rest: gradients of `finals` final states, input, weights, state
    """
    split = finals + 1 + plan.weights
    grad_final, input = rest[:finals], rest[finals]
    weights, state = rest[finals + 1 : split], rest[split:]
    if plan.save == ops.SAVE_NOTHING:
        again = plan._replace(save=ops.SAVE_ALL)
        _, _, saved = _forward(again, batch_sizes, resets, input, (*weights, *state))
    grad_input, grad_weights, grad_state = ops.kernels(plan.backend)[1](
        plan.cell, grad_output, grad_final, input, weights, state, output, saved,
        batch_sizes, resets, plan.directions, plan.project, need_input, need_state,
    )  # fmt: skip
    return grad_input, *grad_weights, *grad_state


class RecurrentScan(torch.autograd.Function):
    """The ctx form: eager training and torch.compile."""

    @staticmethod
    def forward(ctx, plan, batch_sizes, resets, input, *tensors):
        output, final, saved = _forward(plan, batch_sizes, resets, input, tensors)
        ctx.plan = plan
        if not torch.compiler.is_compiling():
            ctx.set_materialize_grads(False)
        ctx.save_for_backward(batch_sizes, resets, output, saved, input, *tensors)
        return output, *final

    @staticmethod
    def backward(ctx, grad_output, *grad_final):
        return _backward(ctx, grad_output, grad_final)


# RecurrentScan.apply without what torch.func needs of it, which takes 2 us a call.
_apply = super(torch.autograd.Function, RecurrentScan).apply


class TransformableScan(torch.autograd.Function):
    """The setup_context form: torch.func transforms. `saved` has to be an output here."""

    generate_vmap_rule = True

    @staticmethod
    def forward(plan, batch_sizes, resets, input, *tensors):
        output, final, saved = _forward(plan, batch_sizes, resets, input, tensors)
        return output, *final, saved

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
    def forward(plan, need_input, need_state, finals, *arguments):
        return _kernel_gradient(plan, need_input, need_state, finals, *arguments)

    @staticmethod
    def setup_context(ctx, inputs, outputs):
        plan, need_input, _, finals, batch_sizes, resets, _, _, *differentiable = inputs
        ctx.plan, ctx.need_input, ctx.split = plan, need_input, 1 + finals
        ctx.save_for_backward(batch_sizes, resets, *differentiable)

    @staticmethod
    def backward(ctx, *grads):
        plan, split = ctx.plan, ctx.split
        batch_sizes, resets, *differentiable = ctx.saved_tensors
        primals = differentiable[split:]

        def primal(input, *tensors):
            output, final = _reference(
                plan.cell, input, tensors[: plan.weights], tensors[plan.weights :], batch_sizes,
                resets, plan.directions, plan.project,
            )  # fmt: skip
            return output, *final

        def gradient(*tensors):
            _, vjp = torch.func.vjp(primal, *tensors[split:])
            return vjp(tuple(tensors[:split]))

        # What forward did not compute has no gradient to pass on.
        unwanted = [torch.zeros_like(p) for p in primals[len(grads) :]]
        if not ctx.need_input:
            grads = (torch.zeros_like(primals[0]), *grads[1:])
        _, vjp = torch.func.vjp(gradient, *differentiable)
        return *[None] * 8, *vjp((*grads, *unwanted))

"""The scan as a differentiable function: the grad guard, backward, double backward, torch.func.

One implementation under two forms of `autograd.Function`: the ctx form costs a third of the
setup_context form per call, which alone can be transformed by `torch.func`. First derivatives are
kernels; second derivatives and forward mode differentiate the reference scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import torch
from torch import Tensor

from . import calls, cells, graph, ops, reference, signals, torch_private, transforms
from .backends import Backend
from .calls import Call


def recurrent_scan(
    cell: str,
    input: Tensor,  # [T, B, I] or packed [N, I]; project=False: the ready gx [.., G*H]
    weights: Sequence[Tensor],  # for each direction in torch.nn's order, then the cell's params
    state: Sequence[Tensor] | None,  # S tensors [D, B, H]; None, for a dense input: zeros
    batch_sizes: Tensor | None,  # [T] int64 on the CPU
    resets: Tensor | None,  # [T, B] or [N] bool
    directions: int,
    project: bool,
    backend: Backend,
    recompute_gates: bool = False,
) -> tuple[Tensor, Sequence[Tensor]]:
    """One layer on a backend that `backends.choose` returned: (output, S final states)."""
    compiling = torch.compiler.is_compiling()
    forward_mode, transformed, functionalized = transforms.active(compiling)
    if backend.in_torch or forward_mode:
        state = reference.zeros(cell, input, weights, directions) if state is None else state
        return reference.in_its_precision(
            cell, input, weights, state, batch_sizes, resets, directions, project
        )
    wanted = torch.is_grad_enabled() and (
        input.requires_grad
        or any([w.requires_grad for w in weights])
        or any([s.requires_grad for s in state or ()])
        or transformed
    )
    save = ops.SAVE_ALL if wanted else ops.SAVE_NOTHING
    if wanted and recompute_gates and cells.get(cell).saved > 0:
        save = ops.SAVE_PARTIAL if backend.recomputes else ops.SAVE_NOTHING
    if compiling or functionalized:
        if torch.compiler.is_exporting():  # most exported programs are not trained
            save = ops.SAVE_NOTHING
        return graph.scan(
            backend, cell, input, weights, state, batch_sizes, resets, directions, project, save
        )
    if state is None:
        state = () if backend.knows_zeros else reference.zeros(cell, input, weights, directions)
    if wanted:
        call = Call(cell, backend, directions, project, len(weights), save)
        tensors = (input, *weights, *state)
        if transformed:
            output, *final, _ = TransformableScan.apply(call, batch_sizes, resets, *tensors)
        else:
            output, *final = _apply(call, batch_sizes, resets, *tensors)
        return output, final
    try:
        output, final, _ = backend.forward(
            cell, input, weights, state, batch_sizes, resets, directions, project, save
        )
    except RuntimeError as error:
        signals.raise_handlers(error)
        raise
    return output, final


def single_step(
    cell: str,
    input: Tensor,  # [B, I]
    weights: Sequence[Tensor],  # likewise
    state: Sequence[Tensor] | None,  # S tensors [B, H]; None: zeros
    backend: Backend,
) -> Sequence[Tensor]:
    """One step of a cell on a backend that `backends.choose` returned: S next states [B, H]."""
    compiling = torch.compiler.is_compiling()
    if compiling or True in transforms.active(compiling) or not backend.steps:
        state = None if state is None else [s.unsqueeze(0) for s in state]
        _, final = recurrent_scan(
            cell, input.unsqueeze(0), weights, state, None, None, reference.FORWARD, True, backend
        )
        return [s[0] for s in final]
    state = () if state is None else state
    if torch.is_grad_enabled() and (
        input.requires_grad
        or any([w.requires_grad for w in weights])
        or any([s.requires_grad for s in state])
    ):
        call = Call(cell, backend, reference.FORWARD, True, len(weights), ops.SAVE_ALL, True)
        return _apply_step(call, input, *weights, *state)
    return backend.forward(
        cell, input, weights, state, None, None, reference.FORWARD, True, ops.SAVE_NOTHING
    )[1]


def _backward(ctx, grad_output: Tensor | None, grad_final: Sequence[Tensor | None]) -> tuple:
    """Gradients of (input, *weights, *state); None stands for zeros."""
    call = ctx.call
    batch_sizes, resets, output, saved, input, *tensors = ctx.saved_tensors
    need_input, *need = ctx.needs_input_grad[-1 - len(tensors) :]
    watch = getattr(ctx, "watch", None)
    if watch is not None and watch._version != ctx.version:  # output was changed: a new one
        again = call._replace(save=call.save or ops.SAVE_ALL)
        output, _, saved = calls.forward(again, batch_sizes, resets, input, tensors)
    # Grad mode is on here only where somebody asks for derivatives of these gradients.
    twice = torch.is_grad_enabled()
    if grad_output is None and twice:
        grad_output = torch.zeros_like(output)
    given = [g for g in grad_final if g is not None]
    if len(given) < len(grad_final):
        if given or twice or not call.backend.knows_zeros:
            zeros = calls.final_zeros(call, input, tensors)
            given = [z if g is None else g for z, g in zip(zeros, grad_final)]
    backward = ScanGradient.apply if twice else calls.gradient
    grads = backward(
        call, calls.needed(call, need_input, need), len(given), batch_sizes, resets, output, saved,
        grad_output, *given, input, *tensors,
    )  # fmt: skip
    return tuple([g if n else None for g, n in zip_longest(grads, (need_input, *need))])


class RecurrentScan(torch.autograd.Function):
    """The ctx form: eager training.

    The caller may change output in place. What is saved is output's memory, under another version
    counter; `watch` has output's counter and none of its memory, and tells backward.
    """

    @staticmethod
    def forward(ctx, call, batch_sizes, resets, input, *tensors):
        output, final, saved = calls.forward(call, batch_sizes, resets, input, tensors)
        ctx.call = call
        ctx.set_materialize_grads(False)
        kept = output
        if type(output) is Tensor and not output.is_meta:
            kept, ctx.watch, ctx.version = output.data, output.detach(), output._version
            ctx.watch.data = _NOTHING
        ctx.save_for_backward(batch_sizes, resets, kept, saved, input, *tensors)
        return output, *final

    @staticmethod
    def backward(ctx, grad_output, *grad_final):
        return None, None, None, *_backward(ctx, grad_output, grad_final)


class SingleStep(torch.autograd.Function):
    """RecurrentScan of one step, which returns the next states alone."""

    @staticmethod
    def forward(ctx, call, input, *tensors):
        output, final, saved = calls.forward(call, None, None, input, tensors)
        ctx.call = call
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(None, None, output, saved, input, *tensors)
        return tuple(final)

    @staticmethod
    def backward(ctx, *grad_final):
        return None, *_backward(ctx, None, grad_final)


_NOTHING = torch.empty(0)
_apply = torch_private.plain_apply(RecurrentScan)
_apply_step = torch_private.plain_apply(SingleStep)


class TransformableScan(torch.autograd.Function):
    """The setup_context form: torch.func transforms. `saved` has to be an output here."""

    generate_vmap_rule = True

    @staticmethod
    def forward(call, batch_sizes, resets, input, *tensors):
        output, final, saved = calls.forward(call, batch_sizes, resets, input, tensors)
        return output, *final, saved

    @staticmethod
    def setup_context(ctx, inputs, outputs):
        call, batch_sizes, resets, *primals = inputs
        ctx.call = call
        ctx.mark_non_differentiable(outputs[-1])
        ctx.save_for_backward(batch_sizes, resets, outputs[0], outputs[-1], *primals)

    @staticmethod
    def backward(ctx, grad_output, *grad_rest):
        return None, None, None, *_backward(ctx, grad_output, grad_rest[:-1])


class ScanGradient(torch.autograd.Function):
    """The backward kernel as a function that can be differentiated, through the reference."""

    generate_vmap_rule = True

    @staticmethod
    def forward(call, needs, finals, *arguments):
        return calls.gradient(call, needs, finals, *arguments)

    @staticmethod
    def setup_context(ctx, inputs, outputs):
        call, needs, finals, batch_sizes, resets, _, _, *differentiable = inputs
        ctx.call, ctx.needs, ctx.split = call, needs, 1 + finals
        ctx.save_for_backward(batch_sizes, resets, *differentiable)

    @staticmethod
    def backward(ctx, *grads):
        call, split, needs = ctx.call, ctx.split, ctx.needs
        batch_sizes, resets, *differentiable = ctx.saved_tensors
        primals = differentiable[split:]

        def primal(input, *tensors):
            weights, state = tensors[: call.weights], tensors[call.weights :]
            if call.single:
                input, state = input.unsqueeze(0), [s.unsqueeze(0) for s in state]
            state = state or reference.zeros(call.cell, input, weights, call.directions)
            output, final = reference.in_its_precision(
                call.cell, input, weights, state, batch_sizes, resets, call.directions, call.project
            )
            return (output[0], *(f[0] for f in final)) if call.single else (output, *final)

        # What the kernel did not compute has no gradient to pass on.
        bits = ops.weight_bits(call.cell, call.weights, call.directions, call.project)
        bits = (ops.NEED_INPUT, *bits, *[ops.NEED_STATE] * (len(primals) - 1 - call.weights))
        wanted = [g if needs & bit else None for g, bit in zip_longest(grads, bits)]
        return *[None] * 7, *reference.second_derivatives(
            primal, differentiable[:split], primals, wanted
        )

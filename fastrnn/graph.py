"""The ops that compiled and exported graphs hold: those of `ops`, without lists of results.

    fastrnn::forward_flat(str cell, Tensor input, Tensor[] weights, Tensor? state,
                          Tensor? batch_sizes, Tensor? resets, int directions, bool project,
                          int save)
        -> (Tensor output, Tensor final, Tensor saved)
    fastrnn::backward_flat(str cell, Tensor? grad_output, Tensor? grad_final, Tensor input,
                           Tensor[] weights, Tensor? state, Tensor output, Tensor saved,
                           Tensor? batch_sizes, Tensor? resets, int directions, bool project,
                           int needs)
        -> (Tensor grad_input, Tensor grad_w_ih, Tensor grad_w_hh, Tensor grad_b_ih,
            Tensor grad_b_hh, Tensor grad_params, Tensor grad_w_hr, Tensor grad_extra,
            Tensor grad_state)

state, final and their gradients are [S, D, B, H], where zeros follow a projected h; the weights'
gradients are [D, ..] by kind; None is zeros, and [0] is what nobody wanted. batch_sizes may be
lengths, whatever the backend: no value is known while a graph is made. Inductor's C++ code takes
neither empty lists nor lists of results. The derivative belongs to the op itself, so that an
exported program can be trained; where forward has saved nothing, it is run again. A backend with a
`prefix` has ops of its own, of the same schemas: `triton_forward_flat` and `triton_backward_flat`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from . import cells, flops, ops, ragged, reference, torch_private, transforms
from . import graph_derivatives as derivatives
from .backends.base import Backend
from .graph_derivatives import sizes_of, stacked, unstacked

_BEFORE = "Tensor input, Tensor[] weights, Tensor? state, "
_AFTER = "Tensor? batch_sizes, Tensor? resets, int directions, bool project, "
FORWARD_SCHEMA = (
    f"(str cell, {_BEFORE}{_AFTER}int save) -> (Tensor output, Tensor final, Tensor saved)"
)
BACKWARD_SCHEMA = (
    f"(str cell, Tensor? grad_output, Tensor? grad_final, {_BEFORE}Tensor output, Tensor saved, "
    f"{_AFTER}int needs) -> (Tensor grad_input, Tensor grad_w_ih, Tensor grad_w_hh, "
    "Tensor grad_b_ih, Tensor grad_b_hh, Tensor grad_params, Tensor grad_w_hr, Tensor grad_extra, "
    "Tensor grad_state)"
)


def scan(
    backend: Backend,
    cell: str,
    input: Tensor,
    weights: Sequence[Tensor],
    state: Sequence[Tensor] | None,
    batch_sizes: Tensor | None,
    resets: Tensor | None,
    directions: int,
    project: bool,
    save: int,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One layer as one op of a graph: (output, S final states)."""
    if torch_private.BELOW_AUTOGRAD is None and torch.is_grad_enabled():
        if any(t.requires_grad for t in (input, *weights, *(state or ()))):
            raise RuntimeError(
                "a compiled or exported fastrnn layer has no derivative with this torch: train it "
                "uncompiled, or call it under torch.no_grad()"
            )
    op = getattr(torch.ops.fastrnn, f"{backend.prefix}forward_flat").default
    output, final, _ = op(
        cell, input, weights, stacked(state) if state else None, batch_sizes, resets, directions,
        project, save,
    )  # fmt: skip
    return output, unstacked(final, cells.hidden(cells.get(cell), input, weights, project))


def _fake_forward(
    cell, input, weights, state, batch_sizes, resets, directions, project, save
) -> tuple[Tensor, Tensor, Tensor]:
    sizes = sizes_of(cell, input, weights, state, directions, project)
    states = input.new_empty(sizes) if state is None else state
    output, _, saved = ops.fake_forward(
        cell, input, weights, states.unbind(), batch_sizes, resets, directions, project, save
    )
    return output, input.new_empty(sizes), saved


def _fake_backward(
    cell, grad_output, grad_final, input, weights, state, output, saved, batch_sizes, resets,
    directions, project, needs,
) -> tuple[Tensor, ...]:  # fmt: skip
    d = 2 if directions == reference.BOTH else 1
    by_kind = dict(zip(ops.weight_bits(cell, len(weights), directions, project), weights))
    kinds = [
        input.new_empty((d, *by_kind[bit].shape) if bit in by_kind and needs & bit else 0)
        for bit in ops.KIND_BITS
    ]
    want_state = state is not None and needs & ops.NEED_STATE
    return (
        input.new_empty(input.shape if needs & ops.NEED_INPUT else 0),
        *kinds,
        input.new_empty(state.shape if want_state else 0),
    )


def _forward_by_lists(forward: Callable) -> Callable:
    """The flat forward of a backend whose own op returns lists."""

    def flat(
        cell, input, weights, state, batch_sizes, resets, directions, project, save
    ) -> tuple[Tensor, Tensor, Tensor]:
        sizes = sizes_of(cell, input, weights, state, directions, project)
        p = cells.hidden(cells.get(cell), input, weights, project)
        states = unstacked(input.new_zeros(sizes) if state is None else state, p)
        output, final, saved = forward(
            cell, input, weights, states, batch_sizes, resets, directions, project, save
        )
        return output, stacked(final), saved

    return flat


def _backward_by_lists(backward: Callable) -> Callable:
    """The flat backward, likewise."""

    def flat(
        cell, grad_output, grad_final, input, weights, state, output, saved, batch_sizes, resets,
        directions, project, needs,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        sizes = sizes_of(cell, input, weights, state, directions, project)
        p = cells.hidden(cells.get(cell), input, weights, project)
        states = unstacked(input.new_zeros(sizes) if state is None else state, p)
        finals = unstacked(input.new_zeros(sizes) if grad_final is None else grad_final, p)
        if state is None:
            needs &= ~ops.NEED_STATE
        grad_input, grad_weights, grad_state = backward(
            cell, grad_output, finals, input, weights, states, output, saved, batch_sizes, resets,
            directions, project, needs,
        )  # fmt: skip
        count = len(weights) // sizes[1]
        bits = ops.weight_bits(cell, len(weights), directions, project)[:count]
        kinds = {
            bit: torch.stack(grad_weights[i::count]) for i, bit in enumerate(bits) if needs & bit
        }
        return (
            grad_input,
            *(kinds[b] if b in kinds else input.new_empty(0) for b in ops.KIND_BITS),
            stacked(grad_state) if grad_state else input.new_empty(0),
        )

    return flat


def _apply(function: type[torch.autograd.Function], *arguments):
    """function.apply at the level of torch.func's transforms that the dispatcher is at."""
    with torch_private.one_level():
        return torch_private.plain_apply(function)(*arguments)


def differentiable(name: str, rule: Callable) -> None:
    """Gives an op its autograd kernel: rule(the op without one, *arguments)."""
    if torch_private.BELOW_AUTOGRAD is None:
        return  # scan() refuses what would need it
    op = getattr(torch.ops.fastrnn, name).default

    def kernel(keyset, *arguments):
        def below(*arguments):
            with torch_private.BELOW_AUTOGRAD():
                return op.redispatch(keyset & torch_private.AFTER_AUTOGRAD, *arguments)

        transforms.refuse_dual_numbers(f"an exported or compiled program's op {name}", arguments)
        if torch.is_grad_enabled() and torch_private.any_requires_grad(*arguments):
            return rule(below, *arguments)
        return below(*arguments)

    _LIBRARY.impl(name, kernel, "Autograd", with_keyset=True)


def _register(prefix: str) -> None:
    """Fakes, derivatives and vmap rules of a pair of flat ops."""
    forward, backward = f"{prefix}forward_flat", f"{prefix}backward_flat"
    fakes = (forward, _fake_forward, flops.forward), (backward, _fake_backward, flops.backward)
    for name, fake, formula in fakes:
        torch.library.register_fake(f"fastrnn::{name}", fake)
        op = getattr(torch.ops.fastrnn, name).default
        torch.library.register_vmap(f"fastrnn::{name}", ops.one_by_one(op))
        flops.count_by(formula, op)
    pair = [getattr(torch.ops.fastrnn, name).default for name in (forward, backward)]

    def scan_rule(
        below, cell, input, weights, state, batch_sizes, resets, directions, project, save
    ):
        settings = cell, directions, project, save
        return _apply(
            derivatives.Scan,
            below,
            pair,
            settings,
            batch_sizes,
            resets,
            input,
            state,
            *weights,
        )

    def gradient_rule(
        below, cell, grad_output, grad_final, input, weights, state, output, saved, batch_sizes,
        resets, directions, project, needs,
    ):  # fmt: skip
        settings = cell, directions, project, needs
        differentiable = grad_output, grad_final, input, state, *weights
        return _apply(
            derivatives.Gradient,
            below,
            settings,
            batch_sizes,
            resets,
            saved,
            output,
            *differentiable,
        )

    differentiable(forward, scan_rule)
    differentiable(backward, gradient_rule)


_LIBRARY = torch.library.Library("fastrnn", "FRAGMENT")


def _implement(prefix: str, devices: Sequence[str], forward: Callable, backward: Callable) -> None:
    forward, backward = ragged.forward_by_packing(forward), ragged.backward_by_packing(backward)
    for device in devices:
        _LIBRARY.impl(f"{prefix}forward_flat", _forward_by_lists(forward), device)
        _LIBRARY.impl(f"{prefix}backward_flat", _backward_by_lists(backward), device)


def define(prefix: str, devices: Sequence[str], forward: Callable, backward: Callable) -> None:
    """Defines the flat ops of a backend that has the two ops with lists; devices: "CPU", "CUDA"."""
    _LIBRARY.define(f"{prefix}forward_flat" + FORWARD_SCHEMA)
    _LIBRARY.define(f"{prefix}backward_flat" + BACKWARD_SCHEMA)
    _implement(prefix, devices, forward, backward)
    _register(prefix)


if ops.NATIVE_BUILT:
    _register("")
    if ops.BUILD_INFO["cuda_archs"]:
        _implement("", ("CUDA",), torch.ops.fastrnn.forward, torch.ops.fastrnn.backward)

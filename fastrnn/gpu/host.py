"""The ops `fastrnn::forward` and `fastrnn::backward` of a GPU backend, around its scan.

Whole-sequence GEMMs stand around the two scans: the input projection before the one, the gradients
of weights and input after the other. All of it is the same for every backend.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import cells, extras, ops, torch_private
from . import heads
from . import layer as layers
from .layer import Layer


class Scan(Protocol):
    """What a backend brings: the walk over the steps of a layer with N > 0 lines."""

    def forward(self, layer: Layer, gx: Tensor, save: bool) -> tuple[Tensor, list[Tensor], Tensor]:
        """gx [N, D*G*H] -> output [N, D*H], S final states [D, B, H], saved [D, N, K+S-1, H]."""
        ...

    def backward(
        self,
        layer: Layer,
        grad_output: Tensor,  # [N, D*H]
        grad_final: Sequence[Tensor],  # S tensors [D, B, H]
        output: Tensor,  # [N, D*H]
        saved: Tensor,  # [D, N, K+S-1, H]
        d_extra: Tensor,  # [D, N, E*H], to be written; not given where the cell has no extra slots
    ) -> tuple[Tensor, Tensor, Tensor | None, list[Tensor]]:
        """-> dx [N, D*G*H], dr [N, D*R*H], dparams [D, P, H], dstate.

        dr is dx where the cell does not tell them apart; dparams is None where it has none.
        """
        ...


def _without_autocast(function: Callable) -> Callable:
    """The caller has cast already; GEMMs here keep to the dtype of their tensors."""

    @functools.wraps(function)
    def guarded(*args, **kwargs):
        if not torch_private.any_autocast():
            return function(*args, **kwargs)
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            return function(*args, **kwargs)

    return guarded


@_without_autocast
def forward(
    scan: Scan,
    cell: str,
    input: Tensor,  # [T, B, I] or packed [N, I]; project=False: the ready gx [.., G*H], D = 1
    weights: Sequence[Tensor],  # of each direction in torch.nn's order, then the cell's own
    state: Sequence[Tensor],  # S tensors [D, B, H]
    batch_sizes: Tensor | None,  # [T] int64 on the CPU, falling
    resets: Tensor | None,  # [T, B] or [N] bool
    directions: int,
    project: bool,
    save: int,  # ops.SAVE_NOTHING or SAVE_ALL
) -> tuple[Tensor, list[Tensor], Tensor]:
    """`fastrnn::forward`: (output [.., D*H], S final states [D, B, H], saved [D, N, K+S-1, H])."""
    weights = extras.made(cell, input, weights, batch_sizes, directions, project)
    arguments = cell, input, weights, state, batch_sizes, resets, directions, project, save
    if cells.get(cell).in_heads:
        return heads.forward(functools.partial(_forward, scan), *arguments)
    return _forward(scan, *arguments)


def _forward(
    scan, cell, input, weights, state, batch_sizes, resets, directions, project, save
) -> tuple[Tensor, list[Tensor], Tensor]:
    layer = layers.read(cell, input, weights, state, batch_sizes, resets, directions, project)
    shape = (*input.shape[:-1], layer.D * layer.H)
    if layer.N == 0:
        spec = layer.spec
        kept = (layer.D, 0, spec.saved + spec.states - 1, layer.H) if save else 0
        return input.new_empty(shape), [_own(s) for s in state], input.new_empty(kept)
    lines = input.reshape(layer.N, -1)
    if project:
        gx = F.linear(lines, _join(layer.w_ih), _join(layer.b_ih))  # [N, D*G*H]
    else:
        gx = lines.contiguous()
    output, final, saved = scan.forward(layer, gx, save > 0)
    return output.view(shape), final, saved


@_without_autocast
def backward(
    scan: Scan,
    cell: str,
    grad_output: Tensor | None,  # [.., D*H]; None: zeros
    grad_final: Sequence[Tensor],  # S tensors [D, B, H]
    input: Tensor,
    weights: Sequence[Tensor],
    state: Sequence[Tensor],
    output: Tensor,
    saved: Tensor,
    batch_sizes: Tensor | None,
    resets: Tensor | None,
    directions: int,
    project: bool,
    needs: int,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """`fastrnn::backward`: gradients of (input, weights, S initial states, or none of these)."""
    weights = extras.made(cell, input, weights, batch_sizes, directions, project)
    arguments = (
        cell, grad_output, grad_final, input, weights, state, output, saved, batch_sizes, resets,
        directions, project, needs,
    )  # fmt: skip
    if cells.get(cell).in_heads:
        return heads.backward(functools.partial(_backward, scan), *arguments)
    return _backward(scan, *arguments)


def _backward(
    scan, cell, grad_output, grad_final, input, weights, state, output, saved, batch_sizes, resets,
    directions, project, needs,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:  # fmt: skip
    layer = layers.read(cell, input, weights, state, batch_sizes, resets, directions, project)
    need_input, need_state = needs & ops.NEED_INPUT, needs & ops.NEED_STATE
    if layer.N == 0:
        grad_input = torch.zeros_like(input) if need_input else input.new_empty(0)
        grad_state = [_own(g) for g in grad_final if need_state]
        return grad_input, [torch.zeros_like(w) for w in weights], grad_state
    output = output.reshape(layer.N, -1).contiguous()
    grad_output = torch.zeros_like(output) if grad_output is None else grad_output
    grads = grad_output.reshape(layer.N, -1).contiguous(), [g.contiguous() for g in grad_final]
    saved, more = saved.contiguous(), {}
    if layer.extra:
        more["d_extra"] = output.new_empty((layer.D, *layer.extra[0].shape))
    dx, dr, d_params, grad_state = scan.backward(layer, *grads, output, saved, **more)
    lines = input.reshape(layer.N, -1)
    lines = lines if project else None
    fed = _fed(layer, output, saved)
    asked = saved[:, :, layer.spec.saved - 1] if layer.spec.late else None
    grad_weights = _weight_gradients(layer, lines, fed, asked, dx, dr, d_params, needs)
    if layer.extra:
        each = len(weights) // layer.D
        for d in range(layer.D):
            given = needs & ops.NEED_EXTRA
            grad = more["d_extra"][d].view(weights[each - 1].shape) if given else dx.new_empty(0)
            grad_weights.insert((d + 1) * each - 1, grad)
    if not need_input:
        grad_input = input.new_empty(0)
    elif project:
        grad_input = (dx @ _join(layer.w_ih)).view(input.shape)
    else:
        grad_input = dx.view(input.shape)
    return grad_input, grad_weights, grad_state if need_state else []


def _fed(layer: Layer, output: Tensor, saved: Tensor) -> list[Tensor]:
    """What the product multiplies, after every step: for each direction [N, H]."""
    spec = layer.spec
    if spec.feeds:
        return list(saved[:, :, spec.saved + spec.feeds - 1].unbind())
    return list(output.split(layer.H, 1))


def _own(tensor: Tensor) -> Tensor:
    return tensor.clone(memory_format=torch.contiguous_format)


def _join(tensors: Sequence[Tensor]) -> Tensor | None:
    """torch.cat, without a copy of a single contiguous tensor; None for none."""
    if len(tensors) < 2:
        return tensors[0].contiguous() if tensors else None
    return torch.cat(tensors)


def _weight_gradients(
    layer: Layer,
    lines: Tensor | None,  # [N, I], or None without projection
    fed: Sequence[Tensor],  # D tensors [N, H]: what the product multiplies, after every step
    asked: Tensor | None,  # [D, N, H]: what late slots multiply
    dx: Tensor,  # [N, D*G*H]
    dr: Tensor,  # [N, D*R*H]
    d_params: Tensor | None,  # [D, P, H]
    needs: int,
) -> list[Tensor]:
    """One GEMM or sum over all lines for each weight that needs it, in their order."""
    gates, back = layer.spec.gates * layer.H, layer.spec.recurrent * layer.H
    w_ih, w_hh, b_ih, b_hh = (needs & bit for bit in ops.WEIGHT_BITS)
    gradients: list[Tensor | None] = []
    for d in range(layer.D):
        dx_d, dr_d = dx[:, d * gates : (d + 1) * gates], dr[:, d * back : (d + 1) * back]
        if lines is not None:
            gradients.append(dx_d.t() @ lines if w_ih else None)
        if layer.w_hh is not None and w_hh:
            initial = layer.state[layer.spec.feeds][d]
            h = _entering_h(layer, fed[d], initial, reverse=d >= layer.back)
        if layer.w_hh is not None:
            gradients.append(_recurrent_gradient(layer, d, dr_d, h, asked) if w_hh else None)
        if layer.b_ih:
            gradients.append(dx_d.sum(0) if b_ih else None)
        if layer.b_hh is not None:
            same = dr is dx and layer.b_ih and b_ih
            again = gradients[-1].clone() if same and b_hh else None
            gradients.append(again if again is not None else dr_d.sum(0) if b_hh else None)
        if d_params is not None:
            gradients.append(_own(d_params[d]) if needs & ops.NEED_PARAMS else None)
    return [dx.new_empty(0) if g is None else g for g in gradients]


def _recurrent_gradient(
    layer: Layer, d: int, dr: Tensor, h: Tensor, asked: Tensor | None
) -> Tensor:
    """[R*H, H] of direction d, from dr [N, R*H]."""
    if asked is None:
        return dr.t() @ h
    early = layer.spec.early * layer.H
    return torch.cat([dr[:, :early].t() @ h, dr[:, early:].t() @ asked[d]])


def _entering_h(layer: Layer, h: Tensor, initial: Tensor, reverse: bool) -> Tensor:
    """The h with which each line [N, H] enters its step, from the h [N, H] after the steps."""
    if layer.offsets is None:
        ordered = (h[layer.B :], initial) if reverse else (initial, h[: -layer.B])
        entering = torch.cat(ordered)
    else:
        entering = torch.cat((h, initial))[_line_before(layer, reverse)]
    if layer.resets is not None:
        entering.masked_fill_(layer.resets.unsqueeze(-1), 0)
    return entering


def _line_before(layer: Layer, reverse: bool) -> Tensor:
    """For each packed line [N] the line of the step before in scan order, or N + b at the start."""
    line = torch.arange(layer.N, device=layer.device)
    t = torch.searchsorted(layer.offsets, line, right=True) - 1
    b = line - layer.offsets[t]
    before = t + 1 if reverse else t - 1
    inside = (before >= 0) & (before < layer.lengths[b])
    return torch.where(inside, layer.offsets[before.clamp(0, layer.T - 1)] + b, layer.N + b)

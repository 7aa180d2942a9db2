"""The host side of the Triton backend: one layer, its directions at once, forward and backward.

Around the two kernels stand whole-sequence GEMMs: the input projection before the forward scan, the
gradients of weights and input after the backward scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import cells
from ..reference import name_weights
from .cells import INTERPRET, TRITON_CELLS
from .config import Config, choose, multiply_of
from .scan import backward_kernel, forward_kernel

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def unavailable(cell: str, device: str, dtype: torch.dtype) -> str | None:
    """Why the Triton kernels cannot serve this cell, device type and dtype; None if they can."""
    if cell not in TRITON_CELLS:
        return f"the cell {cell!r} has no Triton functions (those with: {', '.join(TRITON_CELLS)})"
    if dtype not in DTYPES:
        return f"the Triton kernels compute in float32, bfloat16 or float16, not in {dtype}"
    if device == "cpu" and not INTERPRET:
        return (
            "Triton kernels run on CPU tensors only in Triton's interpreter: set "
            "TRITON_INTERPRET=1 before triton is imported"
        )
    if device not in ("cpu", "cuda", "meta"):
        return f"the Triton kernels run on cuda, not on {device}"
    return None


@dataclass(frozen=True)
class Layer:
    """One call: its sizes in the letters of the design, its steps, its weights by direction."""

    cell: str
    T: int
    B: int
    N: int
    H: int
    D: int
    reverse: bool  # D = 1: the one direction is the reverse one
    multiply: str  # "bfloat16", "float16", "tf32" or "ieee": how the dots multiply
    device: torch.device
    w_ih: list[Tensor]  # D tensors [G*H, I]; empty without projection
    w_hh: Tensor  # [D, G*H, H]
    b_ih: list[Tensor]  # D tensors [G*H], or empty
    b_hh: Tensor | None  # [D, G*H]
    offsets: Tensor | None  # [T] int64: first line of each step; None: dense
    lengths: Tensor | None  # [B] int64: steps of each batch row, falling
    resets: Tensor | None  # [N] uint8

    @property
    def spec(self) -> cells.CellSpec:
        return cells.get(self.cell)


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    """torch.stack, without a copy of a single contiguous tensor."""
    return tensors[0].unsqueeze(0).contiguous() if len(tensors) == 1 else torch.stack(tensors)


def _steps(batch_sizes: Tensor, B: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(offsets [T], lengths [B]) on the device, from falling batch_sizes [T]."""
    offsets = batch_sizes.cumsum(0) - batch_sizes
    rising = batch_sizes.flip(0).contiguous()
    lengths = len(rising) - torch.searchsorted(rising, torch.arange(B), right=True)
    return offsets.to(device), lengths.to(device)


def _layer(cell, input, weights, state, batch_sizes, resets, directions, project) -> Layer:
    refusal = unavailable(cell, input.device.type, input.dtype)
    if refusal:
        raise RuntimeError(f"backend='triton' cannot serve this call: {refusal}")
    D, B, H = state[0].shape
    count = len(weights) // D
    named = [name_weights(weights[d * count : (d + 1) * count], project) for d in range(D)]
    w_ih, w_hh, b_ih, b_hh, _ = zip(*named)
    ragged = batch_sizes is not None
    T = len(batch_sizes) if ragged else input.shape[0]
    offsets, lengths = _steps(batch_sizes, B, input.device) if ragged else (None, None)
    return Layer(
        cell=cell, T=T, B=B, N=input.shape[:-1].numel(), H=H, D=D, reverse=directions == 2,
        multiply=multiply_of(input.dtype), device=input.device,
        w_ih=[w for w in w_ih if w is not None],
        w_hh=_stack(w_hh),
        b_ih=[b for b in b_ih if b is not None],
        b_hh=None if b_hh[0] is None else _stack(b_hh),
        offsets=offsets,
        lengths=lengths,
        resets=None if resets is None else resets.reshape(-1).to(torch.uint8),
    )  # fmt: skip


def _arguments(layer: Layer, tensors: Sequence[Tensor | None]) -> tuple[list, dict]:
    """What a scan kernel is called with, apart from its cell and its configuration."""
    spec = layer.spec
    absent = layer.w_hh  # stands for a pointer that the kernel never follows
    args = [absent if t is None else t for t in (*tensors, layer.offsets, layer.lengths)]
    constants = dict(
        H=layer.H, G=spec.gates, S=spec.states, K=spec.saved, D=layer.D, REVERSE=layer.reverse,
        RAGGED=layer.offsets is not None, RESETS=layer.resets is not None,
        PRECISION="tf32" if layer.multiply == "tf32" else "ieee",
        UPCAST=INTERPRET and layer.multiply == "bfloat16",
    )  # fmt: skip
    return [*args, layer.T, layer.B, layer.N], constants


def _launch(kernel, layer: Layer, config: Config, tensors: Sequence[Tensor | None], **constants):
    """Runs a scan kernel on the tensors of its signature; returns what Triton compiled."""
    args, shared_constants = _arguments(layer, tensors)
    grid = (-(-layer.B // config.rows), layer.D)
    with torch.cuda.device(layer.device) if layer.device.type == "cuda" else nullcontext():
        return kernel[grid](*args, **shared_constants, **constants, **config.options())


def forward(
    cell: str,
    input: Tensor,  # [T, B, I] or packed [N, I]; project=False: the ready gx [.., G*H], D = 1
    weights: Sequence[Tensor],  # of each direction in torch.nn's order
    state: Sequence[Tensor],  # S tensors [D, B, H]
    batch_sizes: Tensor | None,  # [T] int64 on the CPU, falling
    resets: Tensor | None,  # [T, B] or [N] bool
    directions: int,
    project: bool,
    save: int,  # ops.SAVE_NOTHING or SAVE_ALL
) -> tuple[Tensor, list[Tensor], Tensor]:
    """`fastrnn::forward` by Triton: (output [.., D*H], S final states, saved [D, N, K+S-1, H])."""
    layer = _layer(cell, input, weights, state, batch_sizes, resets, directions, project)
    spec = layer.spec
    output = input.new_empty((*input.shape[:-1], layer.D * layer.H))
    kept = (layer.D, layer.N, spec.saved + spec.states - 1, layer.H)
    saved = input.new_empty(kept if save else 0)
    if layer.N == 0:
        return output, [s.clone(memory_format=torch.contiguous_format) for s in state], saved
    lines = input.reshape(layer.N, -1)
    if project:
        bias = torch.cat(layer.b_ih) if layer.b_ih else None
        gx = F.linear(lines, torch.cat(layer.w_ih), bias)  # [N, D*G*H]
    else:
        gx = lines.contiguous()
    initial = _stack(state)

    def run(config: Config):
        carry = initial.to(torch.float32, copy=True)
        tensors = (gx, layer.w_hh, layer.b_hh, layer.resets, initial, carry, output, saved)
        compiled = _launch(
            forward_kernel, layer, config, tensors,
            CELL=TRITON_CELLS[cell].forward, BIAS=layer.b_hh is not None, SAVE=save > 0,
        )  # fmt: skip
        return carry, compiled

    carry = choose("forward", layer, run)
    return output, [c.to(input.dtype, copy=True) for c in carry], saved


def backward(
    cell: str,
    grad_output: Tensor,  # [.., D*H]
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
    need_input: bool,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """`fastrnn::backward` by Triton: gradients of (input, weights, S initial states)."""
    layer = _layer(cell, input, weights, state, batch_sizes, resets, directions, project)
    pair = TRITON_CELLS[cell]
    if layer.N == 0:
        grad_input = torch.zeros_like(input) if need_input else input.new_empty(0)
        grad_state = [g.clone(memory_format=torch.contiguous_format) for g in grad_final]
        return grad_input, [torch.zeros_like(w) for w in weights], grad_state
    dx = input.new_empty((layer.N, layer.D * layer.spec.gates * layer.H))
    dr = torch.empty_like(dx) if pair.split else dx
    initial, final = _stack(state), _stack(grad_final)
    grad_output, output, saved = (t.contiguous() for t in (grad_output, output, saved))

    def run(config: Config):
        carry = final.to(torch.float32, copy=True)
        tensors = (grad_output, layer.w_hh, layer.resets, initial, carry, output, saved, dx, dr)
        compiled = _launch(
            backward_kernel, layer, config, tensors,
            CELL=pair.backward, SPLIT=pair.split,
        )  # fmt: skip
        return carry, compiled

    carry = choose("backward", layer, run)
    grad_state = [c.to(input.dtype, copy=True) for c in carry]
    lines = input.reshape(layer.N, -1)
    grad_weights = _weight_gradients(layer, lines if project else None, initial[0], output, dx, dr)
    if not need_input:
        grad_input = input.new_empty(0)
    elif project:
        grad_input = (dx @ torch.cat(layer.w_ih)).view(input.shape)
    else:
        grad_input = dx.view(input.shape)
    return grad_input, grad_weights, grad_state


def _weight_gradients(
    layer: Layer,
    lines: Tensor | None,  # [N, I], or None without projection
    initial: Tensor,  # [D, B, H]
    output: Tensor,  # [.., D*H]
    dx: Tensor,  # [N, D*G*H]
    dr: Tensor,  # [N, D*G*H]
) -> list[Tensor]:
    """One GEMM or sum over all lines for each weight, in torch.nn's order."""
    gates = layer.spec.gates * layer.H
    by_direction = output.view(layer.N, layer.D, layer.H)
    gradients = []
    for d in range(layer.D):
        dx_d, dr_d = dx[:, d * gates : (d + 1) * gates], dr[:, d * gates : (d + 1) * gates]
        if lines is not None:
            gradients.append(dx_d.t() @ lines)
        h = _entering_h(layer, by_direction[:, d], initial[d], reverse=layer.reverse or d == 1)
        gradients.append(dr_d.t() @ h)
        if layer.b_ih:
            gradients.append(dx_d.sum(0))
        if layer.b_hh is not None:
            gradients.append(dr_d.sum(0))
    return gradients


def _entering_h(layer: Layer, h: Tensor, initial: Tensor, reverse: bool) -> Tensor:
    """The h with which each line [N, H] enters its step, from the h [N, H] after the steps."""
    if layer.offsets is None:
        h = h.view(layer.T, layer.B, layer.H)
        ordered = (h[1:], initial[None]) if reverse else (initial[None], h[:-1])
        entering = torch.cat(ordered).view(layer.N, layer.H)
    else:
        entering = torch.cat((h, initial))[_line_before(layer, reverse)]
    if layer.resets is not None:
        entering.masked_fill_(layer.resets.bool().unsqueeze(-1), 0)
    return entering


def _line_before(layer: Layer, reverse: bool) -> Tensor:
    """For each packed line [N] the line of the step before in scan order, or N + b at the start."""
    line = torch.arange(layer.N, device=layer.device)
    t = torch.searchsorted(layer.offsets, line, right=True) - 1
    b = line - layer.offsets[t]
    before = t + 1 if reverse else t - 1
    inside = (before >= 0) & (before < layer.lengths[b])
    return torch.where(inside, layer.offsets[before.clamp(0, layer.T - 1)] + b, layer.N + b)

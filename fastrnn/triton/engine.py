"""The host side of the Triton backend: launches of the two scan kernels.

What stands around them is that of every GPU backend, in `fastrnn.gpu.host`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from .. import torch_private
from ..gpu import host
from ..gpu.layer import Layer, stack
from .cells import INTERPRET
from .choice import choose
from .config import Config
from .derived import pair, without
from .scan import backward_kernel, forward_kernel

Events = Sequence[torch.cuda.Event]  # two, or none
_LAUNCHED = 500_000  # cycles of a GPU in which the host launches a kernel
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def unavailable(cell: str, device: str, dtype: torch.dtype) -> str | None:
    """Why the Triton kernels cannot serve this cell, device type and dtype; None if they can."""
    missing = without(cell)
    if missing:
        return missing
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


def _arguments(layer: Layer, tensors: Sequence[Tensor | None]) -> tuple[list, dict]:
    """What a scan kernel is called with, apart from its cell and its configuration."""
    spec = layer.spec
    absent = tensors[0]  # stands for a pointer that the kernel never follows
    args = [absent if t is None else t for t in (*tensors, layer.offsets, layer.lengths)]
    named = dict(
        parameters=_parameters(layer), extra=stack(layer.extra) if layer.extra else None,
        H=layer.H, G=spec.gates, R=spec.recurrent, S=spec.states, K=spec.saved,
        P=spec.params + spec.across, E=spec.extra, F=spec.feeds, D=layer.D, BACK=layer.back,
        RAGGED=layer.offsets is not None,
        RESETS=layer.resets is not None, PRECISION="tf32" if layer.multiply == "tf32" else "ieee",
        UPCAST=INTERPRET and layer.multiply == "bfloat16",
    )  # fmt: skip
    return [*args, layer.T, layer.B, layer.N], named


def _launch(
    kernel, layer: Layer, config: Config, tensors: Sequence[Tensor | None], events: Events, **named
):
    """Runs a scan kernel on the tensors of its signature; returns what Triton compiled."""
    args, shared = _arguments(layer, tensors)
    grid = (-(-layer.B // config.rows), layer.D, config.programs(layer.H))
    with torch.cuda.device(layer.device) if layer.device.type == "cuda" else nullcontext():
        if not events:
            return kernel[grid](*args, **shared, **named, **config.options())
        torch_private.gpu_sleep(_LAUNCHED)
        events[0].record()
        compiled = kernel[grid](*args, **shared, **named, **config.options())
        events[1].record()
        return compiled


def _words(layer: Layer, config: Config, columns: int) -> Tensor | None:
    """What programs that share R tell each other: two slots of values with numbers beside them."""
    if config.shares == 1:
        return None
    dtype = torch.int64 if layer.w_hh.dtype == torch.float32 else torch.int32
    return layer.w_hh.new_zeros((2, layer.D, layer.B, columns), dtype=dtype)


def _parameters(layer: Layer) -> Tensor | None:
    """[D, P, H]; with a row of ones of a cell that looks across units, which is 0 past the last."""
    if not layer.spec.across:
        return layer.params
    ones = layer.state[0].new_ones((layer.D, 1, layer.H))
    return ones if layer.params is None else torch.cat([layer.params, ones], 1)


def _params_gradients(layer: Layer, config: Config) -> Tensor | None:
    """What each batch tile adds to the gradients of the parameters [D, batch tiles, P, H]."""
    count = layer.spec.params + layer.spec.across
    if count == 0:
        return None
    shape = (layer.D, -(-layer.B // config.rows), count, layer.H)
    return layer.state[0].new_zeros(shape, dtype=torch.float32)


def _resets(layer: Layer) -> Tensor | None:
    return None if layer.resets is None else layer.resets.view(torch.uint8)


class TritonScan:
    """The scan of `fastrnn.gpu.host` by Triton's kernels."""

    @staticmethod
    def forward(layer: Layer, gx: Tensor, save: bool) -> tuple[Tensor, list[Tensor], Tensor]:
        spec = layer.spec
        output = gx.new_empty((layer.N, layer.D * layer.H))
        kept = (layer.D, layer.N, spec.saved + spec.states - 1, layer.H)
        store = save or spec.feeds > 0  # what a product is to read
        saved = gx.new_empty(kept if store else 0)
        initial = stack(layer.state)

        def run(config: Config, events: Events = ()):
            carry = initial.to(torch.float32, copy=True)
            words = _words(layer, config, layer.H)
            tensors = (
                gx, layer.w_hh, layer.b_hh, _resets(layer), initial, words, carry, output, saved,
            )  # fmt: skip
            compiled = _launch(
                forward_kernel, layer, config, tensors, events,
                CELL=pair(layer.cell).forward, BIAS=layer.b_hh is not None, SAVE=store,
            )  # fmt: skip
            return carry, compiled

        carry = choose("forward", layer, run)
        saved = saved if save else gx.new_empty(0)
        return output, [c.to(gx.dtype, copy=True) for c in carry], saved

    @staticmethod
    def backward(
        layer: Layer,
        grad_output: Tensor,  # [N, D*H]
        grad_final: Sequence[Tensor],  # S tensors [D, B, H]
        output: Tensor,  # [N, D*H]
        saved: Tensor,  # [D, N, K+S-1, H]
        d_extra: Tensor | None = None,  # [D, N, E*H], written
    ) -> tuple[Tensor, Tensor, Tensor | None, list[Tensor]]:
        spec, functions = layer.spec, pair(layer.cell)
        dx = output.new_empty((layer.N, layer.D * spec.gates * layer.H))
        dr = output.new_empty((layer.N, layer.D * spec.recurrent * layer.H))
        dr = dr if functions.split else dx
        initial, final = stack(layer.state), stack(grad_final)

        def run(config: Config, events: Events = ()):
            carry = final.to(torch.float32, copy=True)
            words = _words(layer, config, spec.recurrent * layer.H)
            d_params = _params_gradients(layer, config)
            tensors = (
                grad_output, layer.w_hh, _resets(layer), initial, words, carry, output, saved,
                dx, dr,
            )  # fmt: skip
            compiled = _launch(
                backward_kernel, layer, config, tensors, events,
                CELL=functions.backward, SPLIT=functions.split, d_parameters=d_params,
                d_extra=d_extra,
            )  # fmt: skip
            return (carry, d_params), compiled

        carry, d_params = choose("backward", layer, run)
        if spec.params == 0:
            d_params = None
        else:
            d_params = d_params[:, :, : spec.params].sum(1).to(output.dtype)
        return dx, dr, d_params, [c.to(output.dtype, copy=True) for c in carry]


def _check(cell: str, input: Tensor) -> None:
    refusal = unavailable(cell, input.device.type, input.dtype)
    if refusal:
        raise RuntimeError(f"backend='triton' cannot serve this call: {refusal}")


def forward(cell: str, input: Tensor, *args) -> tuple[Tensor, list[Tensor], Tensor]:
    """`fastrnn::forward` by Triton."""
    _check(cell, input)
    return host.forward(TritonScan, cell, input, *args)


def backward(cell: str, grad_output: Tensor, grad_final: Sequence[Tensor], input: Tensor, *args):
    """`fastrnn::backward` by Triton: gradients of (input, weights, initial states)."""
    _check(cell, input)
    return host.backward(TritonScan, cell, grad_output, grad_final, input, *args)

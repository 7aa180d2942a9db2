"""The native CUDA backend: `fastrnn::forward` and `fastrnn::backward` of CUDA tensors.

The kernels are `fastrnn::scan_forward` and `fastrnn::scan_backward`, in `csrc/cuda/`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import engines, host
from .engines import Need
from .layer import Layer, multiply_of


class CudaScan:
    """The scan of `host` by the ops of a native library.

    engine: one of `engines.ENGINES`; None: what the environment, the table or the planner say.
    """

    def __init__(self, library, engine: str | None = None):
        self.library = library
        self.engine = engine

    def forward(self, layer: Layer, gx: Tensor, save: bool) -> tuple[Tensor, list[Tensor], Tensor]:
        return self.library.scan_forward(
            layer.cell, gx, layer.w_hh, layer.b_hh, layer.params, layer.state, layer.batch_sizes,
            layer.offsets, layer.lengths, layer.resets, layer.directions, save,
            layer.multiply == "tf32", self._engine(layer, backward=False),
        )  # fmt: skip

    def backward(
        self,
        layer: Layer,
        grad_output: Tensor,  # [N, D*H]
        grad_final: Sequence[Tensor],  # S tensors [D, B, H]
        output: Tensor,  # [N, D*H]
        saved: Tensor,  # [D, N, K+S-1, H]
    ) -> tuple[Tensor, Tensor, Tensor | None, list[Tensor]]:
        dx, dr, shares, grad_state = self.library.scan_backward(
            layer.cell, grad_output, grad_final, layer.w_hh, layer.params, layer.state, output,
            saved, layer.batch_sizes, layer.offsets, layer.lengths, layer.resets, layer.directions,
            layer.multiply == "tf32", self._engine(layer, backward=True),
        )  # fmt: skip
        # each batch row's share [D, B, P, H], in float32 or float64
        d_params = None if layer.params is None else shares.sum(1).to(dx.dtype)
        return dx, dr if dr.numel() else dx, d_params, grad_state

    def _engine(self, layer: Layer, backward: bool) -> str:
        if self.engine is not None:
            return self.engine
        need = Need(layer.cell, backward, layer.B, layer.H, layer.D, layer.multiply)
        limits = engines.limits(layer.device)
        return engines.to_ask_for(self.library, need, limits, engines.asked())


_SCAN = CudaScan(torch.ops.fastrnn)
_LIBRARY = torch.library.Library("fastrnn", "IMPL")


def forward(*args) -> tuple[Tensor, list[Tensor], Tensor]:
    return host.forward(_SCAN, *args)


def backward(*args) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    return host.backward(_SCAN, *args)


def register() -> None:
    """Gives the two ops, which the native library has defined, their kernels for CUDA tensors."""
    _LIBRARY.impl("forward", forward, "CUDA")
    _LIBRARY.impl("backward", backward, "CUDA")


def explain(
    cell: str, B: int, H: int, D: int, dtype: torch.dtype, device: torch.device
) -> list[str]:
    """Which engine runs a layer's forward and backward on a device, and why: a line each."""
    lines = []
    for backward in (False, True):
        need = Need(cell, backward, B, H, D, multiply_of(dtype))
        limits = engines.limits(device)
        choice = engines.choose(torch.ops.fastrnn, need, limits, engines.asked())
        lines.append(engines.describe(choice, need))
    return lines

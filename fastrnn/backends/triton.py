"""The Triton kernels as a backend. They are imported when they are first asked about."""

from __future__ import annotations

import importlib.util

import torch

from .. import graph, ops
from .base import Backend, Size


class Triton(Backend):
    name = "triton"
    title = "the Triton kernels"
    devices = ("cuda", "cpu")
    prefix = "triton_"

    def automatic(self, device: str) -> bool:
        # On CPU tensors its interpreter runs, an aid for debugging.
        return device not in ("cpu", "meta")

    def refusal(self, cell: str, device: str, dtype: torch.dtype, proj: bool) -> str | None:
        if importlib.util.find_spec("triton") is None:
            return "the triton package is not installed"
        if importlib.util.find_spec("fastrnn.triton") is None:
            return "this fastrnn has no Triton kernels"
        from .. import triton

        if not hasattr(self, "forward"):
            self.forward, self.backward = ops.register_rules(
                "fastrnn::triton_forward", "fastrnn::triton_backward"
            )
            graph.define(self.prefix, ("CPU", "CUDA"), self.forward, self.backward)
        return triton.unavailable(cell, device, dtype)

    def explain(self, size: Size) -> list[str]:
        if size.device.type != "cuda":
            return []
        from ..gpu.layer import float32_products
        from ..triton import choice

        kernels = [f"  kernel, {kernel}" for kernel in choice.explain(*size)]
        return [*kernels, *float32_products(size.dtype)]

"""The two backends of the native library: C++ kernels for a CPU, CUDA kernels for a GPU."""

from __future__ import annotations

import torch

from .. import cells, compiled, ops
from .base import Backend, Size


class _Native(Backend):
    words = ("native",)
    prefix = ""

    def refusal(self, cell: str, device: str, dtype: torch.dtype, proj: bool) -> str | None:
        if not ops.NATIVE_BUILT:
            return (
                "fastrnn was installed without its native library (FASTRNN_NATIVE=0, or not built)"
            )
        if not dtype.is_floating_point:
            return f"{self.title} compute in floating point, not in {dtype}"
        if cell not in ops.NATIVE_CELLS and (why := self.compiled_refusal(cell, device, dtype)):
            return why
        return super().refusal(cell, device, dtype, proj)

    def compiled_refusal(self, cell: str, device: str, dtype: torch.dtype) -> str | None:
        """Why a cell that is not built in cannot be served all the same, or None."""
        return f"the native library has no kernel for the cell {cells.get(cell).title!r}"


class Cpu(_Native):
    name = "cpu"
    title = "the native CPU kernels"
    devices = ("cpu", "meta")
    knows_zeros = True
    reads_lengths = True
    steps = True
    recomputes = True
    projects = True
    draws = True

    def __init__(self) -> None:
        if ops.NATIVE_BUILT:
            self.forward, self.backward = ops.FORWARD, ops.BACKWARD

    def automatic(self, device: str) -> bool:
        return device != "cuda"

    def compiled_refusal(self, cell: str, device: str, dtype: torch.dtype) -> str | None:
        """A derived cell's kernels are compiled here, at the first call that needs them."""
        if cells.get(cell).derived is None or device not in self.devices:
            return super().compiled_refusal(cell, device, dtype)
        return compiled.refusal(cell, self.compute_dtype(dtype)) if device == "cpu" else None

    def compute_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """bfloat16 has kernels, with float32 sums, cells and carried states; float16 has none."""
        return torch.float32 if dtype == torch.float16 else dtype

    def explain(self, size: Size) -> list[str]:
        isa, threads = ops.BUILD_INFO["isa"], torch.get_num_threads()
        return [f"  instruction set: {isa} (FASTRNN_ISA chooses), {threads} threads"]


class Cuda(_Native):
    name = "cuda"
    title = "the native CUDA kernels"
    devices = ("cuda",)

    def __init__(self) -> None:
        if ops.BUILD_INFO.get("cuda_archs"):
            from ..gpu import scan

            scan.register()
            self.forward, self.backward = ops.FORWARD, ops.BACKWARD

    def automatic(self, device: str) -> bool:
        return device not in ("cpu", "meta")

    def refusal(self, cell: str, device: str, dtype: torch.dtype, proj: bool) -> str | None:
        spec = cells.get(cell)
        if not spec.recurrent:
            return f"{self.title} have no cell without a recurrent product"
        if spec.recurrent != spec.gates:
            return f"{self.title} have no cell whose x and r differ in slots"
        if spec.extra or spec.feeds:
            return f"{self.title} have no cell with extra slots, or that feeds another state"
        if spec.in_heads:
            return f"{self.title} have no recurrent product in heads"
        if spec.across:
            return f"{self.title} have no cell that looks across the units of a row"
        if spec.late:
            return f"{self.title} have no cell with a second product in its step"
        if ops.NATIVE_BUILT and device == "cuda":
            from ..gpu import architectures

            if not ops.BUILD_INFO["cuda_archs"]:
                return "the native library was built without CUDA"
            if why := architectures.refusal(ops.BUILD_INFO["cuda_archs"]):
                return why
        return super().refusal(cell, device, dtype, proj)

    def explain(self, size: Size) -> list[str]:
        from ..gpu import scan
        from ..gpu.layer import float32_products

        lines = [f"  engine, {engine}" for engine in scan.explain(*size)]
        lines.append("  FASTRNN_CUDA_ENGINE asks for another engine")
        return lines + float32_products(size.dtype)

"""The reference as a backend: any device, any dtype, every cell, slow."""

from __future__ import annotations

import torch

from .base import Backend, Size

LOW_PRECISION = (torch.bfloat16, torch.float16)


class Reference(Backend):
    name = "reference"
    title = "plain torch operations"
    projects = True
    in_torch = True

    def automatic(self, device: str) -> bool:
        return True

    def compute_dtype(self, dtype: torch.dtype) -> torch.dtype:
        return torch.float32 if dtype in LOW_PRECISION else dtype

    def explain(self, size: Size) -> list[str]:
        return ["  slow: plain torch operations, one time step at a time"]

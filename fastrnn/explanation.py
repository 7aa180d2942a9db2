"""explain: which backend serves a module, why, and what would make it another."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from . import backends, ops
from .stream import Stream


def explain(module: nn.Module | Stream, input: Tensor | PackedSequence) -> str:
    """Says which backend would run module(input), why, and in which dtype.

    Args:
        module: one of fastrnn's layers or cells, or a model that holds some: each is listed, for
            an input of that shape, dtype and device; or a Stream
        input: as the layer's, `[T, B, I]` say; it is not run

    Raises TypeError where module holds no layer of fastrnn's, RuntimeError where a backend that a
    layer asks for by name cannot serve.
    """
    if isinstance(module, Stream):
        return module._explain(input)
    data = input.data if isinstance(input, PackedSequence) else input
    names = [
        (n, m) for n, m in module.named_modules() if hasattr(m, "cell") and hasattr(m, "backend")
    ]
    if not names:
        raise TypeError(f"module must hold a fastrnn layer, got {type(module).__name__}")
    return "\n".join(
        _explain_one(f"{name}: " if name else "", layer, data, _rows(layer, input))
        for name, layer in names
    )


def _rows(layer: nn.Module, input: Tensor | PackedSequence) -> int:
    """The batch rows B that the layer gets if it gets an input of that shape."""
    if isinstance(input, PackedSequence):
        return int(input.batch_sizes[0])
    recurs = isinstance(layer, nn.RNNBase)
    if input.dim() < 2 + recurs:
        return 1
    return input.shape[0 if not recurs or layer.batch_first else 1]


def _explain_one(prefix: str, layer: nn.Module, data: Tensor, rows: int) -> str:
    if hasattr(layer, "explain"):  # quantised
        return "\n".join([f"{prefix}{layer}", *layer.explain()])
    device, dtype = data.device.type, data.dtype
    if ops.autocasts(device) and dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
    cell = getattr(layer, "scanned", layer.cell)
    backend, reason = backends.choose(cell, device, dtype, layer.backend, layer.proj_size > 0)
    directions = 2 if getattr(layer, "bidirectional", False) else 1
    heads = getattr(layer, "heads", None) or 1
    size = backends.Size(
        cell, rows, layer.hidden_size // heads, directions * heads, dtype, data.device
    )
    lines = [
        f"{prefix}{layer} on {device} in {dtype}",
        f"  backend: {backend.name} ({reason})",
        *backend.explain(size),
    ]
    compute = backend.compute_dtype(dtype)
    if compute != dtype:
        lines.append(f"  computes in {compute}, weights too, and returns {dtype}")
    if layer.proj_size > 0 and not backend.projects:
        lines.append(
            "  proj_size: weight_hh @ weight_hr is the recurrent matrix, h comes after the scan"
        )
    if hasattr(layer, "trained_by_torch") and layer.trained_by_torch(device, dtype):
        lines.append("  a step with gradients: torch's own operator, which is faster in training")
    lines.append("  second derivatives and forward mode: the reference scan")
    return "\n".join(lines)

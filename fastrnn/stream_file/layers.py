"""What a Stream writes of its layers, and the layers that are made of a file."""

from __future__ import annotations

import torch
from torch import nn

from .. import cells, stream_layers
from ..quantization.panels import quantize_rows
from .form import FileLayer

MATRICES = ("weight_ih", "weight_hh", "weight_hr")


def of_module(layer: nn.Module, weights: torch.dtype | None) -> tuple[list[FileLayer], torch.dtype]:
    """The layers as they are now, and what their matrices are kept in when they run.

    Raises ValueError for a cell of one's own: a file is of those that every library has.
    """
    parts = stream_layers.read(layer)
    if not all(part.packed for part in parts):
        raise ValueError(f"a file has no code, so no cell of one's own, got {layer}")
    kept = weights or stream_layers.common_dtype(parts)
    found = []
    for spec in (spec for part in parts for spec in part.specs):
        tensors = {
            "weight_ih": spec.w_ih, "weight_hh": spec.w_hh, "bias_ih": spec.b_ih,
            "bias_hh": spec.b_hh, "weight_hr": spec.w_hr,
        }  # fmt: skip
        outputs = spec.proj_size or spec.hidden_size
        layer = FileLayer(spec.cell, spec.input_size, spec.hidden_size, outputs)
        for role, tensor in tensors.items():
            if tensor is not None:
                _add(layer, role, tensor, kept if role in MATRICES else torch.float32)
        found.append(layer)
    return found, kept


def _add(layer: FileLayer, role: str, tensor: torch.Tensor, kept: torch.dtype) -> None:
    """In as few bytes as lose nothing that a stream with weights in `kept` would not."""
    layer.tensors[role] = tensor
    if kept == torch.bfloat16:
        layer.tensors[role] = tensor.to(kept)
    elif kept == torch.int8 and bool(tensor.isfinite().all()):
        q, scales = quantize_rows(tensor)
        again = quantize_rows(q * scales[:, None])
        if torch.equal(again[0], q) and torch.equal(again[1], scales):  # else: tiniest numbers
            layer.tensors[role], layer.scales[role] = q, scales


def modules(layers: list[FileLayer]) -> list[nn.Module]:
    """A module of one layer for each, with float32 weights of its own."""
    return [_linear(layer) if layer.cell == "linear" else _recurrent(layer) for layer in layers]


def _linear(layer: FileLayer) -> nn.Module:
    bias = "bias_ih" in layer.tensors
    module = nn.Linear(layer.input_size, layer.output_size, bias=bias, device="meta")
    names = {"weight_ih": "weight", "bias_ih": "bias"}
    return _filled(module, {names[role]: _float(layer, role) for role in layer.tensors})


def _recurrent(layer: FileLayer) -> nn.Module:
    import fastrnn

    spec = cells.get(layer.cell)
    more = dict(spec.arguments)
    if layer.output_size != layer.hidden_size:
        more["proj_size"] = layer.output_size
    biases = [role for role in ("bias_ih", "bias_hh") if role in layer.tensors]
    sizes = layer.input_size, layer.hidden_size
    module = getattr(fastrnn, spec.layer)(*sizes, bias=bool(biases), device="meta", **more)
    values = {f"{role}_l0": _float(layer, role) for role in layer.tensors}
    for role in ("bias_ih", "bias_hh") if len(biases) == 1 else ():
        values.setdefault(f"{role}_l0", torch.zeros_like(values[f"{biases[0]}_l0"]))
    return _filled(module, values)


def _filled(module: nn.Module, values: dict[str, torch.Tensor]) -> nn.Module:
    module.to_empty(device="cpu").load_state_dict(values)
    return module


def _float(layer: FileLayer, role: str) -> torch.Tensor:
    tensor = layer.tensors[role].float()
    return tensor * layer.scales[role][:, None] if role in layer.scales else tensor

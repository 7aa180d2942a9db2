"""Layers to the bytes of a stream file."""

from __future__ import annotations

import ctypes
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from .form import (
    ALIGN,
    CHECKED,
    DTYPES,
    HEADER,
    LAYER,
    LINEAR,
    MAGIC,
    MOST_LAYERS,
    MOST_NAME,
    RECURRENT,
    ROLES,
    TENSOR,
    VERSION,
    FileLayer,
)


def write(
    path: str | os.PathLike, layers: Sequence[FileLayer], weights: torch.dtype = torch.float32
) -> None:
    """Writes a file, in one move: who reads at the same time has the old one or the new one."""
    path = Path(path)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        new.write_bytes(packed(layers, weights))
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


def packed(layers: Sequence[FileLayer], weights: torch.dtype = torch.float32) -> bytearray:
    """The bytes of a file. weights: what a stream keeps its matrices in when it runs."""
    if not 1 <= len(layers) <= MOST_LAYERS:
        raise ValueError(f"a stream file has 1 to {MOST_LAYERS} layers, got {len(layers)}")
    heads = [_head(layer) for layer in layers]
    size = HEADER.size + sum(
        len(head) + TENSOR.size * len(layer.tensors) for head, layer in zip(heads, layers)
    )
    records, data = bytearray(), []

    def place(tensor: Tensor) -> int:
        nonlocal size
        data.append(b"\0" * (-size % ALIGN) + _bytes(tensor))
        begin = size + -size % ALIGN
        size += len(data[-1])
        return begin

    for head, layer in zip(heads, layers):
        records += head
        for role, tensor in layer.tensors.items():
            rows, columns = tensor.shape if tensor.ndim == 2 else (len(tensor), 1)
            offset = place(tensor)
            scales = place(layer.scales[role]) if tensor.dtype == torch.int8 else 0
            records += TENSOR.pack(ROLES[role], DTYPES[tensor.dtype], rows, columns, offset, scales)
    whole = bytearray(HEADER.pack(MAGIC, VERSION, 0, size, len(layers), DTYPES[weights]))
    for part in (records, *data):
        whole += part
    struct.pack_into("<I", whole, CHECKED - 4, zlib.crc32(memoryview(whole)[CHECKED:]))
    return whole


def _head(layer: FileLayer) -> bytes:
    """A layer's record without its tensors."""
    linear = layer.cell == "linear"
    name = b"" if linear else layer.cell.encode()
    if len(name) > MOST_NAME or any(not 33 <= byte <= 126 for byte in name):
        raise ValueError(f"a stream file has no place for a cell named {layer.cell!r}")
    kind = LINEAR if linear else RECURRENT
    sizes = layer.input_size, layer.hidden_size, layer.output_size
    return LAYER.pack(kind, *sizes, len(layer.tensors), len(name)) + name + b"\0" * (-len(name) % 8)


def _bytes(tensor: Tensor) -> bytes:
    plain = tensor.detach().cpu().contiguous()
    return ctypes.string_at(plain.data_ptr(), plain.numel() * plain.itemsize)

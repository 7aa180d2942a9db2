"""The bytes of a stream file to layers, whoever wrote them."""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass

import torch
from torch import Tensor

from ..cells import CELLS
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
    MOST_TENSORS,
    RECURRENT,
    ROLES,
    TENSOR,
    VERSION,
    FileLayer,
)

NAMES = {number: role for role, number in ROLES.items()}
OF_NUMBER = {number: dtype for dtype, number in DTYPES.items()}


def read(path: str | os.PathLike) -> tuple[list[FileLayer], torch.dtype]:
    """The layers of a file, and what a stream is to keep their matrices in.

    Raises ValueError for what is no whole stream file, OSError where there is none to read.
    """
    with open(path, "rb") as file:
        head = file.read(HEADER.size)
        size = os.fstat(file.fileno()).st_size
        _check_head(head, size)  # before memory is taken for the rest
        return unpacked(bytearray(head + file.read(size - len(head))))


def unpacked(content: bytearray) -> tuple[list[FileLayer], torch.dtype]:
    """What `packed` made, with tensors that share the memory of `content`."""
    _check_head(bytes(content[: HEADER.size]), len(content))
    _, _, checksum, _, count, weights = HEADER.unpack_from(content)
    if zlib.crc32(memoryview(content)[CHECKED:]) != checksum:
        raise _damaged("its checksum is wrong")
    if not 1 <= count <= MOST_LAYERS:
        raise _damaged(f"it has {count} layers")
    weights = _dtype(weights, "the stream")
    cursor = _Cursor(content)
    announced = [_layer(cursor, f"layer {i}") for i in range(count)]
    layers = [layer for layer, _ in announced]
    for i, (before, after) in enumerate(zip(layers, layers[1:])):
        wanted, got = before.output_size, after.input_size
        if wanted != got:
            raise _damaged(f"layer {i + 1}'s input_size must be {wanted}, got {got}")
    for layer, records in announced:
        for record in records:
            _place(cursor, layer, record)
    if cursor.at != len(content):
        raise _damaged("something follows the last tensor")
    return layers, weights


class _Cursor:
    """What comes next in a file."""

    def __init__(self, content: bytearray):
        self.content, self.at = content, HEADER.size

    def take(self, count: int) -> int:
        """Where the next `count` bytes begin."""
        if count > len(self.content) - self.at:
            raise _damaged(f"it ends at byte {len(self.content)}, too early")
        self.at += count
        return self.at - count

    def record(self, form: struct.Struct) -> tuple:
        return form.unpack_from(self.content, self.take(form.size))

    def align(self, to: int) -> None:
        begin = self.take(-self.at % to)
        if any(self.content[begin : self.at]):
            raise _damaged(f"bytes {begin} to {self.at} must be 0")

    def array(self, dtype: torch.dtype, count: int, offset: int, name: str) -> Tensor:
        self.align(ALIGN)
        if offset != self.at:
            raise _damaged(f"{name} must begin at byte {self.at}, got {offset}")
        begin = self.take(count * dtype.itemsize)
        return torch.frombuffer(self.content, dtype=dtype, count=count, offset=begin)


@dataclass
class _Tensor:
    """A tensor whose place was announced; the data come after all records."""

    role: str
    dtype: torch.dtype
    shape: tuple[int, int]
    offset: int
    scales: int
    name: str


def _layer(cursor: _Cursor, of: str) -> tuple[FileLayer, list[_Tensor]]:
    kind, inputs, hidden, outputs, count, length = cursor.record(LAYER)
    if kind not in (RECURRENT, LINEAR):
        raise ValueError(f"{of} is of an unknown kind, {kind}")
    if not inputs or not hidden or not outputs:
        raise _damaged(f"{of} has size 0")
    if count > MOST_TENSORS:
        raise _damaged(f"{of} has {count} tensors")
    if length > MOST_NAME or (length == 0) != (kind == LINEAR):
        raise _damaged(f"{of}'s cell has a name of {length} bytes")
    begin = cursor.take(length)
    name = bytes(cursor.content[begin : cursor.at])
    if any(not 33 <= byte <= 126 for byte in name):
        raise _damaged(f"{of}'s cell has the name {name!r}")
    cursor.align(8)
    layer = FileLayer(name.decode() or "linear", inputs, hidden, outputs)
    records: dict[str, _Tensor] = {}
    for _ in range(count):
        record = _record(cursor, of)
        if record.role in records:
            raise _damaged(f"{of} has two {record.role}")
        records[record.role] = record
    _check_shapes(layer, kind, records, of)
    return layer, list(records.values())


def _record(cursor: _Cursor, of: str) -> _Tensor:
    number, dtype, rows, columns, offset, scales = cursor.record(TENSOR)
    if number not in NAMES:
        raise ValueError(f"{of} has a tensor of an unknown role, {number}")
    name = f"{of}'s {NAMES[number]}"
    dtype = _dtype(dtype, name)
    if dtype != torch.int8 and scales:
        raise _damaged(f"{name} must have no scales")
    return _Tensor(NAMES[number], dtype, (rows, columns), offset, scales, name)


def _check_shapes(layer: FileLayer, kind: int, found: dict[str, _Tensor], of: str) -> None:
    """Do the tensors fit the sizes of the layer, and are those that it needs there?"""
    inputs, hidden, outputs = layer.input_size, layer.hidden_size, layer.output_size
    if kind == LINEAR:
        wanted = {"weight_ih": (hidden, inputs), "bias_ih": (hidden, 1)}
        needed = {"weight_ih"}
        if hidden != outputs:
            raise _damaged(f"{of}'s sizes differ")
    else:
        cell = CELLS.get(layer.cell)
        if cell is None or cell.params or cell.extra or cell.in_heads or not cell.recurrent:
            raise ValueError(f"{of} is of the cell {layer.cell!r}, which streams do not have")
        slots, products = cell.gates * hidden, cell.recurrent * hidden
        wanted = {"weight_ih": (slots, inputs), "weight_hh": (products, outputs)}
        wanted |= {"bias_ih": (slots, 1), "bias_hh": (products, 1)}
        needed = {"weight_ih", "weight_hh"}
        if layer.cell == "lstm":
            wanted["weight_hr"] = (outputs, hidden)
        if outputs != hidden:
            needed.add("weight_hr")
        if outputs > hidden:
            raise _damaged(f"{of}'s output_size must be at most {hidden}, got {outputs}")
    if missing := needed - found.keys():
        raise _damaged(f"{of} lacks its {', '.join(sorted(missing))}")
    for role, tensor in found.items():
        if role not in wanted:
            raise _damaged(f"{of} must have no {role}")
        if tensor.shape != wanted[role]:
            raise _damaged(f"{tensor.name} must be {wanted[role]}, got {tensor.shape}")
        if role.startswith("bias") and tensor.dtype == torch.int8:
            raise _damaged(f"{tensor.name} must not be in int8")


def _place(cursor: _Cursor, layer: FileLayer, t: _Tensor) -> None:
    """The data come one tensor after another, so that none is there twice."""
    array = cursor.array(t.dtype, t.shape[0] * t.shape[1], t.offset, t.name)
    layer.tensors[t.role] = array if t.role.startswith("bias") else array.view(t.shape)
    if t.dtype == torch.int8:
        scales = cursor.array(torch.float32, t.shape[0], t.scales, f"{t.name}'s scales")
        layer.scales[t.role] = scales


def _check_head(head: bytes, size: int) -> None:
    if not head.startswith(MAGIC):
        raise ValueError("this is no stream file: it does not begin as one")
    if len(head) < HEADER.size:
        raise _damaged(f"it has {size} bytes")
    _, version, _, wanted, _, _ = HEADER.unpack(head)
    if version != VERSION:
        raise ValueError(f"the stream file is of version {version}, expected {VERSION}")
    if wanted != size:
        raise _damaged(f"it has {size} bytes of {wanted}")


def _dtype(number: int, of: str) -> torch.dtype:
    if number not in OF_NUMBER:
        raise ValueError(f"{of} is of an unknown dtype, {number}")
    return OF_NUMBER[number]


def _damaged(what: str) -> ValueError:
    return ValueError(f"the stream file is damaged: {what}")

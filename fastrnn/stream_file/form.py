"""The records of a stream file, all in little-endian."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import torch
from torch import Tensor

MAGIC = b"\x89FRNN\r\n\x1a"
VERSION = 1
ALIGN = 64  # of a tensor's begin
MOST_LAYERS, MOST_TENSORS, MOST_NAME = 1024, 16, 255
HEADER = struct.Struct("<8sIIQII")  # magic, version, CRC-32, size, layers, weights
CHECKED = 16  # the checksum is of all that follows it
LAYER = struct.Struct("<6I")  # kind, input, hidden, output, tensors, bytes of the cell's name
TENSOR = struct.Struct("<4I2Q")  # role, dtype, rows, columns, offset of the data, of the scales
RECURRENT, LINEAR = 1, 2
ROLES = {"weight_ih": 1, "weight_hh": 2, "bias_ih": 3, "bias_hh": 4, "weight_hr": 5}
DTYPES = {torch.float32: 1, torch.bfloat16: 2, torch.int8: 3}


@dataclass
class FileLayer:
    """A layer of a file.

    cell: a cell's name; "linear" for a layer that has a weight_ih and a bias_ih alone
    output_size: P of a projected LSTM, else hidden_size
    tensors: by role, of ROLES; matrices `[rows, columns]`, vectors `[rows]`
    scales: by role, float32 `[rows]`, of the matrices in int8
    """

    cell: str
    input_size: int
    hidden_size: int
    output_size: int
    tensors: dict[str, Tensor] = field(default_factory=dict)
    scales: dict[str, Tensor] = field(default_factory=dict)

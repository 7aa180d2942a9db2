"""Small stream files of every kind, for the tests of their readers."""

import struct
import zlib

import torch

from fastrnn import cells
from fastrnn.stream_file import FileLayer, packed
from fastrnn.stream_file.form import CHECKED, HEADER, LAYER, ROLES, TENSOR


def quantised(weight):
    """int8 [rows, columns], one scale a row."""
    scales = weight.abs().amax(1) / 127
    return (weight / scales[:, None]).round().to(torch.int8), scales


def recurrent(cell, inputs, hidden, outputs=None, dtype=torch.float32, bias=True):
    """A layer of random weights; outputs: of a projected one."""
    spec = cells.get(cell)
    outputs = outputs or hidden
    layer = FileLayer(cell, inputs, hidden, outputs)
    rows = spec.gates * hidden
    shapes = {"weight_ih": (rows, inputs), "weight_hh": (rows, outputs)}
    if outputs != hidden:
        shapes["weight_hr"] = (outputs, hidden)
    for role, shape in shapes.items():
        _add(layer, role, torch.randn(shape) * 0.3, dtype)
    for role in ("bias_ih", "bias_hh") if bias else ():
        layer.tensors[role] = torch.randn(rows) * 0.3
    return layer


def linear(inputs, outputs, dtype=torch.float32, bias=True):
    layer = FileLayer("linear", inputs, outputs, outputs)
    _add(layer, "weight_ih", torch.randn(outputs, inputs) * 0.3, dtype)
    if bias:
        layer.tensors["bias_ih"] = torch.randn(outputs)
    return layer


def _add(layer, role, weight, dtype):
    if dtype == torch.int8:
        layer.tensors[role], layer.scales[role] = quantised(weight)
    else:
        layer.tensors[role] = weight.to(dtype)


def stacks():
    """Layers and what their matrices are kept in, by a word on them."""
    f32, bf16, int8 = torch.float32, torch.bfloat16, torch.int8
    half_biased = recurrent("gru", 2, 3)
    del half_biased.tensors["bias_ih"]
    return {
        "one": ([recurrent("rnn_relu", 1, 1, bias=False)], f32),
        "mixed": ([recurrent("lstm", 3, 5, 2, bf16), recurrent("gru", 2, 3), linear(3, 2)], bf16),
        "int8": ([recurrent("gru", 2, 3, dtype=int8), linear(3, 4, int8, False)], f32),
        "elman": ([recurrent("rnn_tanh", 2, 3), recurrent("rnn_identity", 3, 2)], f32),
        "half biased": ([half_biased], f32),
    }


def mended(content, size=None):
    """With the checksum that it should have, and the size or another one."""
    content = bytearray(content)
    struct.pack_into("<Q", content, CHECKED, size or len(content))
    struct.pack_into("<I", content, CHECKED - 4, zlib.crc32(content[CHECKED:]))
    return content


def lies():
    """What is no file though its checksum is right, by a word on it."""
    wraps = packed([linear(1, 1, bias=False)])[:128]  # where the data begin
    struct.pack_into("<3I", wraps, HEADER.size + 4, *[1 << 31] * 3)  # 2**64 bytes of float32
    struct.pack_into("<2I", wraps, HEADER.size + LAYER.size + 8, *[1 << 31] * 2)
    padded = packed([recurrent("gru", 2, 3)])
    padded[-1 - 9 * 4] = 1  # a byte between the last two tensors
    turned = recurrent("gru", 2, 4)
    turned.tensors["weight_ih"] = turned.tensors["weight_ih"].view(2, 12)
    twice = packed([recurrent("gru", 2, 3)])
    at = HEADER.size + LAYER.size + 8  # of the first tensor's record
    struct.pack_into("<I", twice, at + 3 * TENSOR.size, ROLES["bias_ih"])
    return {
        "wraps": mended(wraps),
        "padded": mended(padded),
        "turned": packed([turned]),
        "twice": mended(twice),
        "longer": mended(packed([recurrent("gru", 2, 3)]) + bytes(64)),
        "sized": mended(packed([recurrent("gru", 2, 3)]), 1 << 40),
        "layers": mended(_with(HEADER.size - 8, 0xFFFFFFFF)),
        "tensors": mended(_with(HEADER.size + 16, 0xFFFFFFFF)),
        "no layers": mended(_with(HEADER.size - 8, 0)),
    }


def _with(at, value):
    content = packed([recurrent("gru", 2, 3)])
    struct.pack_into("<I", content, at, value)
    return content

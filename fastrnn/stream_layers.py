"""What a Stream reads: layers as plain matrices, and the tensors of a call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from . import cells
from .layer import Layer

KINDS = "weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr"
TORCHS_CELLS = {
    getattr(nn, f"{cell.torch_layer}Cell"): name
    for name, cell in cells.CELLS.items()
    if cell.torch_layer and not cell.arguments
}


class Spec(NamedTuple):
    """One layer of one direction; tensors float32 and contiguous."""

    cell: str
    input_size: int
    hidden_size: int
    proj_size: int
    w_ih: Tensor
    w_hh: Tensor | None = None
    b_ih: Tensor | None = None
    b_hh: Tensor | None = None
    w_hr: Tensor | None = None
    params: Tensor | None = None
    heads: int = 1

    def addresses(self) -> tuple:
        """As the native stack takes it: no tensor may go before it has."""
        tensors = (0 if tensor is None else tensor.data_ptr() for tensor in self[4:-1])
        return (*self[:4], *tensors, self.heads)


class Part(NamedTuple):
    """The native layers that one module is."""

    specs: tuple[Spec, ...]
    first: int  # which of all native layers its first is
    layers: int
    states: int  # S; 0: it has none
    stacked: bool  # is its state [L, B, H], not [B, H]?
    dtype: torch.dtype
    packed: bool  # has the cell steps of its own?


def is_list(layer: object) -> bool:
    return isinstance(layer, (list, tuple, nn.Sequential, nn.ModuleList))


def read(layer: nn.Module | Sequence[nn.Module]) -> list[Part]:
    """The modules as parts, one after the other."""
    parts: list[Part] = []
    modules = list(layer) if is_list(layer) else [layer]
    if not modules:
        raise ValueError("layer must have a layer in it, got an empty list")
    for module in modules:
        first = parts[-1].first + parts[-1].layers if parts else 0
        part = _read_module(module, first)
        if parts and parts[-1].specs:
            before, now = parts[-1].specs[-1], part.specs[0]
            features = before.proj_size or before.hidden_size
            if features != now.input_size:
                raise ValueError(
                    f"layer {len(parts)} must take the {features} features of the layer before "
                    f"it, got {module}"
                )
        parts.append(part)
    return parts


def common_dtype(parts: Sequence[Part]) -> torch.dtype:
    """What matrices are kept in, where nothing is said."""
    return torch.bfloat16 if {part.dtype for part in parts} == {torch.bfloat16} else torch.float32


def _read_module(module: nn.Module, first: int) -> Part:
    if isinstance(module, nn.RNNBase):
        specs, cell, stacked = [*_layers(module)], _cell_of_layer(module), True
    elif isinstance(module, nn.RNNCellBase):
        specs, cell, stacked = [_single_step(module)], None, False
    elif isinstance(module, nn.Linear):
        out, features = module.weight.shape
        weights = _plain(module, module.weight), None, _plain(module, module.bias)
        specs, cell, stacked = [Spec("linear", features, out, 0, *weights)], None, False
    else:
        raise TypeError(
            "layer must be a recurrent layer or cell of fastrnn's or torch.nn's, an nn.Linear, or "
            f"a list of them, got {type(module).__name__}"
        )
    cell = cell or specs[0].cell
    states = 0 if cell == "linear" else cells.get(cell).states
    dtype = next(module.parameters()).dtype
    packed = cell == "linear" or bool(cells.get(cell).layer)
    return Part(tuple(specs), first, len(specs), states, stacked, dtype, packed)


def _cell_of_layer(layer: nn.RNNBase) -> str:
    if layer.bidirectional:
        raise ValueError(
            "a bidirectional layer has no stream: its second half reads the sequence from its end, "
            f"got {layer}"
        )
    if not isinstance(layer, Layer):
        return layer.mode.lower()  # torch.nn's
    if any(layer.zoneout):
        raise ValueError(f"a layer with zoneout has no stream, got {layer}")
    if layer.extra_slots:
        raise ValueError(f"a cell with extra slots has no stream, which brings none, got {layer}")
    return layer.cell


def _layers(layer: nn.RNNBase) -> Iterator[Spec]:
    cell = _cell_of_layer(layer)
    for k in range(layer.num_layers):
        weights = {
            kind: _plain(layer, getattr(layer, f"{kind}_l{k}", None)) for kind in (*KINDS, "params")
        }
        sizes = weights["weight_ih"].shape[1], layer.hidden_size, layer.proj_size
        yield Spec(cell, *sizes, *weights.values(), getattr(layer, "heads", None) or 1)


def _single_step(cell: nn.RNNCellBase) -> Spec:
    name = getattr(cell, "cell", None)
    if name is None:
        name = next((n for kind, n in TORCHS_CELLS.items() if isinstance(cell, kind)), None)
        name = name or f"rnn_{cell.nonlinearity}"
    weights = [_plain(cell, getattr(cell, kind, None)) for kind in KINDS]
    proj = getattr(cell, "proj_size", 0)
    return Spec(name, cell.input_size, cell.hidden_size, proj, *weights)


def _plain(module: nn.Module, weight: Tensor | None) -> Tensor | None:
    """A weight as plain float32, for as long as it is packed."""
    if weight is None:
        return None
    if weight.dtype == torch.int8:
        raise ValueError(
            "a quantised layer has no stream: make the stream before fastrnn.quantize, with "
            f"weights=torch.int8, got {module}"
        )
    if weight.dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(
            f"a stream has float32 or bfloat16 weights, got {weight.dtype} in {module}: "
            "layer.float() gives it float32 ones"
        )
    if weight.device.type != "cpu":
        raise ValueError(f"a stream runs on a CPU, got weights on {weight.device} in {module}")
    return weight.detach().float().contiguous()


def read_input(input: Tensor, b: int, features: int) -> Tensor:
    """input [B, I] or [T, B, I] as the native stack takes it."""
    if not isinstance(input, Tensor):
        raise TypeError(f"input must be a Tensor, got {type(input).__name__}")
    if input.dim() not in (2, 3):
        raise ValueError(
            f"input must have 2 dimensions (batch, features) or 3 (time, batch, features), got "
            f"{input.dim()}: {[*input.shape]}"
        )
    if input.shape[-1] != features:
        raise ValueError(f"input must have {features} features, got {input.shape[-1]}")
    if input.shape[-2] != b:
        raise ValueError(f"input must have {b} rows (batch_size), got {input.shape[-2]}")
    _check_kind("input", input)
    return input.detach().resolve_neg().contiguous()


def check_out(out: Tensor, shape: tuple[int, ...], input: Tensor) -> None:
    if not isinstance(out, Tensor):
        raise TypeError(f"out must be a Tensor, got {type(out).__name__}")
    if out.shape != shape:
        raise ValueError(f"out must have shape {[*shape]}, got {[*out.shape]}")
    _check_kind("out", out)
    if not out.is_contiguous():
        raise ValueError(f"out must be contiguous, got strides {[*out.stride()]}")
    if out.requires_grad:
        raise ValueError("out must not require gradients, which a stream has none of")
    ends = [(t.data_ptr(), t.data_ptr() + t.numel() * t.element_size()) for t in (out, input)]
    if ends[0][0] < ends[1][1] and ends[1][0] < ends[0][1]:
        raise ValueError("out must not share memory with input")


def _check_kind(name: str, tensor: Tensor) -> None:
    if tensor.dtype != torch.float32:
        raise ValueError(
            f"{name} must be torch.float32, whatever a stream's weights are, got {tensor.dtype}"
        )
    if tensor.device.type != "cpu":
        raise ValueError(f"{name} must be on the CPU, got {tensor.device}")


def read_state(part: Part, given: object, b: int, sizes: Sequence[int]) -> list[Tensor]:
    """A module's state as S tensors [L, B, H], float32 and contiguous."""
    values = [given] if part.states == 1 else given
    if not isinstance(values, (tuple, list)) or len(values) != part.states:
        raise ValueError(f"state must be a tuple of {part.states} Tensors, got {told(values)}")
    read = []
    for value, size in zip(values, sizes):
        shape = (part.layers, b, size) if part.stacked else (b, size)
        if not isinstance(value, Tensor):
            raise TypeError(f"state must be Tensors, got {type(value).__name__}")
        if value.shape != shape:
            raise ValueError(f"state must have shape {[*shape]}, got {[*value.shape]}")
        value = value.detach().to("cpu", torch.float32).contiguous()
        read.append(value if part.stacked else value.unsqueeze(0))
    return read


def told(values: object) -> str:
    if isinstance(values, (tuple, list)):
        return f"{len(values)} values"
    return f"a {type(values).__name__}"

"""quantize: recurrent layers of a model, in place, with weights in int8 or bfloat16."""

from __future__ import annotations

import warnings
from typing import TypeVar

import torch
from torch import Tensor, nn

from .. import cells, compiled, ops
from ..cell_modules import FastGRUCell, FastLSTMCell, FastRNNCell
from ..convert import layers as convert
from ..convert.scripted import kind_of
from ..face import change_class
from ..layer import Layer
from ..recurrent import Recurrent
from ..zoo.layer import ZooLayer
from . import panels
from .layer import QuantizedLayer, QuantizedRecurrent

__all__ = ["quantize"]

Model = TypeVar("Model", bound=nn.Module)
# By what name kernels for such weights are asked for, as a dtype.
_KERNELS = {torch.int8: "int8", torch.bfloat16: "bf16_weights"}
_NO_KERNELS = "there are no kernels with weights in few bits"
_CELLS = (FastRNNCell, FastLSTMCell, FastGRUCell, nn.RNNCellBase)


def quantize(
    model: Model, weights: torch.dtype = torch.int8, *, report: bool = False
) -> Model | tuple[Model, dict[str, str]]:
    """Gives the recurrent layers of model weights in few bits, in place, for inference on a CPU.

    FastRNN, FastLSTM, FastGRU, torch.nn's RNN, LSTM and GRU, `Recurrent` and the zoo's layers,
    anywhere in model or model itself, become `QuantizedLayer`s and stay the same objects; their
    float32 weights are dropped, so give it a copy (`copy.deepcopy(model)`) to keep them. All else
    is left. The layers are in eval mode then. Kernels of a cell of one's own are compiled here.

    Args:
        model: any module; its layers in float32, on a CPU
        weights: torch.int8; or torch.bfloat16, which rounds weights alone: half the memory
        report: return (model, left): the names of recurrent layers that were left, each with the
            reason. Without it a layer that is left is warned of

    Raises TypeError for a model that is no module, ValueError for other `weights`.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if weights not in _KERNELS:
        raise ValueError(f"weights must be torch.int8 or torch.bfloat16, got {weights!r}")
    left: dict[str, str] = {}
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if issubclass(type(module), QuantizedLayer) or not _recurs(module):
            continue
        reason = why_not(module, weights)
        if reason:
            left[name] = reason
        else:
            _swap(module, weights)
    if report:
        return model, left
    for name, reason in left.items():
        warnings.warn(
            f"fastrnn.quantize leaves {name or 'the layer'} in float: {reason}", stacklevel=2
        )
    return model


def _recurs(module: nn.Module) -> bool:
    return bool(kind_of(module)) or convert.is_torchs(module) or convert.is_fastrnns(module)


def why_not(module: nn.Module, weights: torch.dtype) -> str | None:
    """Why a recurrent module has to stay in float."""
    cls = type(module)
    if kind_of(module):
        return "it is a TorchScript module: quantise the model that was scripted"
    if issubclass(cls, _CELLS):
        return "a module of a single step has no form in few bits: a layer called with T = 1 has"
    if convert.is_torchs(module):
        if cls not in convert.PAIRS:
            return f"{cls.__name__} is a subclass of torch.nn's"
        return convert.why_not_fast(module) or _weights_refusal(module)
    own = cls in (*convert.TORCH_OF, Recurrent) or issubclass(cls, ZooLayer)
    if not own or cls.forward is not Layer.forward:
        return f"{cls.__name__} is a subclass of a fastrnn layer"
    return _weights_refusal(module) or _cell_refusal(cells.get(module.cell), weights)


def _cell_refusal(spec: cells.Cell, weights: torch.dtype) -> str | None:
    odd = {
        "a product in heads": spec.in_heads,
        "extra slots": spec.extra,
        "a product with another state than h": spec.feeds,
        "a second product in its step": spec.late,
    }
    for what, has in odd.items():
        if has:
            return f"{_NO_KERNELS} for {what}, as the cell {spec.title!r} has"
    return compiled.refusal(spec.name, _KERNELS[weights])


def _weights_refusal(module: nn.Module) -> str | None:
    if hasattr(module, "parametrizations"):
        return "it has parametrizations: remove them first"
    given = [module._parameters.get(name) for names in module._all_weights for name in names]
    if any(weight is None for weight in given):
        return "its weights are computed at each call (weight_norm, pruning): make them plain first"
    odd = [w for w in given if w.dtype != torch.float32 or w.device.type != "cpu"]
    if odd:
        return f"its weights must be torch.float32 on cpu, got {odd[0].dtype} on {odd[0].device}"
    if not ops.NATIVE_BUILT:
        return "fastrnn was installed without its native library"
    if getattr(module, "proj_size", 0):
        return f"{_NO_KERNELS} for proj_size"
    if any(getattr(module, "zoneout", ())):
        return f"{_NO_KERNELS} for zoneout"
    return None


def _swap(module: nn.Module, dtype: torch.dtype) -> None:
    if convert.is_torchs(module):
        convert.to_fast(module)
    spec, names = cells.get(module.cell), []
    for own in module._all_weights:
        suffix = own[0].removeprefix("weight_ih")
        weights = {name.removesuffix(suffix): module._parameters.pop(name).detach() for name in own}
        buffers = _buffers(spec, weights, module.hidden_size, dtype)
        for kind, buffer in buffers.items():
            module.register_buffer(kind + suffix, buffer)
        names.append([kind + suffix for kind in buffers])
    module._all_weights = names
    module._flat_weights_names = sum(names, [])
    # what their class says of the others
    module.cell, module.states, module.weights = module.cell, spec.states, dtype
    module.hx_names = getattr(module, "hx_names", None)
    module.recurrent_dropout = 0.0  # which acts in training alone
    change_class(module, QuantizedRecurrent if isinstance(module, Recurrent) else QuantizedLayer)
    module.eval()


def _buffers(
    spec: cells.Cell, weights: dict[str, Tensor], h: int, dtype: torch.dtype
) -> dict[str, Tensor]:
    """The buffers of one direction, of its weights by their kinds, in the op's order."""
    each = panels.together(max(spec.gates, spec.recurrent))
    scales, packed = [], {}
    for side, slots in (("ih", spec.gates), ("hh", spec.recurrent)):
        if slots == 0:
            packed["weight_hh"] = torch.empty(0, dtype=dtype)
            continue
        vectors = [weights.get(f"bias_{side}", torch.zeros(slots * h))]
        if dtype == torch.int8:
            q, scale = panels.quantize_rows(weights[f"weight_{side}"])
            vectors.insert(0, scale)
        else:
            q = weights[f"weight_{side}"].to(dtype)
        packed[f"weight_{side}"] = panels.pack_matrix(q, slots, each)
        scales += [panels.pack_columns(vector, slots, each) for vector in vectors]
    params = {"params": weights["params"].clone()} if spec.params else {}
    return {"scales": torch.cat(scales), **packed, **params}

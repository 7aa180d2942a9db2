"""accelerate and restore: swaps torch.nn's recurrent modules in a model for fastrnn's, and back.

A swapped module stays the same object, with its Parameters, buffers, hooks, mode and attributes:
whatever holds it goes on working. Only its class, and with it its forward, is another.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeVar

from torch import nn
from torch.jit import ScriptModule

from . import backends
from .cell_modules import FastGRUCell, FastLSTMCell, FastRNNCell
from .face import change_class
from .modules import FastGRU, FastLSTM, FastRNN
from .recurrent import Recurrent

Model = TypeVar("Model", bound=nn.Module)

PAIRS: dict[type[nn.Module], type[nn.Module]] = {
    nn.RNN: FastRNN,
    nn.LSTM: FastLSTM,
    nn.GRU: FastGRU,
    nn.RNNCell: FastRNNCell,
    nn.LSTMCell: FastLSTMCell,
    nn.GRUCell: FastGRUCell,
}
TORCH_OF = {fast: plain for plain, fast in PAIRS.items()}


def accelerate(model: Model, *, report: bool = False) -> Model | tuple[Model, dict[str, str]]:
    """Makes every nn.RNN, nn.LSTM, nn.GRU (and cell) in model fastrnn's, in place; returns model.

    A bare layer works too. Modules and parameters stay the same objects, so hooks and optimizers
    keep working. A layer that would run on the slow reference is left alone. With report=True
    returns (model, left): the names of the recurrent layers that were left, each with the reason.
    Raises nothing for a layer that cannot be changed: it is left.
    """
    return _convert(model, PAIRS, _why_not_fast, _to_fast, report)


def restore(model: Model, *, report: bool = False) -> Model | tuple[Model, dict[str, str]]:
    """Undoes `accelerate`: every fastrnn module in model becomes torch.nn's, in place.

    report: as there. Raises nothing for a layer that torch.nn has not: it is left.
    """
    return _convert(model, TORCH_OF, _why_not_torch, _to_torch, report)


def _convert(
    model: Model,
    table: dict[type[nn.Module], type[nn.Module]],
    why_not: Callable[[nn.Module], str | None],
    change: Callable[[nn.Module], None],
    report: bool,
):
    left: dict[str, str] = {}
    changed: set[int] = set()
    # Every path to a layer, so that each name of one that is left is reported.
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if id(module) in changed:
            continue
        reason = why_not(module)
        if reason:
            left[name] = reason
        elif type(module) in table:
            changed.add(id(module))
            change(module)
    return (model, left) if report else model


def _why_not_fast(module: nn.Module) -> str | None:
    """Why a recurrent module of torch.nn stays as it is; None for all others."""
    if isinstance(module, ScriptModule):
        if getattr(module, "original_name", "") in {plain.__name__ for plain in PAIRS}:
            return "it is a TorchScript module: accelerate the model before scripting is undone"
        return None
    if type(module) in PAIRS:
        return _why_slower(module)
    if not issubclass(type(module), tuple(PAIRS)):
        return None
    if hasattr(module, "parametrizations"):
        return "it has parametrizations: make it a fastrnn layer first, then register them"
    return f"{type(module).__name__} is a subclass of torch.nn's layer, with code of its own"


def _why_not_torch(module: nn.Module) -> str | None:
    if issubclass(type(module), Recurrent):
        return "torch.nn has no layer of any cell"
    if type(module) not in TORCH_OF:
        if not issubclass(type(module), tuple(TORCH_OF)):
            return None
        return f"{type(module).__name__} is a subclass of a fastrnn layer"
    if getattr(module, "nonlinearity", None) == "identity":
        return "torch.nn has no identity nonlinearity"
    if isinstance(module, FastLSTMCell) and module.proj_size:
        return "torch.nn.LSTMCell has no proj_size"
    return None


def _why_slower(module: nn.Module) -> str | None:
    """Why a layer would run on the reference, which is slower than torch.nn's own code."""
    proj = getattr(module, "proj_size", 0) > 0
    weight = next(module.parameters(), None)
    if weight is None:  # weights that something else sets at each call
        weight = module.weight_hh_l0 if isinstance(module, nn.RNNBase) else module.weight_hh
    cell = getattr(PAIRS[type(module)], "cell", None) or f"rnn_{module.nonlinearity}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        backend, reason = backends.choose(cell, weight.device.type, weight.dtype, "auto", proj)
    return f"it would be slower: {reason}" if backend.in_torch else None


def _to_fast(module: nn.Module) -> None:
    change_class(module, PAIRS[type(module)])
    module.__dict__.pop("_flat_weights", None)
    if isinstance(module, (FastRNN, FastRNNCell)):
        module.cell = f"rnn_{module.nonlinearity}"
    module.backend = "auto"


def _to_torch(module: nn.Module) -> None:
    change_class(module, TORCH_OF[type(module)])
    for name in ("backend", "cell", "recompute_gates"):
        module.__dict__.pop(name, None)
    if isinstance(module, nn.RNNBase):
        module._init_flat_weights()

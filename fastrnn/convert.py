"""accelerate and restore: swaps torch.nn's recurrent modules in a model for fastrnn's, and back.

A swapped module keeps everything the old one had: the same Parameter objects, buffers, hooks, mode
and extra attributes. Only its class, and with it its forward, is another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import nn
from torch.jit import ScriptModule

from .cell_modules import FastGRUCell, FastLSTMCell, FastRNNCell
from .modules import FastGRU, FastLSTM, FastRNN

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

    A bare layer works too: use the return value. Parameters are shared, so optimizers keep working.
    With report=True returns (model, left): the names of the recurrent layers that were left alone,
    each with the reason.
    """
    return _convert(model, PAIRS, _why_not_fast, _to_fast, report)


def restore(model: Model, *, report: bool = False) -> Model | tuple[Model, dict[str, str]]:
    """Undoes `accelerate`: every fastrnn module in model becomes torch.nn's, in place."""
    return _convert(model, TORCH_OF, _why_not_torch, _to_torch, report)


def _convert(
    model: Model,
    table: dict[type[nn.Module], type[nn.Module]],
    why_not: Callable[[nn.Module], str | None],
    to: Callable[[nn.Module], nn.Module],
    report: bool,
):
    left: dict[str, str] = {}
    new: dict[int, nn.Module] = {}
    # Every path to a layer, so that a shared one is swapped at each place, for one and the same.
    for name, module in list(model.named_modules(remove_duplicate=False)):
        reason = why_not(module)
        if reason:
            left[name] = reason
        if reason or type(module) not in table:
            continue
        if id(module) not in new:
            new[id(module)] = to(module)
        if not name:
            model = new[id(module)]
            continue
        parent, _, child = name.rpartition(".")
        model.get_submodule(parent)._modules[child] = new[id(module)]
    return (model, left) if report else model


def _why_not_fast(module: nn.Module) -> str | None:
    """Why a recurrent module of torch.nn stays as it is; None for all others."""
    if isinstance(module, ScriptModule):
        if getattr(module, "original_name", "") in {plain.__name__ for plain in PAIRS}:
            return "it is a TorchScript module: accelerate the model before scripting is undone"
        return None
    if not isinstance(module, tuple(PAIRS)) or type(module) in PAIRS:
        return None
    if hasattr(module, "parametrizations"):
        return "it has parametrizations: make it a fastrnn layer first, then register them"
    return f"{type(module).__name__} is a subclass of torch.nn's layer, with code of its own"


def _why_not_torch(module: nn.Module) -> str | None:
    if type(module) not in TORCH_OF:
        if not isinstance(module, tuple(TORCH_OF)):
            return None
        return f"{type(module).__name__} is a subclass of a fastrnn layer"
    if getattr(module, "nonlinearity", None) == "identity":
        return "torch.nn has no identity nonlinearity"
    if isinstance(module, FastLSTMCell) and module.proj_size:
        return "torch.nn.LSTMCell has no proj_size"
    return None


def _with_class(module: nn.Module, cls: type[nn.Module]) -> nn.Module:
    """A module of class cls with everything that module has."""
    new = cls.__new__(cls)
    new.__dict__.update(module.__dict__)
    return new


def _to_fast(module: nn.Module) -> nn.Module:
    new = _with_class(module, PAIRS[type(module)])
    new.__dict__.pop("_flat_weights", None)
    if isinstance(new, (FastRNN, FastRNNCell)):
        new.cell = f"rnn_{new.nonlinearity}"
    new.backend = "auto"
    return new


def _to_torch(module: nn.Module) -> nn.Module:
    new = _with_class(module, TORCH_OF[type(module)])
    for name in ("backend", "cell", "recompute_gates"):
        new.__dict__.pop(name, None)
    if isinstance(new, nn.RNNBase):
        new._init_flat_weights()
    return new

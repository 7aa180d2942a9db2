"""accelerate and restore: swaps torch.nn's recurrent modules in a model for fastrnn's, and back.

A swapped module stays the same object: whatever holds it goes on working. `layers.py` does the
swap, `subclasses.py` makes classes for subclasses, `registry.py` knows other libraries' modules,
`scripted.py` makes eager layers of scripted ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import nn

from .. import adapters
from . import layers, registry
from .registry import register
from .scripted import kind_of, unscript

__all__ = ["accelerate", "register", "restore", "unscript"]

Model = TypeVar("Model", bound=nn.Module)


def accelerate(model: Model, *, report: bool = False) -> Model | tuple[Model, dict[str, str]]:
    """Makes every nn.RNN, nn.LSTM, nn.GRU (and cell) in model fastrnn's, in place; returns model.

    A bare layer works too. Modules and parameters stay the same objects, so hooks and optimizers
    keep working. Subclasses whose forward calls super().forward keep their own code. A layer that
    cannot be served, or would run on the slow reference, is left alone. With report=True returns
    (model, left): the names of the recurrent layers that were left, each with the reason. Modules
    of libraries in fastrnn/adapters, and of those that `register` was told of, are changed too.
    Raises nothing for a layer that cannot be changed: it is left.
    """
    return _convert(model, _make_fast, report)


def restore(model: Model, *, report: bool = False) -> Model | tuple[Model, dict[str, str]]:
    """Undoes `accelerate`: every fastrnn module in model becomes torch.nn's, in place.

    report: as there. Raises nothing for a layer that torch.nn has not: it is left.
    """
    return _convert(model, _make_plain, report)


def _convert(model: Model, change: Callable[[nn.Module], str | None], report: bool):
    adapters.load()
    left: dict[str, str] = {}
    # Every path to a layer, so that each name of one that is left is reported.
    for name, module in list(model.named_modules(remove_duplicate=False)):
        reason = change(module)
        if reason:
            left[name] = reason
    return (model, left) if report else model


def _make_fast(module: nn.Module) -> str | None:
    """Changes a module, if it is one to change; the reason why one had to stay."""
    known = registry.find(module)
    if known:
        return known.to_fast(module)
    if kind_of(module):
        return (
            "it is a TorchScript module: accelerate the model that was scripted, or put "
            "fastrnn.convert.unscript(layer) in its place in a model that is not"
        )
    scripted = registry.find_scripted(module)
    if scripted:
        return f"it is a TorchScript module: accelerate the {scripted} that was scripted"
    if not layers.is_torchs(module):
        return None
    reason = layers.why_not_fast(module)
    if not reason:
        layers.to_fast(module)
    return reason


def _make_plain(module: nn.Module) -> str | None:
    known = registry.find(module)
    if known:
        known.back(module)
        return None
    if not layers.is_fastrnns(module):
        return None
    reason = layers.why_not_torch(module)
    if not reason:
        layers.to_torch(module)
    return reason

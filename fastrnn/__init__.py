"""fastrnn: RNN, LSTM and GRU layers for PyTorch on hand-written kernels, drop-in for torch.nn's."""

from __future__ import annotations

import importlib

from . import functional
from .cell_modules import FastGRUCell, FastLSTMCell, FastRNNCell
from .cells.declare import cell
from .modules import FastGRU, FastLSTM, FastRNN
from .quantization import op as _op  # noqa: F401  saved programs hold it
from .recurrent import Recurrent
from .version import __version__

__all__ = [
    "FastGRU",
    "FastGRUCell",
    "FastLSTM",
    "FastLSTMCell",
    "FastRNN",
    "FastRNNCell",
    "Recurrent",
    "Stream",
    "__version__",
    "accelerate",
    "cell",
    "explain",
    "functional",
    "load_kernels",
    "quantize",
    "restore",
    "zoo",
]

# Loaded on first use: a program that only builds layers does not need them.
_LAZY = {
    "Stream": "stream",
    "accelerate": "convert",
    "restore": "convert",
    "explain": "explanation",
    "load_kernels": "compiled",
    "quantize": "quantization.swap",
}


def __getattr__(name: str):
    if name == "zoo":
        return importlib.import_module(f"{__name__}.zoo")
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value

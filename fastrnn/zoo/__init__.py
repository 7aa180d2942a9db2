"""Recurrent layers that torch.nn has not: a file each, with its paper and its step.

A layer of the zoo is a `fastrnn.Recurrent` whose cell is given; its class has it as `definition`.
Each is imported when it is first asked for, as importing one derives its kernels.
"""

from __future__ import annotations

import importlib

# Class -> the module that has it.
_LAYERS = {
    "CIFGLSTM": "cifg_lstm",
    "IndRNN": "ind_rnn",
    "JANET": "janet",
    "LayerNormGRU": "layer_norm_gru",
    "LayerNormLSTM": "layer_norm_lstm",
    "LightGRU": "light_gru",
    "MinGRU": "min_gru",
    "MinLSTM": "min_lstm",
    "PeepholeLSTM": "peephole_lstm",
    "ResetBeforeGRU": "reset_before_gru",
    "SLSTM": "slstm",
}
__all__ = [*_LAYERS]  # noqa: PLE0604  names, all of them


def __getattr__(name: str) -> type:
    if name not in _LAYERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_LAYERS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAYERS})

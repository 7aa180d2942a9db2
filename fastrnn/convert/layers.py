"""torch.nn's recurrent modules and fastrnn's: which becomes which, and when one has to stay.

A module that changes stays the same object, with its Parameters, buffers, hooks, mode and
attributes. Only its class, and with it its forward, is another.
"""

from __future__ import annotations

import warnings

from torch import nn

from .. import backends
from ..cell_modules import FastGRUCell, FastLSTMCell, FastRNNCell
from ..face import change_class
from ..modules import FastGRU, FastLSTM, FastRNN
from ..recurrent import Recurrent
from . import subclasses

PAIRS: dict[type[nn.Module], type[nn.Module]] = {
    nn.RNN: FastRNN,
    nn.LSTM: FastLSTM,
    nn.GRU: FastGRU,
    nn.RNNCell: FastRNNCell,
    nn.LSTMCell: FastLSTMCell,
    nn.GRUCell: FastGRUCell,
}
TORCH_OF = {fast: plain for plain, fast in PAIRS.items()}


def is_torchs(module: nn.Module) -> bool:
    """Whether module is one of torch.nn's recurrent modules, or of a subclass."""
    return issubclass(type(module), tuple(PAIRS))


def is_fastrnns(module: nn.Module) -> bool:
    """Whether module is one that stands in for torch.nn's, or of a subclass, or of any cell."""
    return issubclass(type(module), (*TORCH_OF, Recurrent))


def why_not_fast(module: nn.Module) -> str | None:
    """Why one of torch.nn's has to stay as it is."""
    if hasattr(module, "parametrizations"):
        return "it has parametrizations: make it a fastrnn layer first, then register them"
    plain = _plain(type(module))
    if type(module) is not plain:
        reason = subclasses.why_not(type(module), plain, PAIRS[plain])
        if reason:
            return reason
    taken = _attributes_taken(module, PAIRS[plain])
    if taken:
        return f"it has an attribute {taken[0]!r} of its own, which means another thing in fastrnn"
    return _why_slower(module, PAIRS[plain])


def why_not_torch(module: nn.Module) -> str | None:
    """Why one of fastrnn's has to stay as it is."""
    if issubclass(type(module), Recurrent):
        return "torch.nn has no layer of any cell"
    if type(module) not in TORCH_OF and subclasses.original(type(module)) is None:
        return f"{type(module).__name__} is a subclass of a fastrnn layer"
    if getattr(module, "nonlinearity", None) == "identity":
        return "torch.nn has no identity nonlinearity"
    masked = [name for name in ("zoneout", "recurrent_dropout") if getattr(module, name, None)]
    if masked:
        return f"torch.nn has no {masked[0]}"
    if isinstance(module, FastLSTMCell) and module.proj_size:
        return "torch.nn.LSTMCell has no proj_size"
    return None


def _plain(cls: type[nn.Module]) -> type[nn.Module]:
    return next(base for base in cls.__mro__ if base in PAIRS)


def _attributes_taken(module: nn.Module, fast: type[nn.Module]) -> list[str]:
    """Attributes of the object that would hide what fastrnn's class has of that name."""
    own = {*vars(module), *module._parameters, *module._buffers, *module._modules}
    inside = subclasses.names_inside(fast) | {*subclasses.ADDED}
    return sorted(own & inside - {"_flat_weights", "qconfig"})


def _why_slower(module: nn.Module, fast: type[nn.Module]) -> str | None:
    """Why a layer would run on the reference, which is slower than torch.nn's own code."""
    proj = getattr(module, "proj_size", 0) > 0
    weight = next(module.parameters(), None)
    if weight is None:  # weights that something else sets at each call
        weight = module.weight_hh_l0 if isinstance(module, nn.RNNBase) else module.weight_hh
    cell = getattr(fast, "cell", None) or f"rnn_{module.nonlinearity}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        backend, reason = backends.choose(cell, weight.device.type, weight.dtype, "auto", proj)
    if proj and not backend.projects:
        return f"it may be slower: {backend.title} have no proj_size of their own"
    return f"it would be slower: {reason}" if backend.in_torch else None


def to_fast(module: nn.Module) -> None:
    cls, plain = type(module), _plain(type(module))
    fast = PAIRS[plain]
    change_class(module, fast if cls is plain else subclasses.served(cls, plain, fast))
    module.__dict__.pop("_flat_weights", None)
    if fast in (FastRNN, FastRNNCell):
        module.cell = f"rnn_{module.nonlinearity}"
    module.backend = "auto"


def to_torch(module: nn.Module) -> None:
    change_class(module, TORCH_OF.get(type(module)) or subclasses.original(type(module)))
    for name in subclasses.ADDED:
        module.__dict__.pop(name, None)
    if isinstance(module, nn.RNNBase):
        module._init_flat_weights()

"""torchaudio's RNN-T: the LSTM of its predictor, a loop over the steps, is one call.

`_CustomLSTM` is an LSTM whose gates and cell state may be layer-normalised. It keeps its weights,
under its names; they are put together as fastrnn's kernels take them at each call.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torchaudio.models.rnnt import _CustomLSTM

from fastrnn import backends, cell, checks, functional
from fastrnn.convert import register
from fastrnn.modules import FastLSTM

PARTS = ("x2g", "p2g", "g_norm", "c_norm")
DECLARED: dict[float, str] = {}  # eps -> the name of the cell
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class FusedCustomLSTM(_CustomLSTM):
    def forward(self, input: Tensor, state: list[Tensor] | None) -> tuple[Tensor, list[Tensor]]:
        """input `[T, B, D]`, state h and c `[B, H]` or None: as torchaudio's, and its results."""
        if why_not_its_own(self):
            return super().forward(input, state)
        hx = None if state is None else [s.unsqueeze(0) for s in state]
        output, final = functional.recurrent(cell_of(self), input, hx, [weights(self)])
        return output, [s[0] for s in final]

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        cell_of(self)  # a compiled graph cannot declare one

    def __prepare_scriptable__(self):
        checks.no_torchscript()


def why_not_its_own(module: nn.Module) -> str | None:
    """Why a part of it has to be called as the module that it is."""
    for name in PARTS:
        part = getattr(module, name)
        if type(part) not in (nn.Linear, nn.LayerNorm, nn.Identity):
            return f"its {name} is a {type(part).__name__}"
        if any(getattr(part, hooks) for hooks in HOOKS):
            return f"its {name} has hooks"
    if normalised(module) and not _alike(module.g_norm, module.c_norm):
        return "its g_norm and its c_norm are not alike"
    return None


def _alike(gates: nn.LayerNorm, state: nn.Module) -> bool:
    """As torchaudio makes them."""
    if type(state) is not nn.LayerNorm or state.eps != gates.eps:
        return False
    return all(p is not None for p in (gates.weight, gates.bias, state.weight, state.bias))


def weights(module: nn.Module) -> list[Tensor]:
    """In the order of `functional.recurrent`."""
    both = [module.x2g.weight, module.p2g.weight]
    if not normalised(module):
        return [*both, module.x2g.bias, torch.zeros_like(module.x2g.bias)]
    norms = [module.g_norm.weight, module.g_norm.bias, module.c_norm.weight, module.c_norm.bias]
    return [*both, torch.cat(norms).view(10, -1)]


def normalised(module: nn.Module) -> bool:
    return isinstance(module.g_norm, nn.LayerNorm)


def cell_of(module: nn.Module) -> str:
    if not normalised(module):
        return FastLSTM.cell
    eps = module.g_norm.eps
    return DECLARED[eps] if eps in DECLARED else declare(eps)


def declare(eps: float) -> str:
    """The name of the zoo's cell, with that eps."""
    from fastrnn.zoo import layer_norm_lstm as home  # derived on import, which takes 0.5 s

    def step(x, r, state, p):
        return home.layer_norm_lstm.step(x, r, state, p, eps=eps)

    made = home.layer_norm_lstm
    if eps != home.EPS:
        made = cell(gates=4, states=2, params=10, name="layer_norm_lstm")(step)
    return DECLARED.setdefault(eps, made.name)


def to_fast(module: nn.Module) -> str | None:
    if type(module) is FusedCustomLSTM:
        return None
    if type(module) is not _CustomLSTM:
        return f"{type(module).__name__} is a subclass of torchaudio's module"
    reason = why_not_its_own(module) or _why_slower(module)
    if not reason:
        module.__class__ = FusedCustomLSTM
    return reason


def _why_slower(module: nn.Module) -> str | None:
    weight = module.x2g.weight
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        backend, reason = backends.choose(cell_of(module), weight.device.type, weight.dtype)
    return f"it would be slower: {reason}" if backend.in_torch else None


def back(module: nn.Module) -> None:
    if type(module) is FusedCustomLSTM:
        module.__class__ = _CustomLSTM


register(_CustomLSTM, to_fast, back)

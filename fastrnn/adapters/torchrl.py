"""TorchRL's LSTMModule and GRUModule: trajectories that begin inside a batch go in packed, at once.

In recurrent mode they split a batch `[B, T]` where `is_init` says so, pad the pieces in a
TensorDict, pack and unpack them. Here one index makes the packed batch of the trajectories, and
its inverse brings the outputs back. Results are those of `recurrent_backend="pad"`: a trajectory
enters with the state stored at its first step, and leaves its last at its last step.
"""

from __future__ import annotations

import inspect
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.compiler import is_compiling
from torch.nn.utils.rnn import PackedSequence
from torchrl.modules.tensordict_module.rnn import GRUModule, LSTMModule

from fastrnn.convert import register


class Trajectories(NamedTuple):
    """Those of a batch `[B, T]`, N of them, the longest first; positions are in `[B*T]`."""

    starts: Tensor  # [N]
    ends: Tensor  # [N]
    order: Tensor  # [B*T]: positions as the packed batch has them
    batch_sizes: Tensor


def find(is_init: Tensor) -> Trajectories:
    """is_init `[B, T]`: bool, where one begins; each row's first step does anyway."""
    first = is_init.clone()
    first[:, 0] = True
    starts = first.flatten().nonzero().squeeze(1)
    end = starts.new_tensor([first.numel()])
    lengths, longest = starts.diff(append=end).sort(descending=True, stable=True)
    starts = starts[longest]
    steps = torch.arange(int(lengths[0]), device=starts.device)[:, None]
    valid = steps < lengths
    order = (starts + steps)[valid]
    return Trajectories(starts, starts + lengths - 1, order, valid.sum(1).cpu())


def run(layer: nn.Module, input: Tensor, states: list[Tensor], is_init: Tensor) -> list[Tensor]:
    """input `[B, T, I]`, states `[B, T, L*D, H]` each.

    Returns the output `[B, T, D*H]`, and the states, in the form of states: zeros but at ends.
    """
    b, t = is_init.shape
    found = find(is_init)
    enter = tuple(s.flatten(0, 1)[found.starts].transpose(0, 1).contiguous() for s in states)
    packed = PackedSequence(input.flatten(0, 1)[found.order], found.batch_sizes)
    output, final = layer(packed, enter if len(enter) > 1 else enter[0])
    back = torch.empty_like(found.order)
    back[found.order] = torch.arange(b * t, device=back.device)
    final = final if isinstance(final, tuple) else (final,)
    last = [
        f.new_zeros(b * t, f.shape[0], f.shape[2]).index_copy(0, found.ends, f.transpose(0, 1))
        for f in final
    ]
    return [v.unflatten(0, (b, t)) for v in (output.data[back], *last)]


class _Packed:
    """Before TorchRL's class: has forward hand is_init on as it is, and takes it from there."""

    @property
    def recurrent_backend(self) -> str:
        # Compiled graphs go TorchRL's ways: the number of trajectories depends on the data.
        return vars(self)["recurrent_backend"] if is_compiling() else "scan"


class PackedLSTMModule(_Packed, LSTMModule):
    def _lstm(self, input, batch, steps, device, dtype, h=None, c=None, *rest, **options):
        is_init = options.get("is_init")
        if is_init is None or is_compiling() or (h is None) != (c is None):
            return super()._lstm(input, batch, steps, device, dtype, h, c, *rest, **options)
        rows = len(self.lstm.all_weights)
        if h is None:
            h = input.new_zeros(batch, steps, rows, self.lstm.proj_size or self.lstm.hidden_size)
            c = input.new_zeros(batch, steps, rows, self.lstm.hidden_size)
        return run(self.lstm, input, [h, c], is_init)


class PackedGRUModule(_Packed, GRUModule):
    def _gru(self, input, batch, steps, device, dtype, h=None, *rest, **options):
        is_init = options.get("is_init")
        if is_init is None or is_compiling():
            return super()._gru(input, batch, steps, device, dtype, h, *rest, **options)
        if h is None:
            rows = len(self.gru.all_weights)
            h = input.new_zeros(batch, steps, rows, self.gru.hidden_size)
        return run(self.gru, input, [h], is_init)


PACKED = {LSTMModule: (PackedLSTMModule, "lstm"), GRUModule: (PackedGRUModule, "gru")}
PLAIN = {packed: plain for plain, (packed, _) in PACKED.items()}


def to_fast(module: nn.Module) -> str | None:
    if type(module) in PLAIN:
        return None
    if type(module) not in PACKED:
        return f"{type(module).__name__} is a subclass of TorchRL's module"
    packed, name = PACKED[type(module)]
    if "is_init" not in inspect.signature(getattr(type(module), f"_{name}")).parameters:
        return f"this version of TorchRL has no is_init in {type(module).__name__}._{name}"
    if not isinstance(getattr(module, name), (nn.LSTM, nn.GRU)):
        return "it was made with python_based=True"
    if module.recurrent_backend not in ("pad", "auto"):
        return f"its recurrent_backend is {module.recurrent_backend!r}, which is not torch.nn's"
    module.__class__ = packed
    return None


def back(module: nn.Module) -> None:
    if type(module) in PLAIN:
        module.__class__ = PLAIN[type(module)]


for kind in PACKED:
    register(kind, to_fast, back)

"""Checks of what callers pass to the modules: torch.nn's exception types, in better words.

Each message names the argument, what was expected and what was given. A call that passes costs a
few comparisons; the words are put together only for a call that fails.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import backends, cells, torch_private


def backend(name: str) -> str:
    backends.check_word(name)
    return name


def cell(cell: str | cells.Cell) -> str:
    """The name of a cell that is given itself, or by its name."""
    if not isinstance(cell, (str, cells.Cell)):
        raise TypeError(f"cell must be made by fastrnn.cell, or a name, got {cell!r}")
    name = cell if isinstance(cell, str) else cell.name
    return cells.get(name).name


def heads(spec: cells.Cell, heads: object, hidden_size: object) -> int | None:
    """N of a layer of that cell."""
    if not spec.in_heads:
        if heads is not None:
            raise ValueError(
                f'heads must be None but for a cell with product="heads", got {heads!r} for the '
                f"cell {spec.title}"
            )
        return None
    whole = isinstance(heads, int) and not isinstance(heads, bool) and heads > 0
    if not whole or (isinstance(hidden_size, int) and hidden_size % heads):
        raise ValueError(
            f"heads must be a whole number that divides hidden_size = {hidden_size!r}, got "
            f"{heads!r}"
        )
    return heads


def nonlinearity(name: str) -> str:
    known = ("tanh", "relu", "identity")
    if name not in known:
        raise ValueError(f"nonlinearity must be one of {', '.join(known)}, got {name!r}")
    return name


def no_projection(proj_size: object) -> None:
    """torch.nn's error, at zero too, where Python would say that there is no such argument."""
    if proj_size is not None:
        raise ValueError(f"proj_size is an argument of FastLSTM alone, got {proj_size!r}")


def no_torchscript() -> None:
    raise RuntimeError(
        "fastrnn layers cannot become TorchScript (torch.jit.script, torch.jit.trace): call "
        "fastrnn.restore(model) first, or use torch.compile or torch.export"
    )


def no_tensor(module, input: object, arguments: tuple, options: dict):
    """A leaf of torch.fx's graph, as torch.nn's layers are; TypeError for what is no input."""
    if isinstance(input, torch.fx.Proxy):
        if not type(module).forward.__module__.startswith("fastrnn."):
            # The leaf would run the subclass' forward, which is in the graph as well.
            name = type(module).__name__
            raise TypeError(f"torch.fx must not trace into {name}: let is_leaf_module say yes")
        tracer = input.tracer
        path = tracer.path_of_module(module)
        return tracer.create_proxy("call_module", path, arguments, options)
    also = " or a PackedSequence" if isinstance(module, torch.nn.RNNBase) else ""
    raise TypeError(f"input must be a Tensor{also}, got {type(input).__name__}")


def input(module, input: Tensor, weight: Tensor) -> None:
    """input [T, B, I], [B, T, I] or [T, I], of the weights' dtype and device."""
    if input.dim() not in (2, 3):
        raise ValueError(
            f"input must have 3 dimensions (or 2, unbatched), got {input.dim()}: {[*input.shape]}"
        )
    _features(module, input, weight)


def packed_input(module, input: Tensor, weight: Tensor) -> None:
    """The data [N, I] of a PackedSequence."""
    if input.dim() != 2:
        raise RuntimeError(
            f"input of a PackedSequence must have 2 dimensions (rows, input_size), got "
            f"{input.dim()}: {list(input.shape)}"
        )
    _features(module, input, weight)


def _features(module, input: Tensor, weight: Tensor) -> None:
    if input.shape[-1] != module.input_size:
        raise RuntimeError(
            f"input must have {module.input_size} features (input_size), got {input.shape[-1]}"
        )
    if input.dtype != weight.dtype and not (
        torch_private.any_autocast() and input.is_floating_point()
    ):
        raise ValueError(
            f"input must have the weights' dtype {weight.dtype}, got {input.dtype}: convert the "
            f"input with input.to({weight.dtype}) or the module with module.to({input.dtype})"
        )
    if not (input.is_cpu and weight.is_cpu) and input.device != weight.device:
        raise RuntimeError(
            f"input must be on the weights' device {weight.device}, got {input.device}"
        )


def state(module, hx, input: Tensor, b: int, unbatched: bool) -> Sequence[Tensor]:
    """hx as S tensors [L*D, B, H]."""
    rows, h = len(module._all_weights), module.hidden_size
    if module.states == 1:
        return (_one_state("hx", hx, input, rows, b, h, unbatched),)
    names, expected = module.hx_names
    if isinstance(hx, Tensor) or not isinstance(hx, (tuple, list)) or len(hx) != len(names):
        got = f"{len(hx)} values" if isinstance(hx, (tuple, list)) else f"a {type(hx).__name__}"
        raise TypeError(f"hx must be a tuple {expected}, got {got}")
    states, width = [], module.proj_size or h
    for name, s in zip(names, hx):
        states.append(_one_state(name, s, input, rows, b, width, unbatched))
        width = h  # a projection is of the first alone
    return states


def _one_state(
    name: str, s: Tensor, input: Tensor, rows: int, b: int, h: int, unbatched: bool
) -> Tensor:
    if not isinstance(s, Tensor):
        raise TypeError(f"{name} must be a Tensor, got {type(s).__name__}")
    expected = (rows, h) if unbatched else (rows, b, h)
    if s.shape != expected:
        axes = (
            "num_layers * directions, hidden"
            if unbatched
            else "num_layers * directions, batch, hidden"
        )
        raise RuntimeError(f"{name} must have shape {list(expected)} ({axes}), got {[*s.shape]}")
    if s.dtype != input.dtype and not (torch_private.any_autocast() and s.is_floating_point()):
        raise RuntimeError(f"{name} must have the input's dtype {input.dtype}, got {s.dtype}")
    if s.device != input.device:
        raise RuntimeError(f"{name} must be on the input's device {input.device}, got {s.device}")
    return s.unsqueeze(1) if unbatched else s


def resets(module, resets: Tensor, t: int, b: int, unbatched: bool, device: torch.device) -> Tensor:
    """resets as [T, B] on the input's device."""
    if not isinstance(resets, Tensor) or resets.dtype != torch.bool:
        got = resets.dtype if isinstance(resets, Tensor) else type(resets).__name__
        raise TypeError(f"resets must be a Tensor of torch.bool, got {got}")
    batch_first = module.batch_first and not unbatched
    expected = (t,) if unbatched else (b, t) if batch_first else (t, b)
    if resets.shape != expected:
        axes = "time" if unbatched else "batch, time" if batch_first else "time, batch"
        raise ValueError(f"resets must have shape {list(expected)} ({axes}), got {[*resets.shape]}")
    if unbatched:
        resets = resets.unsqueeze(1)
    elif batch_first:
        resets = resets.transpose(0, 1)
    return resets.to(device)


def cell_input(module, input: Tensor, weight: Tensor) -> None:
    """input [B, I] or [I] of a single-step cell."""
    if input.dim() not in (1, 2):
        raise ValueError(
            f"input must have 2 dimensions (or 1, unbatched), got {input.dim()}: {[*input.shape]}"
        )
    if input.shape[-1] != module.input_size:
        raise RuntimeError(
            f"input must have {module.input_size} features (input_size), got {input.shape[-1]}"
        )
    if input.dtype != weight.dtype and not (
        torch_private.any_autocast() and input.is_floating_point()
    ):
        raise RuntimeError(f"input must have the weights' dtype {weight.dtype}, got {input.dtype}")
    if not (input.is_cpu and weight.is_cpu) and input.device != weight.device:
        raise RuntimeError(
            f"input must be on the weights' device {weight.device}, got {input.device}"
        )


def cell_states(module, hx, input: Tensor) -> tuple[Tensor, Tensor]:
    """hx of an LSTM cell."""
    if isinstance(hx, Tensor) or not isinstance(hx, (tuple, list)) or len(hx) != 2:
        got = f"{len(hx)} values" if isinstance(hx, (tuple, list)) else f"a {type(hx).__name__}"
        raise TypeError(f"hx must be a tuple (h_0, c_0), got {got}")
    hidden = module.hidden_size
    return (
        cell_state("hx[0] (h_0)", hx[0], input, module.proj_size or hidden),
        cell_state("hx[1] (c_0)", hx[1], input, hidden),
    )


def cell_state(name: str, s: Tensor, input: Tensor, h: int) -> Tensor:
    """One state [B, H] (or [H]) of a single-step cell, for input [B, I] (or [I])."""
    if not isinstance(s, Tensor):
        raise TypeError(f"{name} must be a Tensor, got {type(s).__name__}")
    if s.dim() not in (1, 2):
        raise ValueError(f"{name} must have 2 dimensions (or 1, unbatched), got {s.dim()}")
    expected = (h,) if input.dim() == 1 else (input.shape[0], h)
    if s.shape != expected:
        raise RuntimeError(
            f"{name} must have shape {[*expected]} to go with an input of shape "
            f"{[*input.shape]}, got {[*s.shape]}"
        )
    if s.dtype != input.dtype and not (torch_private.any_autocast() and s.is_floating_point()):
        raise RuntimeError(f"{name} must have the input's dtype {input.dtype}, got {s.dtype}")
    if not (s.is_cpu and input.is_cpu) and s.device != input.device:
        raise RuntimeError(f"{name} must be on the input's device {input.device}, got {s.device}")
    return s


def scan(spec, gx, weight_hh, bias_hh, states, params, batch_sizes, resets) -> None:
    """The arguments of functional.scan."""
    _expect(len(states) == spec.states, "state", f"{spec.states} tensors", len(states))
    gates, h = spec.gates, _recurrent_weights(spec, gx, weight_hh, bias_hh)
    axes = "T, B" if batch_sizes is None else "N"
    fits = gx.dim() == (3 if batch_sizes is None else 2) and gx.shape[-1] == gates * h
    _expect(fits, "gx", f"shape [{axes}, {gates * h}]", [*gx.shape])
    if batch_sizes is not None:
        fits = batch_sizes.dtype == torch.int64 and batch_sizes.is_cpu and batch_sizes.dim() == 1
        got = f"{batch_sizes.dtype} on {batch_sizes.device}"
        _expect(fits, "batch_sizes", "one axis of torch.int64 on cpu", got)
        falling = bool((batch_sizes.diff() <= 0).all()) and bool((batch_sizes >= 0).all())
        falling = falling and int(batch_sizes.sum()) == len(gx)
        got = batch_sizes.tolist()
        _expect(falling, "batch_sizes", f"falling numbers that sum to N = {len(gx)}", got)
    b = states[0].shape[0] if batch_sizes is not None else gx.shape[1]
    if batch_sizes is not None and len(batch_sizes):
        first = int(batch_sizes[0])
        _expect(first <= b, "batch_sizes", f"at most state's {b} rows in a step", first)
    for s in states:
        _expect(s.shape == (b, h), "state", f"tensors of shape [B, {h}]", [*s.shape])
    if spec.params:
        shape = [spec.params, h]
        got = [*params.shape] if isinstance(params, Tensor) else type(params).__name__
        _expect(got == shape, "params", f"shape {shape} for the cell {spec.title}", got)
    elif params is not None:
        raise ValueError(f"params must be None: the cell {spec.title} has no parameters of its own")
    tensors = [("weight_hh", weight_hh), ("bias_hh", bias_hh), ("params", params)]
    tensors.append(("resets", resets))
    for name, tensor in (*tensors, *(("state", s) for s in states)):
        if tensor is not None:
            here = tensor.device == gx.device
            _expect(here, name, f"gx's device {gx.device}", tensor.device)
            # Under autocast gx may have its dtype, and the rest another.
            same = name == "resets" or tensor.dtype == gx.dtype
            autocast = torch_private.any_autocast() and tensor.is_floating_point()
            _expect(same or autocast, name, f"gx's dtype {gx.dtype}", tensor.dtype)
    if resets is not None:
        _expect(resets.dtype == torch.bool, "resets", "dtype torch.bool", resets.dtype)
        shape = gx.shape[:-1]
        _expect(resets.shape == shape, "resets", f"shape {[*shape]}", [*resets.shape])


def _recurrent_weights(spec, gx, weight_hh, bias_hh) -> int:
    """H."""
    gates = spec.gates
    if not spec.recurrent:
        for name, given in (("weight_hh", weight_hh), ("bias_hh", bias_hh)):
            if given is not None:
                raise ValueError(
                    f"{name} must be None: the cell {spec.title} has no recurrent product"
                )
        return (gx.shape[-1] if gx.dim() else 0) // gates
    shape = [*weight_hh.shape] if isinstance(weight_hh, Tensor) else type(weight_hh).__name__
    h = shape[-1] if shape and isinstance(shape, list) else 0
    slots, letter = spec.recurrent, "G" if spec.recurrent == gates else "R"
    expected, letters = [slots * h, h], f"[{letter}*H, H]"
    if spec.in_heads:
        n = shape[0] if h else 0
        expected, letters = [max(n, 1), *expected], "[N, G*H/N, H/N]"
        h *= n
    _expect(shape == expected, "weight_hh", f"shape {letters} with {letter} = {slots}", shape)
    if bias_hh is not None:
        fits = bias_hh.shape == (slots * h,)
        _expect(fits, "bias_hh", f"shape [{slots * h}]", [*bias_hh.shape])
    return h


def _expect(holds: bool, name: str, expected: str, got: object) -> None:
    if not holds:
        raise ValueError(f"{name} must have {expected}, got {got}")

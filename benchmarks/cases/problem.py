"""One case made concrete: the weights, inputs and gradients that every contestant receives."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from . import layers, zoo_cells
from .case import Case
from .lookup import get


def weight_shapes(case: Case) -> dict[str, tuple[int, ...]]:
    """Names and shapes of torch.nn's state_dict, in its order, as `fastrnn.Recurrent` has them."""
    cell, shapes = layers.form(get(case.cell)), {}
    rows, units = cell.recurrent * case.H, case.H // cell.heads
    product = (cell.heads, cell.recurrent * units, units) if cell.heads > 1 else (rows, case.H)
    for layer in range(case.layers):
        width = case.I if layer == 0 else case.directions * case.H
        for suffix in ("", "_reverse")[: case.directions]:
            shapes[f"weight_ih_l{layer}{suffix}"] = (cell.inputs * case.H, width)
            if rows:
                shapes[f"weight_hh_l{layer}{suffix}"] = product
            shapes[f"bias_ih_l{layer}{suffix}"] = (cell.inputs * case.H,)
            if rows:
                shapes[f"bias_hh_l{layer}{suffix}"] = (rows,)
            if cell.params:
                shapes[f"params_l{layer}{suffix}"] = (cell.params, case.H)
    return shapes


@dataclass(frozen=True)
class Problem:
    """Tensors of one case, in the case's dtype.

    x [T, B, I]; weights as in torch.nn's state_dict; state S tensors [L*D, B, H] for streaming,
    else None (zeros); grad [T, B, D*H], the gradient of the output, zero past a row's length;
    extra [T, B, E*H] the cell's extra slots, None if it has none.
    """

    case: Case
    x: Tensor
    weights: dict[str, Tensor]
    state: tuple[Tensor, ...] | None
    grad: Tensor
    extra: Tensor | None = None

    @property
    def training(self) -> bool:
        return self.case.mode == "training"

    @property
    def lengths(self) -> Tensor:
        return torch.tensor(self.case.lengths)

    @cached_property
    def hx(self):
        """The state as torch.nn takes it: a tensor, or a pair."""
        if self.state is None or len(self.state) > 1:
            return self.state
        return self.state[0]

    def packed(self, padded: Tensor) -> Tensor | PackedSequence:
        """The padded tensor as torch.nn takes it: itself, or packed if the case is ragged."""
        return pack_padded_sequence(padded, self.lengths) if self.case.ragged else padded

    def pad(self, data: Tensor) -> Tensor:
        """Packed rows [N, F] back to [T, B, F]; a padded tensor as it is."""
        if not self.case.ragged:
            return data
        sizes = self.packed(self.grad).batch_sizes
        return pad_packed_sequence(PackedSequence(data, sizes), total_length=self.case.T)[0]

    def torch_layer(self) -> nn.RNNBase:
        """torch.nn's layer with these weights, on this device, in this dtype."""
        return self.load(layers.plain(self.case.cell))

    def load(self, kind, **extra) -> nn.Module:
        """A layer with torch.nn's constructor and state_dict, given these weights."""
        case, like = self.case, {"device": self.x.device, "dtype": self.x.dtype}
        shape = {"num_layers": case.layers, "bidirectional": case.directions == 2}
        layer = kind(case.I, case.H, **shape, **like, **extra)
        layer.load_state_dict(self.weights)
        return layer.train(self.training)

    def to(self, dtype: torch.dtype) -> Problem:
        """The same values in another dtype: what the float64 reference starts from."""
        return replace(
            self,
            x=self.x.to(dtype),
            weights={name: w.to(dtype) for name, w in self.weights.items()},
            state=None if self.state is None else tuple(s.to(dtype) for s in self.state),
            grad=self.grad.to(dtype),
            extra=None if self.extra is None else self.extra.to(dtype),
        )


def make(case: Case, device: str = "cpu") -> Problem:
    """Random tensors of a case; the same ones on every machine."""
    gen = torch.Generator().manual_seed(7)
    dtype, wide = getattr(torch, case.tensor_dtype), case.directions * case.H

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=gen)

    bound = 1 / math.sqrt(case.H)
    weights = {
        name: (2 * torch.rand(shape, generator=gen) - 1) * bound
        for name, shape in weight_shapes(case).items()
    }
    valid = torch.arange(case.T)[:, None] < torch.tensor(case.lengths)  # [T, B]
    x = normal(case.T, case.B, case.I) * valid[..., None]
    grad = normal(case.T, case.B, wide) * valid[..., None]
    state = None
    if case.mode == "stream":
        rows = (case.layers * case.directions, case.B, case.H)
        state = tuple(normal(*rows) for _ in range(get(case.cell).states))
    extra = zoo_cells.masks(case, gen) if layers.form(get(case.cell)).extra else None
    raw = Problem(case, x, weights, state, grad, extra)
    return _on(raw.to(dtype), device)


def _on(problem: Problem, device: str) -> Problem:
    if device == "cpu":
        return problem
    return replace(
        problem,
        x=problem.x.to(device),
        weights={name: w.to(device) for name, w in problem.weights.items()},
        state=None if problem.state is None else tuple(s.to(device) for s in problem.state),
        grad=problem.grad.to(device),
        extra=None if problem.extra is None else problem.extra.to(device),
    )

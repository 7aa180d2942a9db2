"""The recurrent cells: what one unit does at one time step.

A cell is a table entry: how many gates, carried states and saved values it has, and `step`, its
maths in plain torch. `step` is the oracle of the project: the reference scan loops over it, and the
kernels (`csrc/cells/`, `fastrnn/triton/cells.py`) are held to it by tests.

    x = W_ih x_t + b_ih     r = W_hh h + b_hh

x and r are kept apart because GRU multiplies the r of its new gate by the reset gate. Gate order is
that of `torch.nn`: i f g o for LSTM, r z n for GRU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

States = tuple[Tensor, ...]


@dataclass(frozen=True)
class CellSpec:
    """Counts and maths of one cell, and which layers have it.

    gates G, states S (carried from step to step; the first is the output h), saved K (values that a
    kernel keeps per unit and step for backward, besides the states), kept (how many of them it
    keeps where gates are to be recomputed: 1 for a C++ policy with a kKeptGate).
    step: (x [.., G, H], r [.., G, H], S states [.., H]) -> S next states [.., H]
    layer, torch_layer: the classes of fastrnn and of torch.nn that have this cell, "" for none;
    arguments: what their constructors take to choose it.
    """

    name: str
    gates: int
    states: int
    saved: int
    step: Callable[[Tensor, Tensor, States], States]
    kept: int = 0
    layer: str = ""
    torch_layer: str = ""
    arguments: Mapping[str, str] = field(default_factory=dict, hash=False)


def _elman(activation: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor, States], States]:
    """h' = activation(x + r)   (Elman 1990; torch.nn.RNN)."""

    def step(x: Tensor, r: Tensor, state: States) -> States:
        return (activation((x + r).squeeze(-2)),)

    return step


def _identity(a: Tensor) -> Tensor:
    return a


def _lstm(x: Tensor, r: Tensor, state: States) -> States:
    """c' = f c + i g,  h' = o tanh(c')   (Hochreiter and Schmidhuber 1997; torch.nn.LSTM)."""
    i, f, g, o = (x + r).unbind(-2)
    c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _gru(x: Tensor, r: Tensor, state: States) -> States:
    """n = tanh(x_n + reset r_n),  h' = n + z (h - n)   (Cho et al. 2014; as in torch.nn.GRU)."""
    x_r, x_z, x_n = x.unbind(-2)
    r_r, r_z, r_n = r.unbind(-2)
    reset, z = (x_r + r_r).sigmoid(), (x_z + r_z).sigmoid()
    n = (x_n + reset * r_n).tanh()
    return (n + z * (state[0] - n),)


def _rnn(nonlinearity: str, activation: Callable[[Tensor], Tensor], torch_layer: str) -> CellSpec:
    return CellSpec(
        f"rnn_{nonlinearity}", gates=1, states=1, saved=0, step=_elman(activation),
        layer="FastRNN", torch_layer=torch_layer, arguments={"nonlinearity": nonlinearity},
    )  # fmt: skip


CELLS: dict[str, CellSpec] = {
    spec.name: spec
    for spec in (
        _rnn("tanh", torch.tanh, "RNN"),
        _rnn("relu", torch.relu, "RNN"),
        _rnn("identity", _identity, ""),
        CellSpec("lstm", 4, 2, 4, _lstm, kept=1, layer="FastLSTM", torch_layer="LSTM"),
        CellSpec("gru", 3, 1, 4, _gru, kept=1, layer="FastGRU", torch_layer="GRU"),
    )
}


def get(name: str) -> CellSpec:
    """The cell of that name; ValueError that lists the known ones if there is none."""
    spec = CELLS.get(name)
    if spec is None:
        raise ValueError(f"cell must be one of {', '.join(CELLS)}, got {name!r}")
    return spec


def measured_as(name: str) -> str:
    """The first cell of the same layer class: it does the same work, and alone is timed."""
    layer = get(name).layer
    return next((other.name for other in CELLS.values() if layer and other.layer == layer), name)


on_register: list[Callable[[], None]] = []  # called where something known of cells may have changed


def register(spec: CellSpec) -> None:
    """Adds a cell. It runs on the reference, and on any backend that has a kernel for it."""
    if spec.name in CELLS:
        raise ValueError(f"cell name must be new, got {spec.name!r}, which is registered already")
    CELLS[spec.name] = spec
    for forget in on_register:
        forget()

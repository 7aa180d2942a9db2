"""Recurrent: the layer of any cell, as `fastrnn.cell` makes them."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from torch import nn

from . import cells, checks
from .cells import Cell
from .layer import Layer

__all__ = ["Recurrent"]


class Recurrent(Layer):
    """L layers of a cell that is given: all else is as in torch.nn's recurrent layers.

        layer = fastrnn.Recurrent(light_gru, input_size=32, hidden_size=128)
        output, h_n = layer(x, hx, lengths=lengths, resets=resets)

    Weights are named and initialised as torch.nn's: weight_ih_l0 `[G*H, I]`, weight_hh_l0 `[G*H,
    H]`, bias_ih_l0 and bias_hh_l0 `[G*H]` (of a cell with inputs= and recurrent= `[X*H]`, `[R*H]`),
    and params_l0 `[P, H]` where the cell has parameters of its own; a cell with product="none" has
    neither weight_hh nor bias_hh; of one with "heads", weight_hh_l0 is `[N, G*H/N, H/N]`: for each
    head, its units' rows gate by gate. hx and h_n are one Tensor `[L*D, B, H]`, of a cell with
    S > 1 states tuples of S.

    Args:
        cell: one made by `fastrnn.cell`, or a name in `fastrnn.cells.CELLS`
        heads: N, for a cell with product="heads" alone: divides hidden_size
        backend: "auto", "native" (C++/CUDA), "triton" or "reference"
        recompute_gates: less memory and more time in training
        zoneout: a probability, or one for each state: how often a unit keeps its state in training
        recurrent_dropout, recurrent_mask: how often a unit is hidden from the next step, in all
            steps ("sequence") or in each by itself ("step")
        others: as torch.nn.GRU's

    Raises TypeError or ValueError for a cell or backend that is none, and as torch.nn.

    definition: the Cell; `cell` is its name. A layer pickles its cell by reference, as Python does
    a function: the module that defines it must be there, and what it says then counts.
    """

    stands_for = nn.RNNBase

    def __init__(
        self,
        cell: Cell | str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device=None,
        dtype=None,
        *,
        heads: int | None = None,
        backend: str = "auto",
        recompute_gates: bool = False,
        zoneout: float | Sequence[float] = 0.0,
        recurrent_dropout: float = 0.0,
        recurrent_mask: str = "sequence",
    ) -> None:
        name = checks.cell(cell)
        self.heads = checks.heads(cells.get(name), heads, hidden_size)
        super().__init__(
            name, name, input_size, hidden_size, num_layers, bias, batch_first, dropout,
            bidirectional, device=device, dtype=dtype, backend=backend,
            recompute_gates=recompute_gates, zoneout=zoneout, recurrent_dropout=recurrent_dropout,
            recurrent_mask=recurrent_mask,
        )  # fmt: skip
        self._define(cell if isinstance(cell, Cell) else cells.get(name))

    def _define(self, definition: Cell) -> None:
        self.definition = definition
        self.cell = self.mode = definition.name
        self.states, self.extra_slots = definition.states, definition.extra
        self._counts = definition.counts
        names = tuple(f"hx[{k}]" for k in range(self.states))
        self.hx_names = names, f"of {self.states} Tensors"

    def __getstate__(self) -> dict:
        return {**super().__getstate__(), "definition": _as_its_module_has_it(self.definition)}

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        before, now = self._counts, self.definition.counts
        if before != now:
            title = self.definition.title
            raise ValueError(
                f"cell {title!r} has changed: the layer was saved with {before}, got {now}"
            )
        self._define(self.definition)

    def extra_repr(self) -> str:
        extra = f"{self.definition.title}, {super().extra_repr()}"
        return extra if self.heads is None else f"{extra}, heads={self.heads}"


def _as_its_module_has_it(cell: Cell) -> Cell:
    """The same cell as it was declared last: pickle wants the very object that the module has."""
    found = getattr(sys.modules.get(cell.__module__), getattr(cell, "__qualname__", ""), None)
    return found if isinstance(found, Cell) and found.name == cell.name else cell

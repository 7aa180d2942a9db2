"""A layer of a cell that has no layer class of its own: one that `cells.register` has added.

The tests and benchmarks, which go over all cells, make the layers of such a cell with it.
"""

from __future__ import annotations

from torch import nn

from . import cells, checks
from .modules import _FastBase


class CellLayer(_FastBase):
    """The layer of any cell of one or two states: weights, arguments, results as torch.nn's."""

    stands_for = nn.RNNBase

    def __init__(
        self,
        cell: str,
        *sizes: int,
        backend: str = "auto",
        recompute_gates: bool = False,
        **options,
    ) -> None:
        spec = cells.get(cell)
        super().__init__("RNN_TANH", *sizes, **options)  # torch.nn's mode of one gate
        for name, weight in list(self.named_parameters()):
            wide = weight.new_empty(spec.gates * self.hidden_size, *weight.shape[1:])
            setattr(self, name, nn.Parameter(wide))
        self.reset_parameters()
        self.mode = self.cell = cell
        self.states = spec.states
        self.backend = checks.backend(backend)
        self.recompute_gates = recompute_gates

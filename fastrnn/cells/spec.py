"""What the rest of fastrnn knows of a cell: its counts, and its step in plain torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from .derived import Derived

Tensors = tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Cell:
    """A recurrent cell: what one unit does at one step. Made by `fastrnn.cell`; callable as `step`.

    name: unique among the cells of a process: the function's name, and for a cell with derived
        kernels "@" and 16 hex digits of what they compute
    gates G, states S (carried from step to step; the first is the output h), params P (learned
        vectors [H])
    step: (x, r, state) or, with params, (x, r, state, p) -> S next states. Tuples of G, G, S and P
        tensors: x, r and states [.., H], parameters [H]
    saved K: values that kernels keep per unit and step for backward, besides the states
    kept: how many of them they keep where gates are to be recomputed: 1 with a kept gate
    layer, torch_layer: the classes of fastrnn and of torch.nn that have this cell, "" for none;
    arguments: what their constructors take to choose it
    derived: the graphs of its kernels; None for a cell whose kernels are written by hand
    """

    name: str
    gates: int
    states: int
    step: Callable[..., Tensors]
    saved: int
    kept: int = 0
    params: int = 0
    layer: str = ""
    torch_layer: str = ""
    arguments: Mapping[str, str] = field(default_factory=dict)
    derived: Derived | None = None

    @property
    def title(self) -> str:
        """The name that its author gave it."""
        return self.name.partition("@")[0]

    def __call__(self, *args: Tensors) -> Tensors:
        return self.step(*args)

    def __repr__(self) -> str:
        params = f", params={self.params}" if self.params else ""
        return f"<fastrnn cell {self.title}: gates={self.gates}, states={self.states}{params}>"

    def __reduce__(self) -> str | tuple:
        # By reference, as functions: pickle imports the module; copies are the cell itself.
        return self.step.__qualname__ if self.derived else (_named, (self.name,))


def _named(name: str) -> Cell:
    from . import get

    return get(name)

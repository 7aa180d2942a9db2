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
    gates G (slots of the input projection), states S (carried from step to step; the first is the
        output h), params P (learned vectors [H])
    product: "dense": r = W_hh h + b_hh has R slots; "heads": so too, and W_hh has a block for each
        of N heads of units [N, G*H/N, H/N], which see no other head; "none": no such product, r is
        empty. N is the layer's business: a step knows nothing of it
    slots: R, where it is not G
    extra E: slots of x that the caller brings, after the G of the projection
    feeds: which state W_hh multiplies
    late L: of the R slots of W_hh the last ones, which multiply what the step makes, not a state
    step: (x, r, state), then p with params, then product with late slots -> S next states. Tuples
        of G + E, R - L, S and P tensors: x, r and states [.., H], parameters [H]; product takes a
        tensor [.., H] and gives L of them
    saved K: values that kernels keep per unit and step for backward, besides the states
    kept: how many of them they keep where gates are to be recomputed: 1 with a kept gate, all of a
        cell that looks across units
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
    product: str = "dense"
    slots: int | None = None
    extra: int = 0
    feeds: int = 0
    late: int = 0

    @property
    def recurrent(self) -> int:
        """Slots R of the recurrent product: 0 where there is none."""
        if self.product == "none":
            return 0
        return self.gates if self.slots is None else self.slots

    @property
    def early(self) -> int:
        """Those of them that a step begins with: r."""
        return self.recurrent - self.late

    @property
    def in_heads(self) -> bool:
        """Whether the recurrent product has a block for each head."""
        return self.product == "heads"

    @property
    def across(self) -> bool:
        """Does a unit need sums over the units of its row (means, a layer normalisation)?"""
        return self.derived is not None and self.derived.across

    @property
    def counts(self) -> str:
        """As its declaration says them."""
        slots = f"gates={self.gates}"
        if self.product == "none":
            slots = f"inputs={self.gates}, product='none'"
        elif self.in_heads:
            slots += ", product='heads'"
        elif self.slots is not None:
            slots = f"inputs={self.gates}, recurrent={self.slots}"
        more = "".join(f", {k}={v}" for k in ("extra", "feeds", "late") if (v := getattr(self, k)))
        return f"{slots}{more}, states={self.states}, params={self.params}"

    @property
    def title(self) -> str:
        """The name that its author gave it."""
        return self.name.partition("@")[0]

    def __call__(self, *args: Tensors) -> Tensors:
        return self.step(*args)

    def __repr__(self) -> str:
        return f"<fastrnn cell {self.title}: {self.counts.removesuffix(', params=0')}>"

    def __reduce__(self) -> str | tuple:
        # By reference, as functions: pickle imports the module; copies are the cell itself.
        return self.step.__qualname__ if self.derived else (_named, (self.name,))


def _named(name: str) -> Cell:
    from . import get

    return get(name)

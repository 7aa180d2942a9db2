"""What a cell's step becomes: the graphs of its kernels, forward and backward."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from .graph import Node, order

Nodes = tuple[Node, ...]


@dataclass(frozen=True)
class Derived:
    """A cell as kernels compute it. All tuples are of nodes; G gates, S states, P parameters, E
    extra slots of x, R slots of the recurrent product.

    next [S], saved [K]: forward's results, over leaves x, r, prev, param, extra
    dx [G], dr [R], dprev [S], dparam [P], dextra [E]: backward's, over leaves saved, prev, next, d,
        param, extra. dprev leaves out what reaches the states through r; dr is dx where nothing
        tells them apart
    feeds: the state that the recurrent product multiplies
    late: the last of its slots, whose product multiplies what the step asks for: the last of saved,
        whose gradient is d[S] in backward
    kept_gate: a gate g whose value is saved[g], on which no other saved value depends; or None
    heads: whether r comes from a product with a block for each head
    rows: of a cell that looks across units, how many of the saved values are the same for all units
        of a row: the last ones, leaves "row" of backward
    """

    gates: int
    states: int
    params: int
    next: Nodes
    saved: Nodes
    dx: Nodes
    dr: Nodes
    dprev: Nodes
    dparam: Nodes
    kept_gate: int | None
    rows: int = 0
    heads: bool = False
    dextra: Nodes = ()
    feeds: int = 0
    late: int = 0

    @property
    def across(self) -> bool:
        """Does a unit need sums over the units of its row?"""
        return any(n.op == "sum" for n in order((*self.next, *self.gradients)))

    @property
    def gradients(self) -> Nodes:
        return (*self.dx, *self.dr, *self.dprev, *self.dparam, *self.dextra)

    @property
    def extra(self) -> int:
        return len(self.dextra)

    @property
    def split(self) -> bool:
        """Does dr differ from dx?"""
        if self.dr and len(self.dx) != len(self.dr):
            return True
        return any(a is not b for a, b in zip(self.dx, self.dr))

    def digest(self) -> str:
        """16 hex digits that say whether two cells have the same kernels; names do not count."""
        numbers: dict[int, int] = {}
        lines = [f"{self.gates} {self.states} {self.params} {self.kept_gate}"]
        if not self.dr:
            lines[0] += " without a product"
        elif len(self.dr) != self.gates:
            lines[0] += f" recurrent {len(self.dr)}"
        if self.heads:
            lines[0] += " in heads"
        if self.extra or self.feeds:
            lines[0] += f" extra {self.extra} feeds {self.feeds}"
        if self.late:
            lines[0] += f" late {self.late}"
        for roots in ((*self.next, *self.saved), self.gradients):
            numbers.clear()
            for node in order(roots):
                numbers[node.number] = len(numbers)
                args = [numbers[a.number] for a in node.args]
                lines.append(f"{node.op} {args} {node.at!r}")
            lines.append(str([numbers[r.number] for r in roots]))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

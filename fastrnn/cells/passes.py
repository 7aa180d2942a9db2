"""A graph with sums over units as passes over the units of a row: a kernel's plan of it.

A sum is there once a pass has been over all units, so pass q computes of every unit what is summed
next; then, once for the row, the uniform values that the sums are read for (the row values); and
so on, until the last pass gives the results. What was dear to compute is left for later passes;
the rest is cheaper to compute again than to keep.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .cut import price
from .graph import Graph, Node, order, rebuild

READ, DEAR_ENOUGH = 5, 60  # as prices of cut.py: to load a value; what is left for later passes

Outputs = dict[tuple[str, int], Node]  # (name of an array, place in it) -> value


@dataclass
class Pass:
    """rows: the row values that are computed before it, over leaves total, row and units; outputs:
    what it computes of each unit: "total" (what is summed), "temp" (left for later passes), and
    results; over leaves row, temp and those of the graph.
    """

    rows: Outputs = field(default_factory=dict)
    outputs: Outputs = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    passes: tuple[Pass, ...]
    totals: int
    rows: int
    temps: int

    def where(self, name: str, count: int) -> list[int]:
        """For each place of an array, the pass that writes it."""
        found = {k: q for q, p in enumerate(self.passes) for n, k in p.outputs if n == name}
        return [found[k] for k in range(count)]


def plan(
    results: Mapping[str, Sequence[Node]], early: Iterable[str] = (), given: int = 0, first: int = 0
) -> Plan:
    """The passes that compute some results.

    results: name of an array -> its values; early: the arrays that may be written before the last
    pass; given: how many row values come from forward: leaves "row" from `first` on.
    """
    return _Planner(results, set(early), given, first).plan()


class _Planner:
    def __init__(self, results, early: set[str], given: int, first: int):
        self._left = {(name, k): n for name, ns in results.items() for k, n in enumerate(ns)}
        self._early = early
        roots = list(self._left.values())
        self._nodes = list(order(roots))
        self._level = _levels(self._nodes)  # by number: the first pass that can have it
        self._last = max((self._level[n.number] for n in roots), default=0)
        self._sums = [n for n in self._nodes if n.op == "sum"]
        self._row = {n.number: n.at - first for n in self._nodes if n.op == "row"}
        for node in self._read_rows(roots):
            self._row.setdefault(node.number, given + len(self._row_values()))
        self._given = given
        self._temp: dict[int, int] = {}  # by number: the place of what earlier passes left

    def _row_values(self) -> list[Node]:
        return [n for n in self._nodes if n.number in self._row and n.op != "row"]

    def _read_rows(self, roots: list[Node]) -> list[Node]:
        """The uniform numbers that units read, but constants. A mask is made where it is read."""
        read = {a.number for n in self._nodes if n.is_mask or not n.uniform for a in n.args}
        read |= {n.number for n in roots}
        return [n for n in self._nodes if _of_row(n) and n.number in read and not _constant(n)]

    def plan(self) -> Plan:
        passes = [self._pass(q) for q in range(self._last + 1)]
        rows = max([self._given, *(k + 1 for k in self._row.values())])
        return Plan(tuple(passes), len(self._sums), rows, len(self._temp))

    def _pass(self, q: int) -> Pass:
        made = Pass(rows=self._rows(q))
        targets: Outputs = {
            ("total", k): n.args[0]
            for k, n in enumerate(self._sums)
            if self._level[n.number] == q + 1
        }
        computed = self._computed(targets.values())
        for at, node in list(self._left.items()):
            if q == self._last or (at[0] in self._early and node.number in computed):
                targets[at] = self._left.pop(at)
        before = dict(self._temp)
        for node in self._for_later(q, self._computed(targets.values())):
            self._temp[node.number] = len(self._temp)
            targets["temp", self._temp[node.number]] = node
        graph = Graph()
        become = {n: graph.leaf("row", k) for n, k in self._row.items()}
        become |= {n: graph.leaf("temp", k) for n, k in before.items()}
        for node in self._nodes:
            if node.number in become:
                become[node.number].name = node.name
        made.outputs = dict(zip(targets, rebuild(targets.values(), graph, become)))
        return made

    def _rows(self, q: int) -> Outputs:
        """The row values that can be computed right before pass q."""
        graph = Graph()
        now = [n for n in self._row_values() if self._level[n.number] == q]
        become = {n.number: graph.leaf("total", k) for k, n in enumerate(self._sums)}
        levels = self._level
        become |= {
            n: graph.leaf("row", k)
            for n, k in self._row.items()
            if levels[n] < q or n not in {m.number for m in now}
        }
        values = rebuild(now, graph, {n: v for n, v in become.items() if levels[n] <= q})
        return {("row", self._row[n.number]): v for n, v in zip(now, values)}

    def _computed(self, targets: Iterable[Node]) -> dict[int, Node]:
        """What a pass computes for its targets: neither row values nor what is left from before."""
        found, stack = {}, list(targets)
        while stack:
            node = stack.pop()
            if node.number not in found and not self._there(node):
                found[node.number] = node
                stack.extend(node.args)
        return found

    def _there(self, node: Node) -> bool:
        return node.leaf or _of_row(node) or node.number in self._temp

    def _for_later(self, q: int, computed: dict[int, Node]) -> list[Node]:
        """Of what a pass computes, what later ones read and is dear."""
        later = [n.args[0] for n in self._sums if self._level[n.number] > q + 1]
        found, seen, stack = {}, set(), [*later, *self._left.values()]
        while stack:
            node = stack.pop()
            if node.number in seen or self._there(node):
                continue
            seen.add(node.number)
            if node.number in computed and not node.is_mask and self._price(node) >= DEAR_ENOUGH:
                found[node.number] = node
            else:
                stack.extend(node.args)
        return [found[n] for n in sorted(found)]

    def _price(self, node: Node) -> int:
        if self._there(node):
            return 0 if node.uniform else READ
        paid = price(node)
        for a in node.args:  # no further than it matters: a graph has many ways down
            paid += self._price(a) if paid < DEAR_ENOUGH else 0
        return paid


def _levels(nodes: Iterable[Node]) -> dict[int, int]:
    levels: dict[int, int] = {}
    for node in nodes:
        below = max((levels[a.number] for a in node.args), default=0)
        levels[node.number] = below + (node.op == "sum")
    return levels


def _of_row(node: Node) -> bool:
    return node.uniform and not node.is_mask


def _constant(node: Node) -> bool:
    return all(n.op == "const" or n.args for n in order([node])) and not any(
        n.op == "sum" for n in order([node])
    )

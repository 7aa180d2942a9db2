"""A cell as a graph of operations on units: what is traced, derived, cut and emitted.

Equal operations on equal arguments are one node, so a graph has no common subexpressions left.
Numbers and masks (what a comparison gives) are apart, as in C++ and Triton. One operation looks
across the units of a row, "sum"; what depends on sums and constants alone is uniform: the same
number for all units of a row.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

# What a unit of a step reads: gate g of x and of r, state k before and after the step, parameter
# p, extra slot e; in backward also the gradient d of state k after the step, and saved value k,
# which is a "row" where it is uniform; "units": how many there are. In the passes of a step
# (passes.py) also row value k, sum k, and what an earlier pass has left of the unit.
UNIFORM_LEAVES = ("row", "units", "total")
LEAVES = ("x", "r", "prev", "param", "extra", "next", "d", "saved", "temp", *UNIFORM_LEAVES)
FUNCTIONS = ("sqrt", "exp", "expm1", "log", "log1p", "sigmoid", "tanh", "sin", "cos", "erf")
UNARY = ("neg", "abs", *FUNCTIONS)
BINARY = ("add", "sub", "mul", "div", "maximum", "minimum")  # the last two let NaN through
COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")  # of two numbers: a mask
MASKS = ("both", "either", "inverse")  # of masks: a mask
# and "select" (mask, a, b): a where the mask is set, else b; "sum" (a): over the units of a row;
# "const": a number

_COMMUTE = {"add", "mul", "both", "either", "eq", "ne"}


class Node:
    """One value of one unit at one step.

    op: one of the names above. args: its arguments. at: the place of a leaf, the value of a
    "const". name: what the step calls it, where it has a name. uniform: the same for all units of a
    row, as constants are too.
    """

    __slots__ = ("args", "at", "graph", "name", "number", "op", "uniform")

    def __init__(self, graph: Graph, op: str, args: tuple[Node, ...], at: float | None):
        self.graph, self.op, self.args, self.at = graph, op, args, at
        self.number = len(graph)  # in the order in which they were made
        self.name = ""
        self.uniform = op in UNIFORM_LEAVES or op in ("const", "sum")
        self.uniform |= bool(args) and all(a.uniform for a in args)

    @property
    def leaf(self) -> bool:
        return self.op in LEAVES

    @property
    def is_mask(self) -> bool:
        return self.op in COMPARISONS or self.op in MASKS

    def __add__(self, other):
        return self.graph.make("add", self, other)

    def __radd__(self, other):
        return self.graph.make("add", other, self)

    def __sub__(self, other):
        return self.graph.make("sub", self, other)

    def __rsub__(self, other):
        return self.graph.make("sub", other, self)

    def __mul__(self, other):
        return self.graph.make("mul", self, other)

    def __rmul__(self, other):
        return self.graph.make("mul", other, self)

    def __truediv__(self, other):
        return self.graph.make("div", self, other)

    def __rtruediv__(self, other):
        return self.graph.make("div", other, self)

    def __neg__(self):
        return self.graph.make("neg", self)

    def __repr__(self) -> str:
        inner = ", ".join(map(repr, self.args)) if self.args else "" if self.at is None else self.at
        return f"{self.op}({inner})"


class Graph:
    """The nodes of one cell, each once."""

    def __init__(self) -> None:
        self._nodes: dict[tuple, Node] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def leaf(self, op: str, at: int) -> Node:
        return self._node(op, (), at)

    def const(self, value: float) -> Node:
        return self._node("const", (), float(value))

    def make(self, op: str, *args: Node | float) -> Node:
        """The node of an operation, or a simpler one, equal to it but for the sign of a zero."""
        nodes = tuple(a if isinstance(a, Node) else self.const(a) for a in args)
        same = _simpler(op, *nodes)
        if same is not None:
            return same
        if op in _COMMUTE and nodes[0].number > nodes[1].number:
            nodes = nodes[::-1]
        return self._node(op, nodes, None)

    def select(self, mask: Node, a: Node | float, b: Node | float) -> Node:
        return self.make("select", mask, a, b)

    def mean(self, a: Node) -> Node:
        """Over the units of a row."""
        return self.make("div", self.make("sum", a), self.leaf("units", 0))

    def _node(self, op: str, args: tuple[Node, ...], at: float | None) -> Node:
        # -0.0 and 0.0 are equal as keys, NaN is not even to itself
        exact = at if not isinstance(at, float) else (math.copysign(1, at), repr(at))
        key = (op, *(a.number for a in args), exact)
        node = self._nodes.get(key)
        if node is None:
            node = self._nodes[key] = Node(self, op, args, at)
        return node


def _simpler(op: str, *args: Node) -> Node | None:
    values = [a.at if a.op == "const" else None for a in args]
    first = args[0]
    if op == "add" and 0 in values:
        return args[1 - values.index(0)]
    if op == "sub" and values[1] == 0:
        return first
    if op == "sub" and values[0] == 0:
        return -args[1]
    if op in ("mul", "div") and values[1] == 1:
        return first
    if op == "mul" and values[0] == 1:
        return args[1]
    if op in ("mul", "div") and values[1] == -1:
        return -first
    if op == "mul" and values[0] == -1:
        return -args[1]
    if op == "neg" and first.op in ("neg", "const"):
        return first.args[0] if first.op == "neg" else first.graph.const(-first.at)
    if op == "add" and args[1].op == "neg":
        return first - args[1].args[0]
    if op == "add" and first.op == "neg":
        return args[1] - first.args[0]
    if op == "sub" and args[1].op == "neg":
        return first + args[1].args[0]
    if op == "inverse" and first.op == "inverse":
        return first.args[0]
    if op == "select" and args[1] is args[2]:
        return args[1]
    if op in ("both", "either", "maximum", "minimum") and first is args[1]:
        return first
    if op in ("add", "sub") and first.op == args[1].op == "sum":  # one sum for two
        return first.graph.make("sum", first.graph.make(op, first.args[0], args[1].args[0]))
    if op == "sum" and first.uniform:
        return first * first.graph.leaf("units", 0)
    if op == "div" and args[1].op == "units" and first.op == "mul" and args[1] in first.args:
        return first.args[first.args.index(args[1]) - 1]
    return None


def order(roots: Iterable[Node]) -> Iterator[Node]:
    """The roots and all that they need, each once, arguments first."""
    seen: set[int] = set()
    stack = [(node, False) for node in reversed(list(roots))]
    while stack:
        node, ready = stack.pop()
        if ready:
            yield node
        elif node.number not in seen:
            seen.add(node.number)
            stack.append((node, True))
            stack.extend((a, False) for a in reversed(node.args) if a.number not in seen)


def rebuild(roots: Iterable[Node], graph: Graph, become: dict[int, Node]) -> list[Node]:
    """The roots in another graph; become: what to put in the place of nodes, by their number."""
    roots, known = list(roots), dict(become)

    def needed(roots: list[Node]) -> Iterator[Node]:  # nothing below what is replaced
        seen, stack = set(known), [(n, False) for n in reversed(roots)]
        while stack:
            node, ready = stack.pop()
            if ready:
                yield node
            elif node.number not in seen:
                seen.add(node.number)
                stack.append((node, True))
                stack.extend((a, False) for a in reversed(node.args))

    for node in needed(roots):
        if node.leaf:
            new = graph.leaf(node.op, node.at)
        elif node.op == "const":
            new = graph.const(node.at)
        else:
            new = graph.make(node.op, *(known[a.number] for a in node.args))
        new.name = new.name or node.name
        known[node.number] = new
    return [known[r.number] for r in roots]

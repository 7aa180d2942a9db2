"""The functions of a C++ policy with late slots: a step in two parts (csrc/cells/traits.h)."""

from __future__ import annotations

from collections.abc import Sequence

from .cpp import ARRAYS, CPP, signature
from .cut import DEAR, price
from .derived import Derived
from .graph import Graph, Node, order, rebuild
from .printing import Printer

_READS = {"forward": ("x", "r", "prev", "p", "e"), "backward": ("saved", "prev", "next", "p", "e")}
Outputs = dict[str, Sequence[Node]]  # array -> its values


def functions(derived: Derived) -> list[str]:
    """Counts and functions."""
    asked, temps = derived.saved[-1], left(derived)
    graph = Graph()
    become = {n.number: graph.leaf("temp", k) for k, n in enumerate(temps)}
    for node in temps:
        become[node.number].name = node.name
    next, saved = (rebuild(nodes, graph, become) for nodes in (derived.next, derived.saved[:-1]))
    early = len(derived.dr) - derived.late
    rest: Outputs = {"dx": derived.dx, "dr": derived.dr[:early]}
    if not derived.split:
        rest = {"dx": derived.dx[:early]}
    rest |= {"dp": derived.dparam, "de": derived.dextra, "d": derived.dprev}
    return [
        f"  static constexpr int kLate = {derived.late}, kTemps = {len(temps)};",
        *_function("ask", "forward", {"temp": temps, "asked": [asked]}, ("temp", "asked")),
        *_function("forward", "forward", {"next": next, "saved": saved}, ("next", "saved"), "temp"),
        *_function("late", "backward", {"dlate": derived.dr[early:]}, ("dlate",), "d"),
        *_function("backward", "backward", rest, ("d", "dx", "dr", "dp", "de")),
    ]


def left(derived: Derived) -> list[Node]:
    """What the first part of a step leaves for the second, which needs it too, and where it is
    dear."""
    first = {n.number for n in order(derived.saved[-1:])}
    found, seen, stack = {}, set(), [*derived.next, *derived.saved[:-1]]
    while stack:
        node = stack.pop()
        if node.number in seen or node.leaf:
            continue
        seen.add(node.number)
        if node.number in first and price(node) >= DEAR:
            found[node.number] = node
        else:
            stack.extend(node.args)
    return [found[n] for n in sorted(found)]


def _function(
    name: str, direction: str, outputs: Outputs, writes: Sequence[str], *more: str
) -> list[str]:
    """more: arrays that it reads besides those of its direction."""
    body = _body(outputs)
    used = {ARRAYS[n.op] for nodes in outputs.values() for n in order(nodes) if n.leaf}
    used |= {array for array, nodes in outputs.items() if nodes}
    arguments = [("const T*", array) for array in (*_READS[direction], *more)]
    arguments += [("T*", array) for array in writes]
    return ["", *signature(name, arguments, used), *(f"    {line}" for line in body), "  }"]


def _body(outputs: Outputs) -> list[str]:
    printer = Printer(CPP, [n for nodes in outputs.values() for n in nodes])
    # Gradients before and after a step share their array: what moves in it is copied first.
    places = [(name, k, n) for name, nodes in outputs.items() for k, n in enumerate(nodes)]
    moved = {n.at for name, k, n in places if name == n.op == "d" and n.at != k}
    copies = [f"const T d_{k} = d[{k}];" for k in sorted(moved)]
    writes = []
    for name, k, node in places:
        value = printer.text(node)
        if name == node.op == "d" and node.at in moved:
            value = f"d_{node.at}"
        if value != f"{name}[{k}]":
            writes.append(f"{name}[{k}] = {value};")
    return [*copies, *printer.lines, *writes]

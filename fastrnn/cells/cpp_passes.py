"""The functions of a C++ policy that looks across units: a step in passes (csrc/cells/traits.h)."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from .cpp import ARRAYS, CPP
from .derived import Derived
from .graph import order
from .passes import Outputs, Plan, plan
from .printing import Printer

# Of each direction: what a unit reads, and what it writes besides.
_READS = {"forward": ("x", "r", "prev", "p"), "backward": ("saved", "prev", "next", "p")}
_WRITES = {"forward": ("next", "saved"), "backward": ("d", "dx", "dr", "dp")}
_OF_SLOTS = {"forward": (), "backward": ("de",)}  # what it writes besides where it has extra slots


def plans(derived: Derived) -> dict[str, Plan]:
    """The passes of forward and of backward."""
    forward = plan({"next": derived.next, "saved": derived.saved}, early=["saved"])
    results = {"dx": derived.dx, "dr": derived.dr if derived.split else ()}
    results |= {"dp": derived.dparam, "de": derived.dextra, "d": derived.dprev}
    first = len(derived.saved) - derived.rows
    backward = plan(results, early=["dp"], given=derived.rows, first=first)
    return {"forward": forward, "backward": backward}


def functions(derived: Derived) -> list[str]:
    """Counts and functions."""
    lines = [f"  static constexpr int kSavedRows = {derived.rows};"]
    for direction, made in plans(derived).items():
        result, count = (
            ("saved", len(derived.saved)) if direction == "forward" else ("dp", derived.params)
        )
        lines += [
            *_counts(direction.capitalize(), made, result, count),
            *_rows(direction, made),
            *_units(direction, made, derived.extra > 0),
        ]
    return lines


def _counts(word: str, made: Plan, result: str, count: int) -> list[str]:
    """Of the passes, and for each value that not only the last one gives, which of them does."""

    def table(name: str, passes: Sequence[int]) -> str:
        listed = ", ".join(map(str, [*passes, -1]))  # no array is empty in C++
        return f"  static constexpr int k{word}{name}[] = {{{listed}}};"

    constant = f"  static constexpr int k{word}"
    return [
        "",
        f"{constant}Passes = {len(made.passes)}, k{word}Totals = {made.totals};",
        f"{constant}Rows = {made.rows}, k{word}Temps = {made.temps};",
        table("TotalIn", made.where("total", made.totals)),
        table("TempIn", made.where("temp", made.temps)),
        table(f"{result.capitalize()}In", made.where(result, count)),
    ]


def _rows(direction: str, made: Plan) -> list[str]:
    bodies = [_body(p.rows) for p in made.passes]
    used = _used(p.rows for p in made.passes) | ({"row"} if any(bodies) else set())
    arguments = [("const T*", "total"), ("T", "units"), ("T*", "row")]
    return ["", *_function(f"{direction}_rows", arguments, used, bodies)]


def _units(direction: str, made: Plan, slots: bool) -> list[str]:
    outputs = [p.outputs for p in made.passes]
    used = _used(outputs) | {name for o in outputs for name, _ in o}
    reads = (*_READS[direction], *["e"] * slots, "row")
    writes = ("temp", "total", *_WRITES[direction], *_OF_SLOTS[direction] * slots)
    arguments = [("const T*", name) for name in reads] + [("T*", name) for name in writes]
    return ["", *_function(direction, arguments, used, [_body(o) for o in outputs])]


def _function(name: str, arguments: list, used: set[str], bodies: list[list[str]]) -> list[str]:
    listed = ", ".join(t + (f" {n}" if n in used else "") for t, n in arguments)
    head = textwrap.wrap(
        f"FASTRNN_HD static void {name}({listed}) {{", 96, subsequent_indent="    "
    )
    lines = ["  template <int kPass, class T>", *(f"  {line}" for line in head)]
    for q, body in enumerate(bodies):
        if body:
            lines += [f"    if constexpr (kPass == {q}) {{", *(f"      {b}" for b in body), "    }"]
    return [*lines, "  }"]


def _body(outputs: Outputs) -> list[str]:
    printer = Printer(CPP, outputs.values())
    # Gradients before and after a step share their array: what moves in it is copied first.
    moved = {n.at for (name, k), n in outputs.items() if name == n.op == "d" and n.at != k}
    copies = [f"const T d_{k} = d[{k}];" for k in sorted(moved)]
    writes = []
    for (name, k), node in outputs.items():
        value = printer.text(node)
        if name == node.op == "d" and node.at in moved:
            value = f"d_{node.at}"
        if value != f"{name}[{k}]":
            writes.append(f"{name}[{k}] = {value};")
    return [*copies, *printer.lines, *writes]


def _used(outputs) -> set[str]:
    return {ARRAYS[n.op] for o in outputs for n in order(o.values()) if n.leaf}

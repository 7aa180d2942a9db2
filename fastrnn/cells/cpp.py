"""A derived cell as the C++ policy that the engines are made for (`csrc/cells/`)."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence

from .derived import Derived
from .graph import LEAVES, Node, order
from .printing import Language, Printer
from .spec import Cell

ARRAYS = {op: {"param": "p", "extra": "e"}.get(op, op) for op in LEAVES}
_CALLS = {
    "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal",
    "ne": "not_equal",
}  # fmt: skip
_TAKEN = """
x r prev next p e saved d dx dr dp de row temp total units asked dlate T kPass
abs sqrt exp expm1 log log1p sigmoid tanh sin cos erf maximum minimum
less less_equal greater greater_equal equal not_equal both either inverse select fastrnn std
alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl const
constexpr const_cast continue decltype default delete do double dynamic_cast else enum explicit
export extern false float for friend goto if inline int long mutable namespace new noexcept not
not_eq nullptr operator or or_eq private protected public register reinterpret_cast return short
signed sizeof static static_assert static_cast struct switch template this thread_local throw true
try typedef typeid typename union unsigned using virtual void volatile wchar_t while xor xor_eq
linux unix relu heaviside
"""


def _const(value: float) -> str:
    if math.isnan(value):
        return 'T(__builtin_nan(""))'
    if math.isinf(value):
        return "T(__builtin_inf())" if value > 0 else "T(-__builtin_inf())"
    whole = value == int(value) and abs(value) < 1e15 and math.copysign(1, value) > 0
    return f"T({int(value) if whole else repr(value)})"


def _line(node: Node, name: str, text: str) -> str:
    return f"const {'auto' if node.is_mask else 'T'} {name} = {text};"


CPP = Language(
    leaf=lambda node: "units" if node.op == "units" else f"{ARRAYS[node.op]}[{node.at}]",
    const=_const,
    call=lambda op, args: f"{_CALLS.get(op, op)}({', '.join(args)})",
    line=_line,
    taken=frozenset(_TAKEN.split()),
)


def struct_name(cell: Cell) -> str:
    """LightGru for light_gru."""
    words = re.split(r"[^0-9A-Za-z]+", cell.title)
    name = "".join(w[:1].upper() + w[1:] for w in words)
    return name if name[:1].isalpha() else f"Cell{name}"


def policy(cell: Cell) -> str:
    """The header of a derived cell: one struct in namespace fastrnn."""
    derived = cell.derived
    if derived is None:
        raise ValueError(f"cell {cell.title!r} has kernels that are written by hand: csrc/cells/")
    lines = [
        "#pragma once",
        '#include "cells/math.h"',
        "",
        "namespace fastrnn {",
        "",
        *_comment(cell, derived),
        f"struct {struct_name(cell)} {{",
        f"  static constexpr int kGates = {cell.gates}, kStates = {cell.states}, "
        f"kSaved = {cell.saved};",
        f"  static constexpr bool kSplit = {str(derived.split).lower()};",
    ]
    if derived.kept_gate is not None:
        lines.append(f"  static constexpr int kKeptGate = {derived.kept_gate};")
    if cell.recurrent != cell.gates:
        lines.append(f"  static constexpr int kRecurrent = {cell.recurrent};")
    if cell.in_heads:
        lines.append("  static constexpr bool kHeads = true;")
    for name, count in (("Params", cell.params), ("Extra", cell.extra), ("Feeds", cell.feeds)):
        if count:
            lines.append(f"  static constexpr int k{name} = {count};")
    lines += [
        *_functions(derived),
        "};",
        "",
        "}  // namespace fastrnn",
        "",
    ]
    return "\n".join(lines)


def _functions(derived: Derived) -> list[str]:
    if derived.across:
        from .cpp_passes import functions  # which needs this module

        return functions(derived)
    if derived.late:
        from .cpp_late import functions  # likewise

        return functions(derived)
    return ["", *_forward(derived), "", *_backward(derived)]


def _comment(cell: Cell, derived: Derived) -> list[str]:
    lines = [f"// {cell.title}, derived from its step in Python ({cell.name})."]
    if derived.saved:
        kept = ", ".join(f"{k}: {describe(n)}" for k, n in enumerate(derived.saved))
        lines.append(f"// Kept for backward: {kept}.")
    else:
        lines.append("// Backward needs nothing but the states.")
    if derived.kept_gate is not None:
        lines.append(f"// Where gates are recomputed, gate {derived.kept_gate}'s value is kept.")
    return lines


def describe(node: Node) -> str:
    """What a kept value is, in a few words: its name in the step, or how it is computed."""
    if node.name:
        return node.name
    text = Printer(CPP, [node])
    return f"{ARRAYS[node.op]}[{node.at}]" if node.leaf else text.lines[-1].split(" = ", 1)[1][:-1]


def signature(name: str, arguments: Sequence[tuple[str, str]], used: set[str]) -> list[str]:
    """arguments: (type, name); one that is not used has no name."""
    listed = ", ".join(t + (f" {n}" if n in used else "") for t, n in arguments)
    head = textwrap.wrap(
        f"FASTRNN_HD static void {name}({listed}) {{", 96, subsequent_indent="    "
    )
    return ["  template <class T>", *(f"  {line}" for line in head)]


def _forward(derived: Derived) -> list[str]:
    printer = Printer(CPP, [*derived.next, *derived.saved])
    used = _used(printer.roots) | {"next"} | ({"saved"} if derived.saved else set())
    arguments = [("const T*", name) for name in ("x", "r", "prev")]
    arguments += _learned_and_given(derived, "const T*", "p", "e")
    arguments += [("T*", "next"), ("T*", "saved")]
    writes = [f"next[{k}] = {printer.text(n)};" for k, n in enumerate(derived.next)]
    writes += [f"saved[{k}] = {printer.text(n)};" for k, n in enumerate(derived.saved)]
    return [*signature("forward", arguments, used), *_indented([*printer.lines, *writes]), "  }"]


def _learned_and_given(derived: Derived, kind: str, p: str, e: str) -> list[tuple[str, str]]:
    """The arguments of parameters and of extra slots, where the cell has some."""
    return [(kind, p)] * bool(derived.params) + [(kind, e)] * bool(derived.extra)


def _backward(derived: Derived) -> list[str]:
    dr = derived.dr if derived.split else ()
    outputs = (
        ("dx", derived.dx), ("dr", dr), ("dp", derived.dparam), ("de", derived.dextra),
        ("d", derived.dprev),
    )  # fmt: skip
    printer = Printer(CPP, [node for _, nodes in outputs for node in nodes])
    used = _used(printer.roots) | {"d", "dx"} | ({"dr"} if dr else set()) | {"dp", "de"}
    arguments = [("const T*", name) for name in ("saved", "prev", "next")]
    arguments += _learned_and_given(derived, "const T*", "p", "e")
    arguments += [("T*", name) for name in ("d", "dx", "dr")]
    arguments += _learned_and_given(derived, "T*", "dp", "de")
    given = {n.number: k for k, n in enumerate(derived.dprev) if n.op == "d"}
    moved = any(n.op == "d" and n.at != k for k, n in enumerate(derived.dprev))
    copies = [
        f"const T d_{n.at} = d[{n.at}];" for n in derived.dprev if n.number in given and moved
    ]
    writes = []
    for name, nodes in outputs:
        for k, node in enumerate(nodes):
            value = (
                f"d_{node.at}" if moved and name == "d" and node.op == "d" else printer.text(node)
            )
            if value != f"{name}[{k}]":
                writes.append(f"{name}[{k}] = {value};")
    body = _indented([*printer.lines, *dict.fromkeys(copies), *writes])
    return [*signature("backward", arguments, used), *body, "  }"]


def _used(roots: Sequence[Node]) -> set[str]:
    return {ARRAYS[n.op] for n in order(roots) if n.leaf}


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in lines]

"""A derived cell as the text of a Triton module: the pair that `fastrnn/triton/cells.py` explains.

All is computed on float32 tiles. A value that the step has a name for, or that is needed twice, has
a line of its own; the others stand where they are used.
"""

from __future__ import annotations

import keyword
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import torch

from .evaluate import evaluate
from .graph import Node, order
from .spec import Cell

# How closely an operator binds, as in Python, where & comes before a comparison.
_INFIX = {
    "lt": ("<", 1), "le": ("<=", 1), "gt": (">", 1), "ge": (">=", 1), "eq": ("==", 1),
    "ne": ("!=", 1), "either": ("|", 2), "both": ("&", 3), "add": ("+", 4), "sub": ("-", 4),
    "mul": ("*", 5), "div": ("/", 5),
}  # fmt: skip
_PREFIX = {"neg": "-", "inverse": "~"}
_SIGNED, _ATOM = 6, 7  # what has a prefix; a name, a number or a call
# of fastrnn.triton.cells
_HELPERS = ("cos", "expm1", "log1p", "maximum", "minimum", "over_units", "sin", "tanh")
_CALLS = {name: f"tl.{name}" for name in ("abs", "sqrt", "exp", "log", "erf")}
_CALLS |= {"sigmoid": "tl.sigmoid", "select": "tl.where"} | {name: name for name in _HELPERS}
_TAKEN = {*"tl triton float x r state p e saved prev next grad dx dr dprev dp de".split()}
_TAKEN |= {*_HELPERS}
_WIDEST = 48  # characters of a value that stands where it is used


def module(cell: Cell) -> str:
    """The text of the cell's module; `function_names` says what its functions are called."""
    derived = cell.derived
    forward, backward, *parts = function_names(cell)
    p = ", p" * bool(derived.params or derived.across) + ", e" * (derived.extra > 0)
    inside = f"p[{derived.params}]"
    leaves = {"x": "x", "r": "r", "prev": "state", "param": "p", "extra": "e"}
    body = _Body(leaves, "x[0]", inside)
    next, saved = body.write(derived.next, derived.saved)
    lines = [f"def {forward}(x, r, state{p}):", *body.lines]
    if derived.saved:
        lines.append("    # the states after the step, and what else is kept for backward")
    lines.append(f"    return {next}, {saved}")
    leaves = {"saved": "saved", "row": "saved", "prev": "prev", "next": "next", "d": "grad"}
    body = _Body(leaves | {"param": "p", "extra": "e"}, "grad[0]", inside)
    groups = {"dx": derived.dx} | ({"dr": derived.dr} if derived.split else {})
    groups["dprev"] = derived.dprev
    d_p = (*derived.dparam, *[derived.dx[0].graph.const(0.0)] * derived.across)
    groups |= {k: v for k, v in (("dp", d_p), ("de", derived.dextra)) if v}
    texts, names = body.write(*groups.values()), list(groups)
    back = [f"def {backward}(saved, prev, next, grad{p}):", *body.lines]
    back += [f"    {name} = {text}" for name, text in zip(names, texts)]
    if not derived.split:
        names.insert(1, "dx")
    back.append(f"    return {', '.join(names)}")
    functions = [lines, back]
    if derived.late:
        leaves |= {"x": "x", "r": "r", "param": "p", "extra": "e"}
        for name, arguments, nodes in (
            (parts[0], "x, r, state", derived.saved[-1:]),
            (parts[1], "saved, prev, next, grad", derived.dr[-derived.late :]),
        ):
            own = {**leaves, "prev": "state"} if name == parts[0] else leaves
            body = _Body(own, "x[0]" if name == parts[0] else "grad[0]", inside)
            (result,) = body.write(nodes)
            functions.append([f"def {name}({arguments}{p}):", *body.lines, f"    return {result}"])
    text = "\n".join("\n".join(["@triton.jit", *function, "", ""]) for function in functions)
    text = text.removesuffix("\n")
    return "\n".join([*_head(cell, text), text])


def function_names(cell: Cell) -> tuple[str, ...]:
    title = identifier(cell.title)
    parts = ("forward", "backward", *("ask", "late") * bool(cell.late))
    return tuple(f"{title}_{part}" for part in parts)


def identifier(text: str) -> str:
    """The text with _ for what a name in Python has not."""
    name = re.sub(r"\W", "_", text, flags=re.ASCII)
    return f"_{name}" if not name or name[0].isdigit() or keyword.iskeyword(name) else name


def _head(cell: Cell, text: str) -> list[str]:
    used = [name for name in _HELPERS if re.search(rf"\b{name}\(", text)]
    lines = [
        f'"""The cell {identifier(cell.title)}, derived by fastrnn, for its Triton kernels."""',
        "", "import triton", "import triton.language as tl", "",
    ]  # fmt: skip
    if used:
        lines += [f"from fastrnn.triton.cells import {', '.join(used)}", ""]
    return [*lines, ""]


class _Body:
    """The lines of one function, from nodes.

    leaves: op of a leaf -> the argument that has it; like: a tile of the shape of all; inside: one
    that is 1 for each unit that there is, else 0, where sums over units are taken.
    """

    def __init__(self, leaves: Mapping[str, str], like: str, inside: str):
        self.lines: list[str] = []
        self._leaves, self._like, self._inside = leaves, like, inside
        self._taken = set(_TAKEN)
        self._unnamed = 0
        self._texts: dict[int, tuple[str, int]] = {}  # by a node's number: text, how it binds

    def write(self, *groups: Sequence[Node]) -> list[str]:
        """Writes what all nodes need, and returns each group as a tuple of tiles."""
        roots = [node for group in groups for node in group]
        constants = _constants(roots)
        uses = Counter(n.number for n in roots)
        uses.update(a.number for n in order(roots) for a in n.args)
        # first what another function has made under a name
        for node in sorted(order(roots), key=lambda n: not (n.leaf and n.name)):
            if node.number in constants:
                self._texts[node.number] = self._constant(constants[node.number])
            elif chosen := _chosen(node, constants):
                self._texts[node.number] = self._texts[chosen.number]
            else:
                text, binds = self._expression(node)
                again = uses[node.number] > 1 and not node.leaf
                if node.name or again or len(text) > _WIDEST:
                    text, binds = self._line(node.name, text), _ATOM
                self._texts[node.number] = text, binds
        return [self._tuple(group, constants) for group in groups]

    def _line(self, name: str, text: str) -> str:
        if name:
            name = identifier(name)
        else:
            self._unnamed += 1
            name = f"v{self._unnamed}"
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        self.lines.append(f"    {name} = {text}")
        return name

    def _expression(self, node: Node) -> tuple[str, int]:
        if node.op in ("sum", "units"):
            of = self._operand(node.args[0], 0) if node.args else self._inside
            return f"over_units({of}, {self._inside})", _ATOM
        if node.leaf:
            return f"{self._leaves[node.op]}[{node.at}]", _ATOM
        if node.op in _PREFIX:
            return f"{_PREFIX[node.op]}{self._operand(node.args[0], _SIGNED + 1)}", _SIGNED
        if node.op in _INFIX:
            sign, binds = _INFIX[node.op]
            a, b = node.args
            return f"{self._operand(a, binds)} {sign} {self._operand(b, binds + 1)}", binds
        return f"{_CALLS[node.op]}({', '.join(self._operand(a, 0) for a in node.args)})", _ATOM

    def _operand(self, node: Node, least: int) -> str:
        text, binds = self._texts[node.number]
        return text if binds >= least else f"({text})"

    def _constant(self, value: float | bool) -> tuple[str, int]:
        if isinstance(value, bool):
            return f"tl.full({self._like}.shape, {value}, tl.int1)", _ATOM
        return _literal(value), _ATOM if value >= 0 else _SIGNED

    def _tuple(self, nodes: Sequence[Node], constants: Mapping[int, float]) -> str:
        tiles = [
            f"tl.full({self._like}.shape, {self._texts[n.number][0]}, tl.float32)"
            if n.number in constants
            else self._whole(n)
            for n in nodes
        ]
        line = f"({', '.join(tiles)}{',' * (len(tiles) == 1)})"
        if len(line) <= 80:
            return line
        return "(\n" + "".join(f"        {tile},\n" for tile in tiles) + "    )"

    def _whole(self, node: Node) -> str:
        text = self._texts[node.number][0]
        return f"tl.broadcast_to({text}, {self._like}.shape)" if node.uniform else text


def _constants(roots: Iterable[Node]) -> dict[int, float | bool]:
    """The nodes, by their number, that depend on no leaf."""
    values: dict[int, float | bool] = {}
    nothing = {"x": [torch.zeros((), dtype=torch.float64)]}
    for node in order(roots):
        if node.op == "const" or (node.args and all(a.number in values for a in node.args)):
            values[node.number] = evaluate([node], nothing)[0].item()
        elif (chosen := _chosen(node, values)) and chosen.number in values:
            values[node.number] = values[chosen.number]
    return values


def _chosen(node: Node, constants: Mapping[int, float | bool]) -> Node | None:
    """What a select by a constant mask is."""
    if node.op != "select" or node.args[0].number not in constants:
        return None
    return node.args[1 if constants[node.args[0].number] else 2]


def _literal(value: float) -> str:
    """As Triton takes it for float32: what float32 does not hold is infinite."""
    if math.isfinite(value) and abs(value) <= torch.finfo(torch.float32).max:
        return repr(value)
    return f'float("{math.copysign(math.inf, value) if value == value else value}")'

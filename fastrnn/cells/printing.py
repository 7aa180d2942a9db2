"""Graphs as lines of code, in any language of names, infix operators and calls."""

from __future__ import annotations

import keyword
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .graph import Node, order

INFIX = {"add": " + ", "sub": " - ", "mul": " * ", "div": " / "}
_LONGEST = 72  # characters of an expression that is still written into another one


@dataclass(frozen=True)
class Language:
    """How a language writes what a graph consists of.

    leaf, const: of such a node; call: of an operation's name and its arguments, for all that are
    not infix; line: declares a name for an expression; taken: names that a local must not have
    """

    leaf: Callable[[Node], str]
    const: Callable[[float], str]
    call: Callable[[str, Sequence[str]], str]
    line: Callable[[Node, str, str], str]
    taken: frozenset[str]


class Printer:
    """Writes the lines that compute some nodes: one for each that has a name or several users."""

    def __init__(self, language: Language, roots: Iterable[Node]):
        self.language = language
        self.roots = list(roots)
        self.lines: list[str] = []
        self._text: dict[int, str] = {}
        self._taken = set(language.taken)
        self._uses = Counter(a.number for n in order(self.roots) for a in n.args)
        inner = {r.number for r in self.roots}
        for node in order(self.roots):
            self._text[node.number] = self._written(node, node.number in inner)

    def text(self, node: Node) -> str:
        """The name of a root, or the leaf or number that it is."""
        return self._text[node.number]

    def _written(self, node: Node, root: bool) -> str:
        if node.leaf and (not node.name or self._uses[node.number] < 2):
            return self.language.leaf(node)
        if node.op == "const":
            return self.language.const(node.at)
        text = self.language.leaf(node) if node.leaf else self._expression(node)
        once = self._uses[node.number] == 1 and not root
        if once and not node.name and len(text) <= _LONGEST:
            return text
        name = self._name(node)
        self.lines.append(self.language.line(node, name, text))
        return name

    def _expression(self, node: Node) -> str:
        args = [self._text[a.number] for a in node.args]
        if node.op == "neg":
            return f"-{_atom(args[0])}"
        if node.op not in INFIX:
            return self.language.call(node.op, args)
        left, right = args
        if node.op in ("mul", "div"):
            left = _atom(left) if _is_sum(left) or left.startswith("-") else left
            right = _atom(right)
        elif node.op == "sub" or right.startswith("-"):
            right = _atom(right) if _is_sum(right) or right.startswith("-") else right
        return f"{left}{INFIX[node.op]}{right}"

    def _name(self, node: Node) -> str:
        name = node.name if node.name.isascii() and node.name.isidentifier() else ""
        name = name or f"v{len(self.lines)}"
        while name in self._taken or keyword.iskeyword(name):
            name += "_"
        self._taken.add(name)
        return name


def _outside(text: str) -> str:
    """The text without what stands in brackets."""
    depth, kept = 0, []
    for c in text:
        depth += c in "(["
        if depth == 0:
            kept.append(c)
        depth -= c in ")]"
    return "".join(kept)


def _is_sum(text: str) -> bool:
    return any(sign in _outside(text) for sign in (" + ", " - "))


def _atom(text: str) -> str:
    """In brackets, unless it is a name, a number or a call."""
    outside = _outside(text)
    return f"({text})" if " " in outside or outside.startswith("-") else text

"""torch's operations as nodes: what a step, and torch's derivative of it, may consist of.

Each function gives what one operation of ATen computes, for all its overloads, as torch computes
it where a value is NaN or infinite. `activations` has those of torch.nn.functional.
"""

from __future__ import annotations

from collections.abc import Callable

from .graph import UNARY, Graph, Node

Number = Node | float


class Refused(Exception):
    """Why an operation cannot be part of a kernel."""


LOWER: dict[str, Callable] = {}  # ATen's name -> function of (graph, *arguments)


def lowers(*names: str):
    def add(function: Callable) -> Callable:
        LOWER.update(dict.fromkeys(names, function))
        return function

    return add


def number(g: Graph, a: Number | bool) -> Number:
    """A mask as 1 and 0."""
    return g.select(a, 1.0, 0.0) if isinstance(a, Node) and a.is_mask else a


def mask(g: Graph, a: Node) -> Node:
    return a if a.is_mask else g.make("ne", a, 0.0)


for _name in UNARY:
    LOWER[_name] = lambda g, a, _name=_name: g.make(_name, number(g, a))
for _name in ("maximum", "minimum", "lt", "le", "gt", "ge", "eq", "ne"):
    LOWER[_name] = lambda g, a, b, _name=_name: g.make(_name, number(g, a), number(g, b))
for _name, _mask in (("and", "both"), ("or", "either")):
    for _kind in ("logical", "bitwise", "_"):
        LOWER[f"{_kind.strip('_')}_{_name}" if _kind != "_" else f"__{_name}__"] = (
            lambda g, a, b, _mask=_mask: g.make(_mask, mask(g, a), mask(g, b))
        )


@lowers("logical_not", "bitwise_not")
def _not(g: Graph, a: Node) -> Node:
    return g.make("inverse", mask(g, a))


@lowers("add")
def _add(g: Graph, a: Number, b: Number, alpha: float = 1) -> Node:
    return g.make("add", number(g, a), g.make("mul", number(g, b), alpha))


@lowers("sub")
def _sub(g: Graph, a: Number, b: Number, alpha: float = 1) -> Node:
    return g.make("sub", number(g, a), g.make("mul", number(g, b), alpha))


@lowers("rsub")
def _rsub(g: Graph, a: Number, b: Number, alpha: float = 1) -> Node:
    return _sub(g, b, a, alpha)


@lowers("mul")
def _mul(g: Graph, a: Number, b: Number) -> Node:
    return g.make("mul", number(g, a), number(g, b))


@lowers("div", "true_divide")
def _div(g: Graph, a: Number, b: Number, rounding_mode: str | None = None) -> Node:
    if rounding_mode is not None:
        raise Refused("it rounds, and kernels have no rounding")
    return g.make("div", number(g, a), number(g, b))


@lowers("addcmul")
def _addcmul(g: Graph, a: Node, b: Node, c: Node, value: float = 1) -> Node:
    return a + b * c * value


@lowers("addcdiv")
def _addcdiv(g: Graph, a: Node, b: Node, c: Node, value: float = 1) -> Node:
    return a + b / c * value


@lowers("lerp")
def _lerp(g: Graph, a: Node, b: Node, weight: Number) -> Node:
    gap = b - a
    if not isinstance(weight, Node):
        return a + gap * weight if abs(weight) < 0.5 else b - gap * (1 - weight)
    near = g.make("lt", g.make("abs", weight), 0.5)
    return g.select(near, a + weight * gap, b - gap * (1 - weight))


@lowers("where")
def _where(g: Graph, condition: Node, a: Number, b: Number) -> Node:
    return g.select(mask(g, condition), number(g, a), number(g, b))


@lowers("masked_fill")
def _masked_fill(g: Graph, a: Node, where: Node, value: Number) -> Node:
    return g.select(where, value, a)


@lowers("isnan")
def _isnan(g: Graph, a: Node) -> Node:
    return g.make("ne", a, a)


@lowers("reciprocal")
def _reciprocal(g: Graph, a: Node) -> Node:
    return 1.0 / a


@lowers("rsqrt")
def _rsqrt(g: Graph, a: Node) -> Node:
    return 1.0 / g.make("sqrt", a)


@lowers("square")
def _square(g: Graph, a: Node) -> Node:
    return a * a


@lowers("tan")
def _tan(g: Graph, a: Node) -> Node:
    return g.make("sin", a) / g.make("cos", a)


@lowers("sign", "sgn")
def _sign(g: Graph, a: Node) -> Node:
    return g.select(g.make("gt", a, 0.0), 1.0, g.select(g.make("lt", a, 0.0), -1.0, 0.0))


@lowers("pow")
def _pow(g: Graph, a: Number, exponent: Number) -> Node:
    if isinstance(a, Node) and exponent in (0.5, -0.5):
        return _rsqrt(g, a) if exponent < 0 else g.make("sqrt", a)
    if not isinstance(a, Node) or isinstance(exponent, Node) or exponent != int(exponent):
        raise Refused("kernels have powers with constant whole exponents (and 0.5, -0.5) only")
    power, base, n = None, a, abs(int(exponent))
    while n:  # by squares
        power = base if n & 1 and power is None else power * base if n & 1 else power
        base, n = base * base if n > 1 else base, n // 2
    power = g.const(1.0) if power is None else power
    return 1.0 / power if exponent < 0 else power


@lowers("clamp", "clip")
def clamp(g: Graph, a: Node, min: Number | None = None, max: Number | None = None) -> Node:
    a = a if min is None else g.make("maximum", a, min)
    return a if max is None else g.make("minimum", a, max)


@lowers("clamp_min")
def _clamp_min(g: Graph, a: Node, min: Number) -> Node:
    return clamp(g, a, min)


@lowers("clamp_max")
def _clamp_max(g: Graph, a: Node, max: Number) -> Node:
    return clamp(g, a, None, max)

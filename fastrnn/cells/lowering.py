"""torch's operations as nodes: what a step, and torch's derivative of it, may consist of.

Each function gives what one operation of ATen computes, for all its overloads, as torch computes
it where a value is NaN or infinite. The derivatives that torch has in one operation are here too.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from .graph import UNARY, Graph, Node

Number = Node | float


class Refused(Exception):
    """Why an operation cannot be part of a kernel."""


LOWER: dict[str, Callable] = {}  # ATen's name -> function of (graph, *arguments)


def _lowers(*names: str):
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


@_lowers("logical_not", "bitwise_not")
def _not(g: Graph, a: Node) -> Node:
    return g.make("inverse", mask(g, a))


@_lowers("add")
def _add(g: Graph, a: Number, b: Number, alpha: float = 1) -> Node:
    return g.make("add", number(g, a), g.make("mul", number(g, b), alpha))


@_lowers("sub")
def _sub(g: Graph, a: Number, b: Number, alpha: float = 1) -> Node:
    return g.make("sub", number(g, a), g.make("mul", number(g, b), alpha))


@_lowers("rsub")
def _rsub(g: Graph, a: Number, b: Number, alpha: float = 1) -> Node:
    return _sub(g, b, a, alpha)


@_lowers("mul")
def _mul(g: Graph, a: Number, b: Number) -> Node:
    return g.make("mul", number(g, a), number(g, b))


@_lowers("div", "true_divide")
def _div(g: Graph, a: Number, b: Number, rounding_mode: str | None = None) -> Node:
    if rounding_mode is not None:
        raise Refused("it rounds, and kernels have no rounding")
    return g.make("div", number(g, a), number(g, b))


@_lowers("addcmul")
def _addcmul(g: Graph, a: Node, b: Node, c: Node, value: float = 1) -> Node:
    return a + b * c * value


@_lowers("addcdiv")
def _addcdiv(g: Graph, a: Node, b: Node, c: Node, value: float = 1) -> Node:
    return a + b / c * value


@_lowers("lerp")
def _lerp(g: Graph, a: Node, b: Node, weight: Number) -> Node:
    gap = b - a
    if not isinstance(weight, Node):
        return a + gap * weight if abs(weight) < 0.5 else b - gap * (1 - weight)
    near = g.make("lt", g.make("abs", weight), 0.5)
    return g.select(near, a + weight * gap, b - gap * (1 - weight))


@_lowers("where")
def _where(g: Graph, condition: Node, a: Number, b: Number) -> Node:
    return g.select(mask(g, condition), number(g, a), number(g, b))


@_lowers("masked_fill")
def _masked_fill(g: Graph, a: Node, where: Node, value: Number) -> Node:
    return g.select(where, value, a)


@_lowers("isnan")
def _isnan(g: Graph, a: Node) -> Node:
    return g.make("ne", a, a)


@_lowers("reciprocal")
def _reciprocal(g: Graph, a: Node) -> Node:
    return 1.0 / a


@_lowers("rsqrt")
def _rsqrt(g: Graph, a: Node) -> Node:
    return 1.0 / g.make("sqrt", a)


@_lowers("square")
def _square(g: Graph, a: Node) -> Node:
    return a * a


@_lowers("tan")
def _tan(g: Graph, a: Node) -> Node:
    return g.make("sin", a) / g.make("cos", a)


@_lowers("sign", "sgn")
def _sign(g: Graph, a: Node) -> Node:
    return g.select(g.make("gt", a, 0.0), 1.0, g.select(g.make("lt", a, 0.0), -1.0, 0.0))


@_lowers("pow")
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


@_lowers("clamp", "clip")
def _clamp(g: Graph, a: Node, min: Number | None = None, max: Number | None = None) -> Node:
    a = a if min is None else g.make("maximum", a, min)
    return a if max is None else g.make("minimum", a, max)


@_lowers("clamp_min")
def _clamp_min(g: Graph, a: Node, min: Number) -> Node:
    return _clamp(g, a, min)


@_lowers("clamp_max")
def _clamp_max(g: Graph, a: Node, max: Number) -> Node:
    return _clamp(g, a, None, max)


@_lowers("sigmoid_backward")
def _sigmoid_backward(g: Graph, d: Node, y: Node) -> Node:
    return d * y * (1.0 - y)


@_lowers("tanh_backward")
def _tanh_backward(g: Graph, d: Node, y: Node) -> Node:
    return d * (1.0 - y * y)


@_lowers("relu")
def _relu(g: Graph, a: Node) -> Node:
    return g.select(g.make("lt", a, 0.0), 0.0, a)


@_lowers("threshold")
def _threshold(g: Graph, a: Node, threshold: float, value: float) -> Node:
    return g.select(g.make("le", a, threshold), value, a)


@_lowers("threshold_backward")
def _threshold_backward(g: Graph, d: Node, a: Node, threshold: float) -> Node:
    return g.select(g.make("le", a, threshold), 0.0, d)


@_lowers("leaky_relu")
def _leaky_relu(g: Graph, a: Node, slope: float = 0.01) -> Node:
    return g.select(g.make("gt", a, 0.0), a, a * slope)


@_lowers("leaky_relu_backward")
def _leaky_relu_backward(g: Graph, d: Node, a: Node, slope: float, is_result: bool) -> Node:
    return g.select(g.make("gt", a, 0.0), d, d * slope)


@_lowers("elu")
def _elu(g: Graph, a: Node, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Node:
    below = g.make("expm1", a * input_scale) * (alpha * scale)
    return g.select(g.make("le", a, 0.0), below, a * scale)


@_lowers("elu_backward")
def _elu_backward(
    g: Graph, d: Node, alpha: float, scale: float, input_scale: float, is_result: bool, a: Node
) -> Node:
    negative = alpha * scale
    slope = a + negative if is_result else g.make("exp", a * input_scale) * negative
    return g.select(g.make("le", a, 0.0), d * input_scale * slope, d * scale)


@_lowers("silu")
def _silu(g: Graph, a: Node) -> Node:
    return a * g.make("sigmoid", a)


@_lowers("silu_backward")
def _silu_backward(g: Graph, d: Node, a: Node) -> Node:
    y = g.make("sigmoid", a)
    return d * y * (1.0 + a * (1.0 - y))


@_lowers("softplus")
def _softplus(g: Graph, a: Node, beta: float = 1, threshold: float = 20) -> Node:
    scaled = a * beta
    curve = g.make("log1p", g.make("exp", scaled)) / beta
    return g.select(g.make("gt", scaled, threshold), a, curve)


@_lowers("softplus_backward")
def _softplus_backward(g: Graph, d: Node, a: Node, beta: float, threshold: float) -> Node:
    scaled = a * beta
    return g.select(g.make("gt", scaled, threshold), d, d * g.make("sigmoid", scaled))


@_lowers("log_sigmoid_forward")
def _log_sigmoid(g: Graph, a: Node) -> tuple[Node, Node]:
    rest = g.make("log1p", g.make("exp", -g.make("abs", a)))
    return g.make("minimum", a, 0.0) - rest, g.const(0.0)  # a buffer that is not read below


@_lowers("log_sigmoid_backward")
def _log_sigmoid_backward(g: Graph, d: Node, a: Node, buffer: object) -> Node:
    return d * g.make("sigmoid", -a)


@_lowers("gelu")
def _gelu(g: Graph, a: Node, approximate: str = "none") -> Node:
    return a * _gelu_weight(g, a, approximate)[0]


def _gelu_weight(g: Graph, a: Node, approximate: str) -> tuple[Node, Node]:
    """What gelu multiplies its argument by, and the derivative of that."""
    if approximate == "tanh":
        beta, kappa = math.sqrt(2 / math.pi), 0.044715
        t = g.make("tanh", beta * (a + kappa * (a * a * a)))
        inner = beta * (1.0 + 3 * kappa * (a * a))
        return 0.5 * (1.0 + t), 0.5 * ((1.0 - t * t) * inner)
    density = g.make("exp", a * a * -0.5) * (1 / math.sqrt(2 * math.pi))
    return 0.5 * (1.0 + g.make("erf", a * math.sqrt(0.5))), density


@_lowers("gelu_backward")
def _gelu_backward(g: Graph, d: Node, a: Node, approximate: str = "none") -> Node:
    weight, slope = _gelu_weight(g, a, approximate)
    return d * (weight + a * slope)


@_lowers("hardtanh")
def _hardtanh(g: Graph, a: Node, least: float = -1, most: float = 1) -> Node:
    return _clamp(g, a, least, most)


@_lowers("hardtanh_backward")
def _hardtanh_backward(g: Graph, d: Node, a: Node, least: float, most: float) -> Node:
    outside = g.make("either", g.make("le", a, least), g.make("ge", a, most))
    return g.select(outside, 0.0, d)


@_lowers("hardsigmoid")
def _hardsigmoid(g: Graph, a: Node) -> Node:
    return _clamp(g, a + 3.0, 0.0, 6.0) / 6.0


@_lowers("hardsigmoid_backward")
def _hardsigmoid_backward(g: Graph, d: Node, a: Node) -> Node:
    inside = g.make("both", g.make("gt", a, -3.0), g.make("lt", a, 3.0))
    return g.select(inside, d / 6.0, 0.0)


@_lowers("hardswish")
def _hardswish(g: Graph, a: Node) -> Node:
    return a * _clamp(g, a + 3.0, 0.0, 6.0) / 6.0


@_lowers("hardswish_backward")
def _hardswish_backward(g: Graph, d: Node, a: Node) -> Node:
    middle = g.select(g.make("lt", a, 3.0), d * (a / 3.0 + 0.5), d)
    return g.select(g.make("le", a, -3.0), 0.0, middle)


@_lowers("mish")
def _mish(g: Graph, a: Node) -> Node:
    return a * g.make("tanh", _softplus(g, a))


@_lowers("mish_backward")
def _mish_backward(g: Graph, d: Node, a: Node) -> Node:
    t = g.make("tanh", _softplus(g, a))
    return d * (t + a * g.make("sigmoid", a) * (1.0 - t * t))


@_lowers("celu")
def _celu(g: Graph, a: Node, alpha: float = 1) -> Node:
    return _elu(g, a, alpha, 1.0, 1 / alpha)


@_lowers("selu")
def _selu(g: Graph, a: Node) -> Node:
    return _elu(g, a, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946)

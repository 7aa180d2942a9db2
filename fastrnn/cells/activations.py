"""torch's activations as nodes, and the derivatives that torch has in one operation."""

from __future__ import annotations

import math

import torch

from .graph import Graph, Node
from .lowering import clamp, lowers

# Some versions of torch have a sixth of no more than float32's precision here.
_HARDSIGMOID_SLOPE = torch.ops.aten.hardsigmoid_backward(
    torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
).item()


@lowers("sigmoid_backward")
def _sigmoid_backward(g: Graph, d: Node, y: Node) -> Node:
    return d * y * (1.0 - y)


@lowers("tanh_backward")
def _tanh_backward(g: Graph, d: Node, y: Node) -> Node:
    return d * (1.0 - y * y)


@lowers("relu")
def _relu(g: Graph, a: Node) -> Node:
    return g.select(g.make("lt", a, 0.0), 0.0, a)


@lowers("threshold")
def _threshold(g: Graph, a: Node, threshold: float, value: float) -> Node:
    return g.select(g.make("le", a, threshold), value, a)


@lowers("threshold_backward")
def _threshold_backward(g: Graph, d: Node, a: Node, threshold: float) -> Node:
    return g.select(g.make("le", a, threshold), 0.0, d)


@lowers("leaky_relu")
def _leaky_relu(g: Graph, a: Node, slope: float = 0.01) -> Node:
    return g.select(g.make("gt", a, 0.0), a, a * slope)


@lowers("leaky_relu_backward")
def _leaky_relu_backward(g: Graph, d: Node, a: Node, slope: float, is_result: bool) -> Node:
    return g.select(g.make("gt", a, 0.0), d, d * slope)


@lowers("elu")
def _elu(g: Graph, a: Node, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Node:
    below = g.make("expm1", a * input_scale) * (alpha * scale)
    return g.select(g.make("le", a, 0.0), below, a * scale)


@lowers("elu_backward")
def _elu_backward(
    g: Graph, d: Node, alpha: float, scale: float, input_scale: float, is_result: bool, a: Node
) -> Node:
    negative = alpha * scale
    slope = a + negative if is_result else g.make("exp", a * input_scale) * negative
    return g.select(g.make("le", a, 0.0), d * input_scale * slope, d * scale)


@lowers("silu")
def _silu(g: Graph, a: Node) -> Node:
    return a * g.make("sigmoid", a)


@lowers("silu_backward")
def _silu_backward(g: Graph, d: Node, a: Node) -> Node:
    y = g.make("sigmoid", a)
    return d * y * (1.0 + a * (1.0 - y))


@lowers("softplus")
def _softplus(g: Graph, a: Node, beta: float = 1, threshold: float = 20) -> Node:
    scaled = a * beta
    curve = g.make("log1p", g.make("exp", scaled)) / beta
    return g.select(g.make("gt", scaled, threshold), a, curve)


@lowers("softplus_backward")
def _softplus_backward(g: Graph, d: Node, a: Node, beta: float, threshold: float) -> Node:
    scaled = a * beta
    return g.select(g.make("gt", scaled, threshold), d, d * g.make("sigmoid", scaled))


@lowers("log_sigmoid_forward")
def _log_sigmoid(g: Graph, a: Node) -> tuple[Node, Node]:
    rest = g.make("log1p", g.make("exp", -g.make("abs", a)))
    return g.make("minimum", a, 0.0) - rest, g.const(0.0)  # a buffer that is not read below


@lowers("log_sigmoid_backward")
def _log_sigmoid_backward(g: Graph, d: Node, a: Node, buffer: object) -> Node:
    return d * g.make("sigmoid", -a)


@lowers("gelu")
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


@lowers("gelu_backward")
def _gelu_backward(g: Graph, d: Node, a: Node, approximate: str = "none") -> Node:
    weight, slope = _gelu_weight(g, a, approximate)
    return d * (weight + a * slope)


@lowers("hardtanh")
def _hardtanh(g: Graph, a: Node, least: float = -1, most: float = 1) -> Node:
    return clamp(g, a, least, most)


@lowers("hardtanh_backward")
def _hardtanh_backward(g: Graph, d: Node, a: Node, least: float, most: float) -> Node:
    outside = g.make("either", g.make("le", a, least), g.make("ge", a, most))
    return g.select(outside, 0.0, d)


@lowers("hardsigmoid")
def _hardsigmoid(g: Graph, a: Node) -> Node:
    return clamp(g, a + 3.0, 0.0, 6.0) / 6.0


@lowers("hardsigmoid_backward")
def _hardsigmoid_backward(g: Graph, d: Node, a: Node) -> Node:
    inside = g.make("both", g.make("gt", a, -3.0), g.make("lt", a, 3.0))
    return g.select(inside, d * _HARDSIGMOID_SLOPE, 0.0)


@lowers("hardswish")
def _hardswish(g: Graph, a: Node) -> Node:
    return a * clamp(g, a + 3.0, 0.0, 6.0) / 6.0


@lowers("hardswish_backward")
def _hardswish_backward(g: Graph, d: Node, a: Node) -> Node:
    middle = g.select(g.make("lt", a, 3.0), d * (a / 3.0 + 0.5), d)
    return g.select(g.make("le", a, -3.0), 0.0, middle)


@lowers("mish")
def _mish(g: Graph, a: Node) -> Node:
    return a * g.make("tanh", _softplus(g, a))


@lowers("mish_backward")
def _mish_backward(g: Graph, d: Node, a: Node) -> Node:
    t = g.make("tanh", _softplus(g, a))
    return d * (t + a * g.make("sigmoid", a) * (1.0 - t * t))


@lowers("celu")
def _celu(g: Graph, a: Node, alpha: float = 1) -> Node:
    return _elu(g, a, alpha, 1.0, 1 / alpha)


@lowers("selu")
def _selu(g: Graph, a: Node) -> Node:
    return _elu(g, a, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946)

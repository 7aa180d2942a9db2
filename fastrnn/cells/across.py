"""torch's operations that look across the units of a row, as nodes, and the shapes that they give.

A traced tensor is of all units of all rows, of a row's units alone (a parameter), of all rows (a
mean over the units), or a number: its axes are rows and units, or one of the two. Autograd sums a
parameter's gradient over the rows, which is the engines' business: here it stays what one row
gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from .graph import Graph, Node
from .lowering import Refused

ROWS, UNITS = 2, 3  # of a trace
SHAPE = (ROWS, UNITS)
RESHAPES = ("expand", "view", "_unsafe_view", "unsqueeze", "squeeze")
_OVER_ROWS = (
    "it looks across rows: a step may take sums and means over a row's units alone, the last axis "
    "(`.mean(-1, keepdim=True)`)"
)


def _axes(tensor: Tensor) -> tuple[int, ...]:
    """The sizes that are not 1."""
    return tuple(size for size in tensor.shape if size != 1)


def reshaped(node: Node, before: Tensor, after: Tensor) -> Node:
    """The node of a tensor that got or lost axes of size 1, or was repeated along them."""
    if node.op == "const":
        return node
    known = _axes(before) in ((), (ROWS,), (UNITS,), SHAPE)
    if not known or _axes(after) not in ((), (ROWS,), (UNITS,), SHAPE) or after.dim() > 2:
        raise Refused("it puts a tensor's numbers into another order, and units keep theirs")
    return node


def _over(tensor: Tensor, dims: Sequence[int] | None, backward: bool) -> bool:
    """Are the units among these axes? The rows may be in backward alone: for a parameter."""
    dims = range(tensor.dim()) if not dims else dims
    sizes = [tensor.shape[dim] for dim in dims]
    if ROWS in sizes and not backward:
        raise Refused(_OVER_ROWS)
    return UNITS in sizes


def _sum(g: Graph, nodes: Nodes, backward: bool, a: Tensor, dim=None, keepdim=False, **_) -> Node:
    node = nodes(a)
    return g.make("sum", node) if _over(a, dim, backward) else node


def _mean(g: Graph, nodes: Nodes, backward: bool, a: Tensor, dim=None, keepdim=False, **_) -> Node:
    node = nodes(a)
    return g.mean(node) if _over(a, dim, backward) else node


def _layer_norm(
    g: Graph, nodes: Nodes, backward: bool, a: Tensor, shape: Sequence[int],
    weight: Tensor | None, bias: Tensor | None, eps: float,
) -> tuple[Node, Node, Node]:  # fmt: skip
    if list(shape) != [UNITS]:
        raise Refused(f"it is over the axes {list(shape)}: a row's units are the last axis alone")
    x = nodes(a)
    mean = g.mean(x)
    inverse = 1.0 / g.make("sqrt", g.mean((x - mean) * (x - mean)) + eps)
    y = (x - mean) * inverse
    y = y if weight is None else y * nodes(weight)
    return y if bias is None else y + nodes(bias), mean, inverse


def _layer_norm_backward(
    g: Graph, nodes: Nodes, backward: bool, d: Tensor, a: Tensor, shape: Sequence[int],
    mean: Tensor, inverse: Tensor, weight: Tensor | None, bias: Tensor | None, wanted: object,
) -> tuple[Node, Node, Node]:  # fmt: skip
    d_y, inverse = nodes(d), nodes(inverse)
    y = (nodes(a) - nodes(mean)) * inverse
    d_x = d_y if weight is None else d_y * nodes(weight)
    d_x = d_x - g.mean(d_x) - y * g.mean(d_x * y)
    return d_x * inverse, d_y * y, d_y


Nodes = Callable[[Tensor], Node]
# ATen's name -> function of (graph, the node of a tensor, is it a derivative?, *arguments)
ACROSS: dict[str, Callable] = {
    "sum": _sum, "mean": _mean, "native_layer_norm": _layer_norm,
    "native_layer_norm_backward": _layer_norm_backward,
}  # fmt: skip

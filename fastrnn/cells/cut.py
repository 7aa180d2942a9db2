"""Which values of forward are kept for backward: the cheapest set, by a minimum cut.

Backward has the states before and after the step, parameters and extra slots. What else it needs of
forward is either kept, at the price of a trip through memory, or computed again from what it has,
at the price of the operation. In the network each value is an edge (kept: cut it) between a node
that stands for "computed in backward" (an edge from the source: its price) and one for "available
in backward"; all values that a gradient is made of must be available.
"""

from __future__ import annotations

from collections.abc import Sequence

import networkx

from .graph import Node, order

KEEP = 1000  # to write a value, and to read it again
KEEP_ROW = 500  # one that is the same for all units, which is read once
# To compute it again, in the same unit. Whatever takes an exponential is dear: one costs less than
# a trip through memory, two cost more.
CHEAP, DIVISION, DEAR = 10, 100, 550
_HAS = ("const", "prev", "param", "extra")  # backward has them too
_PRICES = (
    {"div": DIVISION, "sqrt": DIVISION}
    | dict.fromkeys(_HAS, 0)
    | dict.fromkeys(("exp", "expm1", "log", "log1p", "sigmoid", "tanh", "sin", "cos", "erf"), DEAR)
)
_PRICES |= dict.fromkeys(("const", "prev", "param", "units"), 0)


def price(node: Node) -> int:
    """Of computing it, once its arguments are there."""
    return _PRICES.get(node.op, CHEAP)


def kept(next: Sequence[Node], gradients: Sequence[Node]) -> list[Node]:
    """The values to keep, in the order in which forward has them.

    next: the states after a step; gradients: all results of backward, over the leaves of forward
    and d.
    """
    of_d: dict[int, bool] = {}  # does a node depend on the gradients that come in?
    network = networkx.DiGraph()
    nodes = {}
    states = {n.number for n in next}
    for node in order(gradients):
        number = node.number
        of_d[number] = node.op == "d" or any(of_d[a.number] for a in node.args)
        nodes[number] = node
        if of_d[number]:
            for a in node.args:
                if not of_d[a.number]:
                    network.add_edge(("has", a.number), "backward")
        elif number not in states or node.op == "prev":
            _offer(network, node)
    for gradient in gradients:
        if not of_d[gradient.number]:
            network.add_edge(("has", gradient.number), "backward")
    network.add_nodes_from(("forward", "backward"))
    _, (_, there) = networkx.minimum_cut(network, "forward", "backward")
    made_again = {number for kind, number in there - {"backward"} if kind == "make"}
    available = {number for kind, number in there - {"backward"} if kind == "has"}
    return [nodes[n] for n in sorted(available - made_again) if ("make", n) in network]


def _offer(network: networkx.DiGraph, node: Node) -> None:
    """A value that can be kept, or made again."""
    make, has = ("make", node.number), ("has", node.number)
    if node.is_mask:  # memory holds numbers
        network.add_edge(make, has)
    else:
        network.add_edge(make, has, capacity=KEEP_ROW if node.uniform else KEEP)
    if node.op in ("x", "r", "sum"):  # sums would take passes over the units
        network.add_edge("forward", make)
    else:
        network.add_edge("forward", make, capacity=price(node))
    for a in node.args:
        network.add_edge(("has", a.number), make)

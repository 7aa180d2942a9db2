"""From a step to the graphs of its kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from .cut import kept
from .derived import Derived
from .evaluate import evaluate
from .graph import Graph, Node, order, rebuild
from .trace import CellError, Traced, title, trace


def derive(step: Callable, gates: int, states: int, params: int, product: str = "dense") -> Derived:
    """The kernels of a step. CellError for one that cannot have any."""
    traced = trace(step, gates, states, params, product)
    _check(step, traced)
    gradients = (*traced.dx, *traced.dr, *traced.dprev, *traced.dparam)
    saved, kept_gate = _gate_in_place(kept(traced.next, gradients), gates)
    graph = Graph()
    become = {n.number: graph.leaf("next", k) for k, n in enumerate(traced.next) if n.op != "prev"}
    become |= {n.number: graph.leaf("saved", k) for k, n in enumerate(saved)}
    for number, leaf in become.items():
        leaf.name = next((n.name for n in (*traced.next, *saved) if n.number == number), "")
    dx, dr, dprev, dparam = (
        tuple(rebuild(nodes, graph, become))
        for nodes in (traced.dx, traced.dr, traced.dprev, traced.dparam)
    )
    return Derived(
        gates, states, params, traced.next, tuple(saved), dx, dr, dprev, dparam, kept_gate
    )


def _gate_in_place(saved: Sequence[Node], gates: int) -> tuple[list[Node], int | None]:
    """The kept values with that of the kept gate, if there is one, at the gate's place."""
    saved = list(saved)
    reads = [{n.at for n in order([s]) if n.op in ("x", "r")} for s in saved]
    for gate in reversed(range(min(gates, len(saved)))):
        of_gate = [k for k, gates_read in enumerate(reads) if gate in gates_read]
        if len(of_gate) == 1:
            (k,) = of_gate
            saved[gate], saved[k] = saved[k], saved[gate]
            return saved, gate
    return saved, None


def _check(step: Callable, traced: Traced) -> None:
    """The graph computes what the step computed, and its gradients are autograd's."""
    names = ("next", "dx", "dr", "dprev", "dparam")
    roots = [n for name in names for n in getattr(traced, name)]
    ours = evaluate(roots, traced.values)
    theirs = [t for name in names for t in traced.values[name]]
    for a, b in zip(ours, theirs):
        if not torch.allclose(a, b, rtol=1e-9, atol=1e-12, equal_nan=True):
            raise CellError(
                f"{title(step)} gives other results than its operations alone: it must "
                "depend on nothing but its arguments and constants"
            )

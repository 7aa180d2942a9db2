"""From a step to the graphs of its kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .across import ROWS, UNITS
from .cut import kept
from .derived import Derived
from .evaluate import evaluate
from .graph import Graph, Node, order, rebuild
from .trace import CellError, Traced, title, trace


@torch.inference_mode(False)
@torch.enable_grad()
def derive(
    step: Callable, gates: int, states: int, params: int, product: str = "dense",
    slots: int | None = None, extra: int = 0, feeds: int = 0, late: int = 0,
) -> Derived:  # fmt: skip
    """The kernels of a step. CellError for one that cannot have any."""
    traced = trace(step, gates, states, params, product, slots, extra, late)
    _check(step, traced)
    gradients = (*traced.dx, *traced.dr, *traced.dprev, *traced.dparam, *traced.dextra)
    saved, kept_gate = kept((*traced.next, *traced.asked), gradients), None
    rows = sum(n.uniform for n in saved)
    across = any(n.op == "sum" for n in order((*traced.next, *gradients)))
    if (across or product == "heads") and late:
        which = "looks across the units of a row" if across else "is in heads"
        raise CellError(f"{title(step)} {which}: it must have no late slots")
    if product == "heads" and slots is not None:
        raise CellError(f"{title(step)} is in heads: it must have as many tensors in r as in x")
    if across:
        if slots is not None:
            raise CellError(
                f"{title(step)} looks across the units of a row: it must have as many tensors in r "
                "as in x"
            )
        _check_across(step, traced)
        saved = sorted(saved, key=lambda n: n.uniform)
    elif late:
        saved = [*saved, *traced.asked]
    elif slots is None:  # else the gates of x and r are not the same
        saved, kept_gate = _gate_in_place(saved, gates)
    graph = Graph()
    become = {n.number: graph.leaf("next", k) for k, n in enumerate(traced.next) if n.op != "prev"}
    become |= {
        n.number: graph.leaf("row" if n.uniform else "saved", k) for k, n in enumerate(saved)
    }
    for number, leaf in become.items():
        leaf.name = next((n.name for n in (*traced.next, *saved) if n.number == number), "")
    dx, dr, dprev, dparam, dextra = (
        tuple(rebuild(nodes, graph, become))
        for nodes in (traced.dx, traced.dr, traced.dprev, traced.dparam, traced.dextra)
    )
    return Derived(
        gates, states, params, traced.next, tuple(saved), dx, dr, dprev, dparam, kept_gate,
        rows, product == "heads", dextra, feeds, late,
    )  # fmt: skip


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
    names = ("next", "asked", "dx", "dr", "dprev", "dparam", "dextra")
    roots = [n for name in names for n in getattr(traced, name)]
    ours = evaluate(roots, traced.values)
    theirs = [t for name in names for t in traced.values[name]]
    if not _same(ours, theirs):
        raise CellError(
            f"{title(step)} gives other results than its operations alone: it must "
            "depend on nothing but its arguments and constants"
        )


def _check_across(step: Callable, traced: Traced) -> None:
    """The same for another number of units: the trace's own may be a number in the step."""
    names = {"x": "dx", "r": "dr", "prev": "dprev", "param": "dparam", "extra": "dextra"}
    shape = ROWS + 1, UNITS + 2
    generator = torch.Generator().manual_seed(1)

    def drawn(op: str) -> list[Tensor]:
        count = len(traced.values[op])
        shapes = (count, *shape[op == "param" :])
        return list(torch.randn(shapes, generator=generator, dtype=torch.float64))

    leaves = {op: drawn(op) for op in names}
    inputs = {op: tuple(t.requires_grad_() for t in ts) for op, ts in leaves.items()}
    params = (inputs["param"],) if inputs["param"] else ()
    next = step((*inputs["x"], *inputs["extra"]), inputs["r"], inputs["prev"], *params)
    seeds = drawn("d")
    flat = [t for ts in inputs.values() for t in ts]
    loss = sum((n * d).sum() for n, d in zip(next, seeds)) + 0 * flat[0].sum()
    grads = torch.autograd.grad(loss, flat, materialize_grads=True)
    values = {op: [t.detach().expand(shape) for t in ts] for op, ts in inputs.items()}
    roots = [*traced.next, *(n for name in names.values() for n in getattr(traced, name))]
    theirs = [*(n.detach().expand(shape) for n in next), *grads]
    if not _same(evaluate(roots, values | {"d": seeds}), theirs):
        raise CellError(
            f"{title(step)} computes something else for {shape[1]} units than for {UNITS}: of "
            "their number it may know nothing but what means over the last axis give it"
        )


def _same(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> bool:
    """Are they equal but for rounding? A parameter's gradient is summed over the rows in theirs."""
    return all(
        torch.allclose(
            a if a.shape == b.shape else a.sum(0), b, rtol=1e-9, atol=1e-12, equal_nan=True
        )
        for a, b in zip(ours, theirs)
    )

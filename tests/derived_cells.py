"""What the tests of derived cells share: steps, and a derived cell computed by torch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from new_cells import janet, light_gru, peephole_lstm, slstm
from torch import Tensor

from fastrnn.cells.builtin import BUILTIN
from fastrnn.cells.derived import Derived
from fastrnn.cells.evaluate import evaluate

PARTS = ("next", "dx", "dr", "dprev", "dparam")


STEPS: dict[str, tuple[Callable, int, int, int]] = {  # name -> step, gates, states, params
    c.title: (c.step, c.gates, c.states, c.params) for c in (light_gru, janet, peephole_lstm, slstm)
}
ORACLES = {cell.name: (cell.step, cell.gates, cell.states, 0) for cell in BUILTIN}


def leaves_of(gates: int, states: int, params: int, shape=(5, 7), seed: int = 0) -> dict:
    """Random values for all that a step and its derivative read."""
    generator = torch.Generator().manual_seed(seed)
    sizes = {"x": gates, "r": gates, "prev": states, "param": params, "d": states}
    return {
        op: [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(count)]
        for op, count in sizes.items()
    }


def by_autograd(step: Callable, leaves: dict) -> dict[str, list[Tensor]]:
    """A step's results and gradients as torch computes them."""
    inputs = {op: [t.clone().requires_grad_() for t in leaves[op]] for op in leaves if op != "d"}
    arguments = [inputs[op] for op in ("x", "r", "prev", "param") if inputs[op]]
    next = [n.expand_as(leaves["x"][0]) for n in step(*map(tuple, arguments))]
    flat = [t for ts in inputs.values() for t in ts]
    given = [(n, d) for n, d in zip(next, leaves["d"]) if n.requires_grad]
    grads = [None] * len(flat)
    if given:
        outputs, seeds = zip(*given)
        grads = torch.autograd.grad(outputs, flat, seeds, allow_unused=True)
    grads = [torch.zeros_like(t) if g is None else g for t, g in zip(flat, grads)]
    result = {"next": [n.detach() for n in next]}
    for op, name in (("x", "dx"), ("r", "dr"), ("prev", "dprev"), ("param", "dparam")):
        result[name] = [grads.pop(0) for _ in inputs[op]]
    return result


def by_graphs(derived: Derived, leaves: dict) -> dict[str, list[Tensor]]:
    """The same by the two graphs: backward sees of forward the states and what is saved."""
    forward = {op: leaves[op] for op in ("x", "r", "prev", "param")}
    values = evaluate([*derived.next, *derived.saved], forward)
    result = {"next": values[: derived.states]}
    backward = {op: leaves[op] for op in ("prev", "param", "d")}
    backward |= {"next": result["next"], "saved": values[derived.states :]}
    backward["row"] = backward["saved"]
    for name in PARTS[1:]:
        result[name] = evaluate(getattr(derived, name), backward)
    return result

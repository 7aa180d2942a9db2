"""What the tests of derived cells share: steps, and a derived cell computed by torch."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fastrnn.cells.builtin import BUILTIN
from fastrnn.cells.derived import Derived
from fastrnn.cells.evaluate import evaluate

PARTS = ("next", "dx", "dr", "dprev", "dparam")


def light_gru(x, r, state):
    """Ravanelli et al., arXiv 1803.10225."""
    z, n = torch.sigmoid(x[0] + r[0]), torch.relu(x[1] + r[1])
    return (n + z * (state[0] - n),)


def janet(x, r, state):
    """Van der Westhuizen and Lasenby, arXiv 1804.04849."""
    f = torch.sigmoid(x[0] + r[0])
    return (f * state[0] + (1 - f) * torch.tanh(x[1] + r[1]),)


def peephole_lstm(x, r, state, p):
    """Gers and Schmidhuber 2000."""
    h, c = state
    i = torch.sigmoid(x[0] + r[0] + p[0] * c)
    f = torch.sigmoid(x[1] + r[1] + p[1] * c)
    c = f * c + i * torch.tanh(x[2] + r[2])
    o = torch.sigmoid(x[3] + r[3] + p[2] * c)
    return o * torch.tanh(c), c


def slstm(x, r, state):
    """The sLSTM of Beck et al., arXiv 2405.04517: exponential gates, a stabiliser, four states."""
    h, c, n, m = state
    z, o = torch.tanh(x[2] + r[2]), torch.sigmoid(x[3] + r[3])
    log_f = F.logsigmoid(x[1] + r[1]) + m
    m = torch.maximum(log_f, x[0] + r[0])
    i, f = torch.exp(x[0] + r[0] - m), torch.exp(log_f - m)
    c, n = f * c + i * z, f * n + i
    return o * c / torch.clamp(n, min=1.0), c, n, m


STEPS: dict[str, tuple[Callable, int, int, int]] = {  # name -> step, gates, states, params
    "light_gru": (light_gru, 2, 1, 0),
    "janet": (janet, 2, 1, 0),
    "peephole_lstm": (peephole_lstm, 4, 2, 3),
    "slstm": (slstm, 4, 4, 0),
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
    next = step(*map(tuple, arguments))
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
    for name in PARTS[1:]:
        result[name] = evaluate(getattr(derived, name), backward)
    return result

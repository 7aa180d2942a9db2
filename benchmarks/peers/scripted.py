"""A cell's loop in TorchScript. It has no tuples of any length: one loop for each set of counts."""

# No postponed annotations here: TorchScript reads the types themselves.

import functools
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor

One = tuple[Tensor]
Two = tuple[Tensor, Tensor]
Three = tuple[Tensor, Tensor, Tensor]


def _two_gates(step):
    def loop(gx: Tensor, weight: Tensor, bias: Tensor, state: One) -> tuple[Tensor, One]:
        output = []
        for row in gx.unbind(0):
            x, r = row.chunk(2, -1), F.linear(state[0], weight, bias).chunk(2, -1)
            state = step((x[0], x[1]), (r[0], r[1]), state)
            output.append(state[0])
        return torch.stack(output), state

    return loop


def _four_gates(step):
    def loop(gx: Tensor, weight: Tensor, bias: Tensor, state: Two, p: Three) -> tuple[Tensor, Two]:
        output = []
        for row in gx.unbind(0):
            x, r = row.chunk(4, -1), F.linear(state[0], weight, bias).chunk(4, -1)
            state = step((x[0], x[1], x[2], x[3]), (r[0], r[1], r[2], r[3]), state, p)
            output.append(state[0])
        return torch.stack(output), state

    return loop


LOOPS = {(2, 1, 0): _two_gates, (4, 2, 3): _four_gates}  # by gates, states, params


def _counts(cell) -> tuple[int, int, int]:
    return cell.gates, cell.states, cell.params


@functools.cache
def refusal(cell) -> str | None:
    """Why TorchScript does not serve a cell, or None."""
    if _counts(cell) not in LOOPS:
        return "no scripted loop is written for its counts"
    try:
        loop(cell)
    except Exception as problem:
        return f"TorchScript refuses the step: {str(problem).strip().splitlines()[0]}"
    return None


def loop(cell):
    """The scripted loop of a cell: (gx, W_hh, b_hh, states[, params]) -> (y, states)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit as a whole
        return torch.jit.script(LOOPS[_counts(cell)](torch.jit.script(cell.step)))

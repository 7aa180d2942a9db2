"""The cells of tests/cuda/more_cells.h in plain torch, and layers of them with their parameters."""

from pathlib import Path

import torch
from cuda_simulation import Simulator

from buildtools import simulator
from fastrnn.cells import CELLS, Cell

HEADER, NAMESPACE = "more_cells.h", "fastrnn_sim_more"


def _peephole(x, r, state, p):
    c = state[1]
    i, f = torch.sigmoid(x[0] + r[0] + p[0] * c), torch.sigmoid(x[1] + r[1] + p[1] * c)
    c = f * c + i * torch.tanh(x[2] + r[2])
    return torch.sigmoid(x[3] + r[3] + p[2] * c) * torch.tanh(c), c


def _cascade(x, r, state, p=(1.0,)):
    z = torch.sigmoid(x[0] + r[0])
    n = torch.tanh(x[1] + z * r[1])
    after = [n]
    for s in state[1:]:
        after.append(z * s + p[0] * (1 - z) * after[-1])
    return (n + after[-1], *after[1:])


MORE = {
    cell.name: cell
    for cell in (
        Cell("peephole@0123456789abcdef", gates=4, states=2, step=_peephole, saved=4, params=3),
        Cell("cascade4", gates=2, states=4, step=_cascade, saved=3),
        Cell("cascade8", gates=2, states=8, step=_cascade, saved=3, params=1),
    )
}
PEEPHOLE, CASCADE4, CASCADE8 = MORE


def build(root: Path) -> Path:
    """The simulator library that has these cells, and no other."""
    return simulator.build(root, (f"FASTRNN_LIBRARY={NAMESPACE}",), HEADER)


def load(library: Path) -> Simulator:
    """That library; the process knows the cells from now on, if it does not leave them out."""
    CELLS.update(MORE)
    return Simulator(library, NAMESPACE)

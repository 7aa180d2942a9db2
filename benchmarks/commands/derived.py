"""The cells written by hand against the kernels that are derived from their steps, interleaved."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import product

import torch

import fastrnn
from fastrnn.cells import CELLS, Cell

from ..cases import layers
from ..errors import UsageError
from ..measure import timing
from ..measure.pinning import pinned
from ..report.summary import geomean
from ..report.tables import markdown, number

BATCHES, HIDDEN, MODES = (1, 16, 64), (32, 128, 256, 512), ("inference", "training")
STEPS, ALLOWANCE, LEAST = 50, 0.6, 9
ROUNDING = 1e-4  # float32, relative to the largest number


def _pair(written: Cell, hidden: int) -> list[torch.nn.Module]:
    """The layer of the cell, and that of its derived version, with the same weights."""
    declare = fastrnn.cell(
        gates=written.gates, states=written.states, name=f"derived_{written.name}"
    )
    by_hand = layers.fast(written.name)(hidden, hidden)
    derived = fastrnn.Recurrent(declare(written.step), hidden, hidden)
    derived.load_state_dict(by_hand.state_dict())
    return [by_hand, derived]


def _call(layer: torch.nn.Module, x: torch.Tensor, mode: str) -> Callable[[], list[torch.Tensor]]:
    weights = [x, *layer.parameters()]

    def inference() -> list[torch.Tensor]:
        with torch.no_grad():
            return [layer(x)[0]]

    def training() -> list[torch.Tensor]:
        return list(torch.autograd.grad(layer(x)[0].sum(), weights))

    return inference if mode == "inference" else training


def _differ(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> bool:
    return any(
        not bool((a - b).abs().max() <= ROUNDING * b.abs().max().clamp(min=1))
        for a, b in zip(ours, theirs)
    )


def run(threads: int, only: str | None) -> int:
    """Prints the table; 0 whatever it says: a person decides. A wrong result is not timed."""
    rows, ratios = [], []
    written = [cell for cell in CELLS.values() if cell.derived is None]
    with pinned(threads):
        torch.set_num_threads(threads)
        for cell, hidden, batch, mode in product(written, HIDDEN, BATCHES, MODES):
            name = f"{cell.name}-{mode}-B{batch}-T{STEPS}-H{hidden}"
            if only and only not in name:
                continue
            x = torch.randn(STEPS, batch, hidden, requires_grad=True)
            calls = [_call(layer, x, mode) for layer in _pair(cell, hidden)]
            if _differ(*[call() for call in calls]):
                raise UsageError(f"{name}: the derived cell gives other results")
            timed = timing.interleaved(dict(zip("hd", calls)), ALLOWANCE, LEAST).seconds
            low, ratio, high = timing.spread(timed["d"] / timed["h"])
            ratios.append(ratio)
            micros = [number(float(timing.spread(timed[k])[1]) * 1e6) for k in "hd"]
            rows.append([name, *micros, f"{ratio:.3f}", f"{low:.3f}–{high:.3f}"])
            print(f"{name}: {ratio:.3f}", file=sys.stderr, flush=True)
    if not rows:
        raise UsageError(f"derived: no case has {only!r} in its name")
    print(markdown(["case", "by hand µs", "derived µs", "derived / by hand", "p20–p80"], rows))
    print(f"\ngeomean {geomean(ratios):.3f} over {len(ratios)} cases (below 1: derived is faster)")
    return 0

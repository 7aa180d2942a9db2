"""Which cases are measured: the presets, in one table.

Every cell that fastrnn brings is in the quick and the full preset without being named here.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product

from fastrnn.cells import CELLS as KNOWN
from fastrnn.cells import get, measured_as

from ..errors import UsageError
from . import layers
from .case import MODES, Case
from .zoo_cells import ZOO

# Those that fastrnn brings, and those of the program that calls the benchmarks.
PROGRAM = ("__main__", "__mp_main__")
CELLS = [n for n, c in KNOWN.items() if not c.derived or c.step.__module__ in PROGRAM]
# One cell for each layer of torch.nn: the contest.
MAIN = tuple(dict.fromkeys(measured_as(cell) for cell in CELLS if layers.of(cell).torch))
# Where a preset has room for one of these: that with the fewest weights, the most, or between.
LEAST, *_, MIDDLE, MOST = sorted(MAIN, key=lambda cell: get(cell).gates)


def _pairs(cells, **sizes) -> list[Case]:
    """Inference and training of each cell at these sizes."""
    return [Case(c, m, **sizes) for c in cells for m in ("inference", "training")]


def _variants(cells: list[str], B: int, T: int, H: int) -> list[Case]:
    """Layers, directions, ragged rows and bfloat16, once for each cell."""
    found = []
    for cell in cells:
        plain = Case(cell, "inference", B, T, H, H)
        found += [replace(plain, layers=2, directions=2), replace(plain, ragged=True)]
        found += [replace(plain, mode="training", directions=2)]
        found += [replace(plain, mode="training", ragged=True), replace(plain, dtype="bfloat16")]
    return found


def _streams(cells, sizes=(48,)) -> list[Case]:
    return [Case(c, "stream", 1, 1, h, h) for c in cells for h in sizes]


def quick() -> list[Case]:
    """A look at every mode and axis, within two minutes on two cores."""
    others = [c for c in CELLS if c not in MAIN]
    return [
        *_streams(MAIN),
        *_pairs(MAIN, B=1, T=100, I=32, H=128),
        *_pairs(MAIN, B=16, T=50, I=256, H=256),
        *_pairs(others, B=3, T=100, I=64, H=64),
        *_pairs([MOST], B=64, T=10, I=512, H=512),
        Case(MOST, "inference", 8, 50, 64, 128, layers=2, directions=2),
        Case(MIDDLE, "training", 8, 50, 64, 128, directions=2),
        Case(MIDDLE, "inference", 16, 100, 64, 128, ragged=True),
        Case(MOST, "training", 16, 100, 64, 128, ragged=True),
        Case(MOST, "inference", 16, 20, 512, 512, dtype="bfloat16"),
    ]


def full() -> list[Case]:
    """Every mode and axis over a spread of sizes."""
    cells = list(CELLS)
    found = _streams(cells, (16, 48, 128, 512))
    for batch, hidden in product((1, 8, 64), (64, 128, 256, 512, 1024)):
        found += _pairs(cells, B=batch, T=100, I=hidden, H=hidden)
    for batch in (1, 16):
        found += _pairs(cells, B=batch, T=1000, I=40, H=128)
    return found + _variants(cells, 16, 100, 256)


# A sequence five times as long tells nothing new where one step is a large matrix product already:
# above this many FLOPs of one forward pass the cpu-grid keeps T = 100 and leaves T = 500 out.
LONG_GRID_FLOPS = 5e9


def cpu_grid() -> list[Case]:
    """B x H x T x I of the CPU targets, for the main cells, forward and forward + backward."""
    hidden = (32, 64, 128, 200, 256, 512, 1024)
    found = _streams(MAIN)
    for b, h, t, c in product((1, 3, 16, 32, 64), hidden, (1, 100, 500), MAIN):
        for i in sorted({32, h}):
            pair = _pairs([c], B=b, T=t, I=i, H=h)
            found += pair * (t < 500 or pair[0].flops <= LONG_GRID_FLOPS)
    return found


def gpu() -> list[Case]:
    """What the GPU targets name: small and large H, low precision, and cuDNN's weak spots."""
    found = _pairs([MOST], B=16, T=1024, I=768, H=768, dtype="float16")
    for hidden, batch in ((64, 1), (128, 16), (256, 1), (256, 16)):
        found += _pairs(MAIN, B=batch, T=512, I=hidden, H=hidden, dtype="bfloat16")
    found += _pairs([LEAST], B=16, T=512, I=1024, H=1024, dtype="bfloat16")
    for dtype, hidden in product(("bfloat16", "tf32"), (384, 1024)):
        found += _pairs([MIDDLE, MOST], B=16, T=256, I=hidden, H=hidden, dtype=dtype)
    found += _pairs(MAIN, B=32, T=256, I=256, H=256)
    wide = Case(MOST, "training", 32, 256, 512, 512, dtype="bfloat16")
    found += [replace(wide, directions=2), replace(wide, layers=2), replace(wide, ragged=True)]
    return found + _streams(MAIN, (256,))


def gpu_grid() -> list[Case]:
    """H x B x dtype of the GPU targets, for the main cells, forward and forward + backward."""
    found = _streams(MAIN, (128, 1024))
    for dtype in ("float32", "tf32", "bfloat16", "float16"):
        for hidden, batch in product((64, 128, 256, 512, 1024, 2048), (1, 8, 32, 128)):
            found += _pairs(MAIN, B=batch, T=256, I=hidden, H=hidden, dtype=dtype)
    return found


def custom_cells() -> list[Case]:
    """The suite's own cells: what fastrnn derives, against the loops that people write."""
    from .custom_cells import OWN

    found = []
    for batch, hidden in product((1, 16, 64), (64, 128, 256)):
        found += _pairs(OWN, B=batch, T=100, I=hidden, H=hidden)
    return found


def int8() -> list[Case]:
    """Inference in int8, for torch.nn's cells with gates, which all contestants have."""
    found = _streams([LEAST, MIDDLE, MOST])
    cells = [c for c in MAIN if get(c).gates > 1]
    for hidden, batch, steps in product((64, 128, 256, 512, 1024), (1, 4, 16), (1, 100)):
        found += [Case(c, "inference", batch, steps, hidden, hidden) for c in cells]
    return [replace(case, dtype="int8") for case in found]


def custom_anchors() -> list[Case]:
    """Where of them contestants that compile for minutes run too: a small and a middle size."""
    return [case for case in custom_cells() if (case.B, case.H) in ((1, 64), (16, 128))]


def streams() -> list[Case]:
    """Single steps: a small layer and two of them, then weights of every level of cache."""
    small = _streams(MAIN)
    large = _streams(MAIN, (128, 256, 512, 1024))
    low = [replace(case, dtype="bfloat16") for case in large]
    return [*small, *(replace(case, layers=2) for case in small), *large, *low]


def zoo() -> list[Case]:
    """Cells of fastrnn's zoo against the loops and the packages that people have for them."""
    found = []
    for batch, steps, hidden in ((1, 100, 64), (16, 100, 128), (32, 50, 256)):
        found += _pairs(ZOO, B=batch, T=steps, I=hidden, H=hidden)
    for steps, (batch, hidden) in product((1000, 10000), ((1, 64), (16, 128))):
        found += _pairs(["min_gru"], B=batch, T=steps, I=hidden, H=hidden)
    return found


def memory_cases(*sizes: tuple[int, int, int]) -> tuple[Case, ...]:
    """Training cases of (B, T, H) whose peak memory is measured too."""
    return tuple(Case(c, "training", b, t, h, h) for b, t, h in sizes for c in MAIN)


@dataclass(frozen=True)
class Preset:
    """allowance: seconds of timed rounds a case; least: rounds at the least; aa_every: the A/A
    check runs in one case of so many; peers: default contestants, empty for all; minutes: a bound
    for its timed cases, met on a busy machine by leaving cases to --resume; threads: as in
    --threads; slow_cases: where slow contestants take part, everywhere if None."""

    cases: Callable[[], list[Case]]
    allowance: float
    least: int
    aa_every: int
    memory: tuple[Case, ...]
    peers: tuple[str, ...] = ()
    minutes: float | None = None
    threads: str = "1,all"
    slow_cases: Callable[[], list[Case]] | None = None


CPU_PEERS = ("torch.nn", "torch.nn again", "fastrnn", "onnxruntime", "jax")
QUICK_PEERS = (*CPU_PEERS, "torch.compile", "fastrnn-triton", "flashrnn", "haste")
FULL_PEERS = (*QUICK_PEERS, "fastrnn-lengths", "reference")
LOOPS = ("eager loop", "scripted loop", "compiled loop", "torch scan", "compiled scan")
CUSTOM_PEERS = (*LOOPS, "fastrnn", "jax")
STREAM_PEERS = ("torch.nn", "torch.nn again", "fastrnn", "fastrnn-stream", "onnxruntime")
ZOO_PEERS = ("eager loop", "fastrnn", "jax", "xlstm", "minGRU-pytorch", "log-space scan")
INT8_PEERS = ("torch.nn", "fastrnn", "fastrnn int8", "torch int8", "onnxruntime int8")
GPU_PEERS = ("torch.nn", "torch.nn again", "fastrnn", "fastrnn-triton", "flashrnn", "haste")
PRESETS = {
    "quick": Preset(quick, 0.3, 5, 1, memory_cases((16, 500, 256)), QUICK_PEERS, 1.5),
    "full": Preset(
        full, 1.5, 7, 1, memory_cases((16, 500, 256), (64, 100, 512), (1, 2000, 128)), FULL_PEERS
    ),
    "cpu-grid": Preset(
        cpu_grid,
        0.5,
        3,
        5,
        memory_cases((1, 500, 128), (16, 500, 256), (64, 100, 512), (64, 100, 1024), (3, 100, 32)),
        CPU_PEERS,
    ),
    "custom-cells": Preset(
        custom_cells, 1.5, 7, 1, (), CUSTOM_PEERS, threads="1", slow_cases=custom_anchors
    ),
    "stream": Preset(streams, 0.6, 7, 3, (), STREAM_PEERS, threads="1"),
    "zoo": Preset(zoo, 1.5, 3, 1, (), ZOO_PEERS, 5.5, threads="1"),
    "int8": Preset(int8, 0.5, 5, 1, (), INT8_PEERS, threads="1"),
    "gpu": Preset(gpu, 0.2, 5, 3, memory_cases((16, 500, 256), (64, 100, 512)), GPU_PEERS),
    "gpu-grid": Preset(gpu_grid, 0.2, 5, 5, (), GPU_PEERS),
}


def select(preset: str, cells=None, modes=None, only: str | None = None) -> list[Case]:
    """Cases of a preset, narrowed; UsageError where a name is unknown or nothing is left."""
    chosen = PRESETS[preset].cases()
    known_cells = dict.fromkeys([*CELLS, *(case.cell for case in chosen)])
    for what, names, known in (("cell", cells, known_cells), ("mode", modes, MODES)):
        for name in names or ():
            if name not in known:
                raise UsageError(f"{what} must be one of {', '.join(known)}, got {name!r}")
    kept = [
        case
        for case in chosen
        if (not cells or case.cell in cells)
        and (not modes or case.mode in modes)
        and (not only or only in case.id)
    ]
    if not kept:
        raise UsageError(f"no case of the {preset} preset is left by these options")
    return kept


def shuffled(cases: list[Case]) -> list[Case]:
    """A fixed shuffle: a run cut short has still seen every region of the grid evenly."""
    order = list(cases)
    random.Random(20).shuffle(order)
    return order

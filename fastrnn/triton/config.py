"""Launch configurations: where R is held, the tile sizes that fit, and the choice among them.

`candidates` lists a few configurations for a layer, the likely best first. On a GPU the first call
of a size times them and remembers the winner. Nothing is timed while a CUDA graph is captured, or
under torch.use_deterministic_algorithms (another configuration may round differently): there the
first one serves.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from triton.runtime.errors import OutOfResources

if TYPE_CHECKING:
    from ..gpu.layer import Layer

# What the interpreter stands for: the shared memory of sm_80, but one program at a time.
INTERPRETED = dict(shared=166_912, programs=1)


@dataclass(frozen=True)
class Config:
    """The constants of a scan kernel that may vary for one layer, and Triton's launch options."""

    rows: int  # batch rows of a program
    units: int  # width of a tile of R; all of H unless streamed
    inner: int  # depth of a tile of R; all of H unless streamed
    hold: str  # "registers", "shared" or "streamed"
    warps: int
    stages: int
    # Registers that a thread may have. Where this is None, ptxas aims at several programs a
    # multiprocessor, and may spill a little for it; where it is too many, ptxas lifts operands out
    # of loops until it spills again. What stands here is what tests/triton_compile.py found good.
    registers: int | None = None

    def options(self) -> dict[str, int | str]:
        """As keyword arguments of a kernel launch."""
        options = {name.upper(): value for name, value in asdict(self).items()}
        options["num_warps"], options["num_stages"] = options.pop("WARPS"), options.pop("STAGES")
        return options | {"enable_fp_fusion": True, "maxnreg": options.pop("REGISTERS")}


@functools.cache
def candidates(
    direction: str, gates: int, H: int, multiply: str, tiles: int, shared: int
) -> tuple[Config, ...]:
    """A few configurations for a layer, the likely best first, chosen so as not to spill.

    direction: "forward" or "backward"; tiles: batch rows that one program must serve so that no
    more programs are started than run at once; shared: bytes of shared memory a program may have.
    """
    width = max(16, 1 << (H - 1).bit_length())
    if multiply == "ieee":
        return _exact(gates, width, tiles)
    rows = _rows(tiles, 16, 8192 // (gates * width))
    size = 4 if multiply == "tf32" else 2
    matrix = gates * width * width * size
    most = 64 if multiply == "tf32" else 96 if gates > 1 else 128  # registers of a thread for R
    found = []
    for hold, warps in (("registers", 8), ("registers", 4), ("shared", 8), ("shared", 4)):
        registers = matrix // (4 * 32 * warps)  # of a thread, for R
        if hold == "registers" and (registers > most or rows > 16):
            continue
        if hold == "shared" and (registers > 32 * warps or gates * rows * width > 1024 * warps):
            continue
        if matrix + 2 * rows * width * 4 <= shared:
            allowed = 255 if hold == "registers" else None
            found.append(Config(rows, width, width, hold, warps, 1, allowed))
    if found:
        return tuple(found[:3])
    rows = _rows(tiles, 16, 32)
    return (
        Config(rows, 64, 64, "streamed", warps=8, stages=3, registers=255),
        Config(rows, 64, 32, "streamed", warps=8, stages=4, registers=255),
        Config(rows, 64, 32, "streamed", warps=8, stages=3, registers=255),
    )


def _exact(gates: int, width: int, tiles: int) -> tuple[Config, ...]:
    """Float32 without tensor cores: few rows are no waste, but deep tiles spill."""
    rows = _rows(tiles, 1, 16)
    if gates * width <= 128:
        return tuple(Config(rows, width, width, "shared", warps, 1) for warps in (4, 8))
    units = min(width, 64)
    return (
        Config(rows, units, 16, "streamed", warps=8, stages=2, registers=128),
        Config(rows, units // 2, 16, "streamed", warps=8, stages=2, registers=128),
    )


def _rows(tiles: int, least: int, most: int) -> int:
    """The least power of two that is at least `tiles`, within the limits."""
    return max(least, min(1 << max(0, most.bit_length() - 1), 1 << (tiles - 1).bit_length(), 64))


_chosen: dict[tuple, Config] = {}
Run = Callable[[Config], tuple[Tensor, Any]]  # -> (carry, compiled kernel; None if interpreted)


def choose(direction: str, layer: Layer, run: Run) -> Tensor:
    """Runs a kernel with the best configuration known; finds it first where timing is allowed."""
    shared, programs = INTERPRETED["shared"], INTERPRETED["programs"]
    if layer.device.type == "cuda":
        properties = torch.cuda.get_device_properties(layer.device)
        shared = properties.shared_memory_per_block_optin
        programs = properties.multi_processor_count
    tiles = 1 << (-(-layer.B * layer.D // programs) - 1).bit_length()
    key = (direction, layer.spec.gates, layer.H, layer.multiply, tiles, shared)
    options = candidates(*key)
    config = options[0]
    if layer.device.type == "cuda" and not torch.are_deterministic_algorithms_enabled():
        key += (layer.spec.name, layer.T > 16, layer.device.index)
        if key not in _chosen and not torch.cuda.is_current_stream_capturing():
            _chosen[key] = min(options, key=lambda option: _milliseconds(run, option))
        config = _chosen.get(key, config)
    return run(config)[0]


def _milliseconds(run: Run, config: Config) -> float:
    """The least time of a few runs; infinite where the device lacks registers or shared memory."""
    try:
        if run(config)[1].n_spills:
            return math.inf
    except OutOfResources:
        return math.inf
    events = [torch.cuda.Event(enable_timing=True) for _ in range(4)]
    for event in events[:-1]:
        event.record()
        run(config)
    events[-1].record()
    events[-1].synchronize()
    return min(a.elapsed_time(b) for a, b in zip(events, events[1:]))

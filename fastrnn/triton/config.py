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


# Registers of a thread that weights, words and tiles may take, found by compiling.
MOST_ALONE, MOST_SHARING = 208, 196
# Rows and units of a program that shares R with others, the quickest first.
SHARED_TILES = ((8, 16), (8, 32), (16, 16), (16, 32), (32, 16), (32, 32))


@dataclass(frozen=True)
class Config:
    """The constants of a scan kernel that may vary for one layer, and Triton's launch options."""

    rows: int  # batch rows of a program
    units: int  # units of a program; streamed: width of a tile of R
    inner: int  # depth of a tile of R
    hold: str  # "resident" or "streamed"
    warps: int
    stages: int = 1
    # Registers that a thread may have. Where this is None, ptxas aims at several programs a
    # multiprocessor, and may spill a little for it; where it is too many, ptxas lifts operands out
    # of loops until it spills again. What stands here is what tests/triton_compile.py found good.
    registers: int | None = 255
    # Where programs share R: parts of its depth, each multiplied by other warps, and the gates of
    # dL/dr that are waited for together.
    shares: int = 1
    together: int = 1

    def programs(self, H: int) -> int:
        """How many programs share the batch rows of a tile."""
        return -(-H // self.units) if self.hold == "resident" else 1

    def options(self) -> dict[str, int | str]:
        """As keyword arguments of a kernel launch."""
        options = {name.upper(): value for name, value in asdict(self).items()}
        options["num_warps"], options["num_stages"] = options.pop("WARPS"), options.pop("STAGES")
        if self.shares > 1:  # programs wait for each other, so all must run at once
            options["launch_cooperative_grid"] = True
        return options | {"enable_fp_fusion": True, "maxnreg": options.pop("REGISTERS")}


@functools.cache
def candidates(
    direction: str, gates: int, H: int, multiply: str, B: int, D: int, programs: int, shared: int
) -> tuple[Config, ...]:
    """A few configurations for a layer, the likely best first, chosen so as not to spill.

    direction: "forward" or "backward"; programs: how many run at once; shared: bytes of shared
    memory a program may have.
    """
    alone = _alone(gates, H, multiply, -(-B * D // programs), shared)
    together = _sharing(direction, gates, H, multiply, B, D, programs, shared)
    if alone or together:
        # Where a thread has few units, it is done before it would have heard from others.
        small = gates * _width(H) <= 256
        return (*alone, *together) if small else (*together, *alone)
    return _streamed(H, multiply, -(-B * D // programs))


def _width(H: int) -> int:
    """The tile that covers H units."""
    return max(16, 1 << (H - 1).bit_length())


def _size(multiply: str) -> int:
    return 4 if multiply in ("tf32", "ieee") else 2


def _sums(direction: str, gates: int) -> int:
    """Tiles of sums that a step makes, a power of two: those of the gates, or dL/dh."""
    return 1 if direction == "backward" else gates if gates < 3 else 4


def _alone(gates: int, H: int, multiply: str, tiles: int, shared: int) -> list[Config]:
    """All of R in one program; tiles: rows of it for no more programs than run at once."""
    width, found = _width(H), []
    held = 4 if gates == 3 else gates
    if held * width * width * _size(multiply) > shared:
        return []
    for warps in (8, 4):
        rows = _power(tiles, 8 if multiply != "ieee" else 1, 64)
        while rows >= 1 and not _fits_alone(gates, width, multiply, rows, warps):
            rows //= 2
        if rows >= (8 if multiply != "ieee" else 1):
            found.append(Config(rows, width, width, "resident", warps))
    return found


def _fits_alone(gates: int, width: int, multiply: str, rows: int, warps: int) -> bool:
    if multiply == "ieee":  # a weight stands in the registers of several threads
        return warps == 8 and gates * width <= 128 and gates * width * width * rows <= 32768
    weights = gates * width * width * _size(multiply)
    return weights + rows * width * _values(gates, multiply) <= 4 * 32 * warps * MOST_ALONE


def _values(gates: int, multiply: str) -> float:
    """Bytes of registers that a step takes for each unit of a batch row."""
    return 4 * (1 + 4 * gates) * (1 if _size(multiply) == 2 else 2.5)


def _sharing(
    direction: str, gates: int, H: int, multiply: str, B: int, D: int, programs: int, shared: int
) -> list[Config]:
    """R in several programs, which must all run at once: the fewest rows and units that allow it.

    The more programs, the less each has to do in a step, of which half is waiting anyway.
    """
    width, size, found = _width(H), _size(multiply), []
    held = gates if direction == "backward" else _sums(direction, gates)
    for warps in (4, 8):
        for rows, units in SHARED_TILES:
            crowded = -(-B // rows) * D * -(-H // units) > programs
            if crowded or rows * units > 64 * warps or width < 16 * warps or units >= H:
                continue
            weights = held * units * width * size
            words = 3 * rows * width * size  # of one gate: values, numbers, and values alone
            if multiply == "ieee":  # a weight stands in the registers of several threads
                several = 8 if direction == "backward" and gates > 1 else 4 if held == 1 else 2
                weights *= several * rows // 8
            room = 4 * 32 * warps * MOST_SHARING - weights
            room -= rows * units * _values(gates, multiply)
            at_once = min(gates if direction == "backward" else 1, int(room // words))
            if at_once > 0 and held * units * width * size <= shared:
                split = dict(shares=warps, together=at_once)
                found.append(Config(rows, units, width // warps, "resident", warps, **split))
                break
    return sorted(found, key=lambda config: -config.together)  # each wait is a while


def _streamed(H: int, multiply: str, tiles: int) -> tuple[Config, ...]:
    if multiply == "ieee":  # without tensor cores few rows are no waste, but deep tiles spill
        rows, units = _power(tiles, 1, 16), min(_width(H), 64)
        return tuple(
            Config(rows, u, 16, "streamed", 8, stages=2, registers=128) for u in (units, units // 2)
        )
    rows = _power(tiles, 16, 32)
    depths = ((64, 3), (32, 4), (32, 3))
    return tuple(Config(rows, 64, inner, "streamed", 8, stages) for inner, stages in depths)


def _power(wanted: int, least: int, most: int) -> int:
    """The least power of two that is at least `wanted`, within the limits."""
    return max(least, min(most, 1 << (wanted - 1).bit_length()))


_chosen: dict[tuple, Config] = {}
Run = Callable[[Config], tuple[Tensor, Any]]  # -> (carry, compiled kernel; None if interpreted)


def choose(direction: str, layer: Layer, run: Run) -> Tensor:
    """Runs a kernel with the best configuration known; finds it first where timing is allowed."""
    shared, programs = INTERPRETED["shared"], INTERPRETED["programs"]
    if layer.device.type == "cuda":
        properties = torch.cuda.get_device_properties(layer.device)
        shared = properties.shared_memory_per_block_optin
        programs = properties.multi_processor_count
    B = 1 << (layer.B - 1).bit_length()  # one choice for every B up to the next power of two
    key = (direction, layer.spec.gates, layer.H, layer.multiply, B, layer.D, programs, shared)
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

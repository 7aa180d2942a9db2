"""Launch configurations: where R is held, by how many programs, and the tile sizes that fit."""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass

import triton

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

    def told(self, H: int) -> str:
        """For a reader."""
        if self.hold == "streamed":
            return f"R is read from L2 at every step; {self.rows} batch rows a program"
        if self.shares == 1:
            return f"R stays in each program; {self.rows} batch rows a program"
        return (
            f"R stays in {self.programs(H)} programs of {self.units} units, which share "
            f"{self.rows} batch rows"
        )

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
    wanted = -(-B * D // programs)  # rows of a program for no more programs than run at once
    alone = _alone(gates, H, multiply, wanted, shared)
    sharing = _sharing(direction, gates, H, multiply, B, D, programs, shared)
    streamed = _streamed(H, multiply, wanted)
    if sharing:
        # Where a thread has few units, it is done before it would have heard from others.
        few = gates * _width(H) <= 256
        return (*alone, *sharing) if few else (*sharing, *alone)
    if alone and alone[0].rows < wanted:
        return (*alone, streamed[0])
    return tuple(alone) or streamed


def _width(H: int) -> int:
    """The tile that covers H units."""
    return max(16, 1 << (H - 1).bit_length())


def _size(multiply: str) -> int:
    return 4 if multiply in ("tf32", "ieee") else 2


def _sums(direction: str, gates: int) -> int:
    """Tiles of sums that a step makes, a power of two: those of the gates, or dL/dh."""
    return 1 if direction == "backward" else triton.next_power_of_2(gates)


def _alone(gates: int, H: int, multiply: str, wanted: int, shared: int) -> list[Config]:
    """All of R in one program, with as many of the wanted rows as fit."""
    width, found = _width(H), []
    if triton.next_power_of_2(gates) * width * width * _size(multiply) > shared:
        return []
    least = 1 if multiply == "ieee" else 8
    for warps in (8, 4):
        rows = _power(wanted, least, 64)
        while rows >= least and not _fits_alone(gates, width, multiply, rows, warps):
            rows //= 2
        if rows >= least:
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
            room = 4 * 32 * warps * (MOST_SHARING - 12 * (multiply == "ieee")) - weights
            room -= rows * units * _values(gates, multiply)
            at_once = min(gates if direction == "backward" else 1, int(room // words))
            if at_once > 0 and held * units * width * size <= shared:
                split = dict(shares=warps, together=at_once)
                found.append(Config(rows, units, width // warps, "resident", warps, **split))
                break
    return sorted(found, key=lambda config: -config.together)  # each wait is a while


def _streamed(H: int, multiply: str, wanted: int) -> tuple[Config, ...]:
    """R from L2, for any size."""
    if multiply == "ieee":  # without tensor cores few rows are no waste, but deep tiles spill
        rows, units = _power(wanted, 1, 16), min(_width(H), 64)
        few = 128 if rows == 1 else 144
        return tuple(Config(rows, u, 16, "streamed", 8, 2, few) for u in (units, units // 2))
    rows = _power(wanted, 16, 32)
    depths = ((64, 3), (32, 4), (32, 3))
    return tuple(Config(rows, 64, inner, "streamed", 8, stages) for inner, stages in depths)


def _power(wanted: int, least: int, most: int) -> int:
    """The least power of two that is at least `wanted`, within the limits."""
    return max(least, min(most, 1 << (wanted - 1).bit_length()))

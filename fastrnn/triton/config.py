"""Launch configurations: where R is held, by how many programs, and the tile sizes that fit."""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, NamedTuple

import triton

if TYPE_CHECKING:
    from ..cells import Cell

# Registers of a thread that weights, words and tiles may take, found by compiling.
MOST_ALONE, MOST_SHARING = 208, 196
MOST_ACROSS = 1024  # units of a program that has a row's all, with R from L2
# For so many warps of a program that shares R with others, its rows and units, the quickest first.
# More units make fewer programs, all of which read all of h.
SHARED_TILES = {
    4: ((8, 16), (8, 32), (16, 16)),
    8: ((8, 32), (8, 16), (16, 16), (16, 32), (32, 16)),
}


@dataclass(frozen=True)
class Config:
    """The constants of a scan kernel that may vary for one layer, and Triton's launch options."""

    rows: int  # batch rows of a program
    units: int  # units of a program; streamed: width of a tile of R
    inner: int  # depth of a tile of R
    hold: str  # "resident" or "streamed"; "nowhere": the cell has no R
    warps: int
    stages: int = 1
    # Registers that a thread may have. Without a number ptxas aims at several programs a
    # multiprocessor, and may spill for it; where it is too many, ptxas lifts operands out of loops
    # until it spills again. What stands here is what tests/triton_compile.py found good.
    registers: int = 255
    # Where programs share R: parts of its depth, each multiplied by other warps, and the gates of
    # dL/dr that are waited for together.
    shares: int = 1
    together: int = 1

    def programs(self, H: int) -> int:
        """How many programs share the batch rows of a tile."""
        return 1 if self.hold == "streamed" else -(-H // self.units)

    def told(self, H: int) -> str:
        """For a reader."""
        if self.hold == "streamed":
            return f"R is read from L2 at every step; {self.rows} batch rows a program"
        if self.hold == "nowhere":
            return f"no R; {self.rows} batch rows and {self.units} units a program"
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


class Need(NamedTuple):
    """What a kernel multiplies by, as far as tile sizes go."""

    direction: str  # "forward" or "backward"
    gates: int  # of r; of x where there is no r
    H: int
    multiply: str  # "bfloat16", "float16", "tf32" or "ieee"
    tiles: int = 0  # what a step has of each unit, where that is more than 4 G + 1
    product: bool = True  # whether the cell has R
    across: bool = False  # whether it looks across units, so that a program has all of a row
    late: bool = False  # whether it has late slots, for which R is streamed

    @classmethod
    def of(cls, direction: str, cell: Cell, H: int, multiply: str) -> Need:
        tiles = 1 + cell.saved + 3 * cell.states + cell.gates
        tiles += (cell.params + cell.across + cell.extra) * (2 if direction == "backward" else 1)
        gates = cell.recurrent or cell.gates
        most = 0 if tiles <= 4 * gates + 1 else tiles
        has = cell.recurrent > 0, cell.across, cell.late > 0
        return cls(direction, gates, H, multiply, most, *has)

    @property
    def width(self) -> int:
        """The tile that covers H units."""
        return max(16, 1 << (self.H - 1).bit_length())

    @property
    def size(self) -> int:
        """Bytes of a number."""
        return 4 if self.multiply in ("tf32", "ieee") else 2

    @property
    def dots(self) -> int:
        """Forward is one dot for all gates, backward one for each."""
        return self.gates if self.direction == "backward" else 1

    @property
    def held(self) -> int:
        """Tiles of R that stand side by side."""
        return self.gates if self.dots > 1 else triton.next_power_of_2(self.gates)

    @property
    def values(self) -> float:
        """Bytes of registers that a step takes for each unit of a batch row."""
        return 4 * max(1 + 4 * self.gates, self.tiles) * (1 if self.size == 2 else 2.5)


@functools.cache
def candidates(need: Need, B: int, D: int, programs: int, shared: int) -> tuple[Config, ...]:
    """A few configurations for a layer, the likely best first, chosen so as not to spill.

    programs: how many run at once; shared: bytes of shared memory a program may have.
    """
    if need.across and need.H > MOST_ACROSS:
        raise RuntimeError(
            f"the Triton kernels have all units of a row in one program where a cell looks across "
            f"them, at most {MOST_ACROSS}, got {need.H}"
        )
    if not need.product:
        return _row_by_row(need) if need.across else _unitwise(B)
    wanted = -(-B * D // programs)  # rows of a program for no more programs than run at once
    if need.late:
        return _streamed(need, wanted)
    alone = _alone(need, wanted, shared)
    if need.across:
        return (*alone, *_streamed_across(need))
    sharing = _sharing(need, B, D, programs, shared)
    streamed = _streamed(need, wanted)
    if sharing:
        # Where a thread has few units, it is done before it would have heard from others.
        few = need.gates * need.width <= 256
        return (*alone, *sharing) if few else (*sharing, *alone)
    if alone and alone[0].rows < wanted:
        return (*alone, streamed[0])
    return tuple(alone) or streamed


def _alone(need: Need, wanted: int, shared: int) -> list[Config]:
    """All of R in one program, with as many of the wanted rows as fit."""
    width, found = need.width, []
    if triton.next_power_of_2(need.gates) * width * width * need.size > shared:
        return []
    least = 1 if need.multiply == "ieee" else 8
    for warps in (8, 4):
        rows = _power(wanted, least, 64)
        while rows >= least and not _fits_alone(need, rows, warps):
            rows //= 2
        if rows >= least:
            found.append(Config(rows, width, width, "resident", warps))
    return found


def _fits_alone(need: Need, rows: int, warps: int) -> bool:
    matrix = need.gates * need.width * need.width
    if need.multiply == "ieee":  # a weight stands in the registers of several threads
        return warps == 8 and need.gates * need.width <= 128 and matrix * rows <= 32768
    taken = matrix * need.size + rows * need.width * need.values
    return taken <= 4 * 32 * warps * MOST_ALONE


def _sharing(need: Need, B: int, D: int, programs: int, shared: int) -> list[Config]:
    """R in several programs, which must all run at once: for each number of warps the first tile
    that allows it, or one that lets backward wait for the others less often.
    """
    found = []
    for warps, tiles in SHARED_TILES.items():
        fitting = []
        for rows, units in tiles:
            crowded = -(-B // rows) * D * -(-need.H // units) > programs
            large = need.held * units * need.width * need.size > shared
            if crowded or large or need.width < 16 * warps or units >= need.H:
                continue
            at_once = min(need.dots, _room(need, rows, units, warps))
            if at_once > 0:
                split = dict(shares=warps, together=at_once)
                inner = need.width // warps
                fitting.append(Config(rows, units, inner, "resident", warps, **split))
        found += sorted(fitting, key=lambda config: -config.together)[:1]
    return sorted(found, key=lambda config: -config.together)


def _room(need: Need, rows: int, units: int, warps: int) -> int:
    """For the words of how many dots the registers have room, beside the weights."""
    weights, most = need.held * units * need.width * need.size, MOST_SHARING
    words = 3 * rows * need.width * need.size  # of one dot: values, numbers, and values alone
    if need.multiply == "ieee":  # a weight stands in the registers of several threads
        several = 8 if need.dots > 1 else 4 if need.held == 1 else 2
        weights, most = weights * several * rows // 8, most - 12
    room = 4 * 32 * warps * most - weights - rows * units * need.values
    return max(0, int(room // words))


def _streamed(need: Need, wanted: int) -> tuple[Config, ...]:
    """R from L2, for any size."""
    if need.multiply == "ieee":  # without tensor cores few rows are no waste, but deep tiles spill
        rows, units = _power(wanted, 1, 16), min(need.width, 64)
        few = 176 if need.late else 128 if rows == 1 else 144
        return tuple(Config(rows, u, 16, "streamed", 8, 2, few) for u in (units, units // 2))
    rows = _power(wanted, 16, 32)
    depths = ((64, 3), (32, 4), (32, 3))
    return tuple(Config(rows, 64, inner, "streamed", 8, stages) for inner, stages in depths)


def _streamed_across(need: Need) -> tuple[Config, ...]:
    """The same, of all units of a few rows."""
    rows = 1 if need.multiply == "ieee" else 16
    warps, registers = (8, 255) if need.width <= 256 else (16, 128)
    sizes = rows, need.width, 16, "streamed", warps
    return tuple(Config(*sizes, stages, registers) for stages in (2, 1))


def _row_by_row(need: Need) -> tuple[Config, ...]:
    """All units of a row, without R."""
    return tuple(Config(1, need.width, 16, "nowhere", warps) for warps in (4, 1))


def _unitwise(B: int) -> tuple[Config, ...]:
    """A number of each tile for a thread: programs of some rows and units, and of a warp."""
    rows = _power(B, 1, 4)
    return Config(rows, 128 // rows, 16, "nowhere", 4), Config(1, 32, 16, "nowhere", 1)


def _power(wanted: int, least: int, most: int) -> int:
    """The least power of two that is at least `wanted`, within the limits."""
    return max(least, min(most, 1 << (wanted - 1).bit_length()))

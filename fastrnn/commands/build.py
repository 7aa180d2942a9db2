"""`python -m fastrnn build`: cells compiled ahead of time, for a package to ship."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

from ..compiled import flags, prebuilt, program
from ..compiled.compile import library
from ..compiled.toolchain import find
from . import named


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cells", nargs="+", metavar="MODULE:CELL", help="a cell of a module")
    parser.add_argument(
        "--dtype", nargs="+", default=["float32"], choices=program.DTYPES, help="default: float32"
    )
    parser.add_argument(
        "--isa", nargs="+", choices=flags.isas(), help="instruction sets; default: this machine's"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="made if need be")


def run(options: argparse.Namespace) -> str:
    """Compiles them all. Raises ValueError for what is no cell, RuntimeError where it fails."""
    lines, done = [], set()
    isas = options.isa or [program.running_isa()]
    cells = [named.cell(text) for text in options.cells]
    for cell, dtype, isa in itertools.product(cells, options.dtype, isas):
        made = program.of_cell(cell, dtype, isa)
        facts = dict(made.facts)
        if tuple(facts.values()) in done:  # avx512bf16 and avx512 are one for most dtypes
            continue
        done.add(tuple(facts.values()))
        lines.append(str(prebuilt.write(options.out, library(made, find()), facts)))
    return "\n".join(lines)

"""`python -m fastrnn library`: the C library, for programs without Python."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..compiled import c_library, flags


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--isa", nargs="+", choices=flags.isas(), help="instruction sets, besides base, of which"
        " the library takes the widest that runs; default: all",
    )  # fmt: skip
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="made if need be")


def run(options: argparse.Namespace) -> str:
    """Compiles it. Raises RuntimeError where that fails, OSError where DIR cannot be written."""
    return "\n".join(map(str, c_library.build(options.out, options.isa)))

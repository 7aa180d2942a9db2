"""`python -m fastrnn source`: the kernels that are derived from a cell, to read."""

from __future__ import annotations

import argparse

from . import named


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cell", metavar="MODULE:CELL", help="a cell of a module")
    parser.add_argument("--triton", action="store_true", help="in Triton; default: in C++")


def run(options: argparse.Namespace) -> str:
    """The text. Raises ValueError for what is no cell."""
    cell = named.cell(options.cell)
    if options.triton:
        from ..cells import triton_source

        return triton_source.source(cell).rstrip("\n")
    from ..cells import cpp

    return cpp.policy(cell).rstrip("\n")

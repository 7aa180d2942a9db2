"""MODULE:CELL on a command line."""

from __future__ import annotations

import importlib

from ..cells import Cell


def cell(text: str) -> Cell:
    """The cell that an importable module has by that name; ValueError says what is wrong."""
    module_name, _, name = text.partition(":")
    if not module_name or not name:
        raise ValueError(f"a cell must be given as MODULE:CELL, got {text!r}")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(f"module {module_name!r} cannot be imported: {error}") from None
    found = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, Cell):
        cells = [n for n, value in vars(module).items() if isinstance(value, Cell)]
        there = f"its cells are {', '.join(cells)}" if cells else "it has no cells"
        raise ValueError(f"module {module_name!r} has no cell {name!r}: {there}")
    if found.derived is None:
        raise ValueError(f"the kernels of {found.title!r} are written by hand, in csrc/cells/")
    return found

"""The pair of every cell: written by hand (cells.py), or derived, as a module of its own.

Triton reads the source of its functions from a file, so the text of a derived pair becomes one. It
is written and imported when the cell is first run, once a process.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from types import ModuleType

from .. import cells
from ..cells import triton_source
from ..compiled import folder
from .cells import TRITON_CELLS, TritonCell

MOST_GATES = 32  # that turn.py can part

_lock = threading.Lock()


def without(name: str) -> str | None:
    """Why a cell has no pair; None if it has one."""
    if name in TRITON_CELLS:
        return None
    cell = cells.CELLS.get(name)
    if cell is None or cell.derived is None:
        return f"the cell {name!r} has no Triton functions (those with: {', '.join(TRITON_CELLS)})"
    if cell.recurrent > MOST_GATES:
        return f"the Triton kernels have at most {MOST_GATES} gates, {name} has {cell.recurrent}"
    if cell.in_heads and cell.across:  # each head is a layer of its own to them
        return f"the Triton kernels have no means over all heads of a row, which {cell.title} takes"
    return None


def pair(name: str) -> TritonCell:
    """The two functions of a cell that is not `without`."""
    found = TRITON_CELLS.get(name)
    if found is None:
        with _lock:
            found = TRITON_CELLS.get(name) or _load(cells.get(name))
            TRITON_CELLS[name] = found
    return found


def _load(cell: cells.Cell) -> TritonCell:
    # A kernel in memory is known by the names of its cell's module and function: the module's name
    # has the digest.
    name = "fastrnn_" + triton_source.identifier(cell.name)
    module = _import(name, triton_source.module(cell))
    forward, backward, *parts = (getattr(module, n) for n in triton_source.function_names(cell))
    return TritonCell(forward, backward, cell.derived.split, *parts)


def _import(name: str, text: str) -> ModuleType:
    path = source_folder() / f"{name}.py"
    part = path.with_name(f".{name}.{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)  # in one move: another process may be reading it
    module = ModuleType(name, f"Written by fastrnn: {path}")
    module.__file__ = str(path)
    sys.modules[name] = module  # where Triton looks for what its functions call
    exec(compile(text, str(path), "exec"), module.__dict__)
    return module


def source_folder() -> Path:
    """Where the modules are written: a folder that nobody else can write to."""
    return folder.prepared(folder.current() / "triton")

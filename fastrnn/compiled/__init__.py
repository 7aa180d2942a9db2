"""CPU kernels of cells from Python: compiled on the user's machine when first needed, and kept.

The C library is compiled here, too.

flags      what CPU kernels are compiled with, here and in the native library's build
headers    the C++ headers that come with fastrnn
toolchain  the C++ compiler of this machine
folder     where compiled cells are kept, if that can be trusted
cache      what is kept there, by key
compile    sources become a library
program    a cell becomes sources
prebuilt   folders of libraries that were compiled ahead of time
c_library  what programs without Python link with
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from .. import cells, ops
from ..cells import CELLS, Cell
from . import prebuilt, program, toolchain
from .compile import CompileError
from .compile import library as _library
from .folder import CacheError

__all__ = ["CacheError", "CompileError", "load_kernels", "provide", "refusal"]

_lock = threading.RLock()
# (cell, dtype) -> why it cannot be had, or None: its kernels are loaded
_known: dict[tuple[str, str], str | None] = {}
_told: set[tuple[str, str]] = set()


def refusal(name: str, dtype: torch.dtype | str) -> str | None:
    """Why the native library cannot have kernels of that cell, or None: it has them now.

    Compiles them if need be. An answer holds for the rest of the process; where compiling was tried
    and failed, a warning says so once, since another backend may serve.
    """
    key = name, str(dtype).removeprefix("torch.")
    why = _refusal(*key)
    if _known.get(key) and key not in _told:
        _told.add(key)
        title = name.partition("@")[0]
        warnings.warn(
            f"fastrnn: the cell {title!r} has no compiled kernels for {key[1]}: {why}", stacklevel=2
        )
    return why


def provide(name: str, dtype_name: str) -> None:
    """Loads the kernels of that cell, as the native library asks for; RuntimeError says why not."""
    try:
        cells.get(name)
    except ValueError as unknown:
        raise RuntimeError(str(unknown)) from None
    if why := _refusal(name, dtype_name):
        title = name.partition("@")[0]
        raise RuntimeError(f"the cell {title!r} has no compiled kernels for {dtype_name}: {why}")


def load_kernels(folder: str | os.PathLike) -> None:
    """Makes the cells known that `python -m fastrnn build` compiled into a folder.

    A package that ships a cell calls it where it defines the cell, so that its users need no
    compiler. A library is used where cell, dtype, instruction set and version of fastrnn are those
    it was compiled for; else the cell is compiled as usual.

    Args:
        folder: as `Path(__file__).parent / "kernels"`; it is code, and trusted as such

    Raises ValueError where the folder holds no index of such libraries.
    """
    prebuilt.add(folder)
    with _lock:
        for key in [key for key, why in _known.items() if why]:
            del _known[key]


def _refusal(name: str, dtype: str) -> str | None:
    if name in ops.NATIVE_CELLS:
        return None
    if not ops.NATIVE_BUILT:
        return "fastrnn was installed without its native library (FASTRNN_NATIVE=0, or not built)"
    if _op() is None:
        return "the native library is older than this fastrnn: build it again"
    cell = CELLS.get(name)
    if cell is None or cell.derived is None:
        return f"the native library has no kernel for the cell {name!r}"
    if dtype not in program.DTYPES:
        return f"compiled kernels are for {', '.join(program.DTYPES)}"
    key = name, dtype
    if key not in _known:
        with _lock:
            if key not in _known:
                _known[key] = _load(cell, dtype)
    return _known[key]


def _op() -> Callable[[str], None] | None:
    return getattr(torch.ops.fastrnn, "load_cell", None)


def _load(cell: Cell, dtype: str) -> str | None:
    try:
        path = str(library(cell, dtype, program.running_isa()))
        # In a thread of its own: torch.export, say, records the ops that this one calls.
        with ThreadPoolExecutor(1) as aside:
            aside.submit(_op(), path).result()
    except RuntimeError as error:
        return str(error)
    return None


def library(cell: Cell, dtype: str, isa: str) -> Path:
    """The path of a cell's library: compiled ahead of time, or in the cache, or compiled now.

    Raises RuntimeErrors: CompileError, CacheError, NoCompiler, or NoHeaders.
    """
    made = program.of_cell(cell, dtype, isa)
    facts = made.facts
    found, instead = prebuilt.find(cell.name, dtype, facts["isa"], facts["library"])
    if found:
        return found
    try:
        return _library(made, toolchain.find())
    except RuntimeError as error:
        if instead:
            raise type(error)(f"{error} ({instead})") from None
        raise

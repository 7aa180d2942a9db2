"""A cell's kernels as sources: the policy that is derived from its step, and two engines for it."""

from __future__ import annotations

import functools
import re
from pathlib import Path

from .. import ops
from ..cells import Cell
from . import flags, headers
from .compile import Program

DTYPES = {"float32": "float", "float64": "double", "bfloat16": "Bf16"}
WEIGHTS = {"int8": "Int8", "bf16_weights": "WeightsInBf16"}  # of inference, all else float32
DTYPES |= WEIGHTS
LIBRARY_H = Path("cpu", "library.h")
VERSION = re.compile(r"kCellLibraryVersion\s*=\s*(\d+)")

# Two sources, since they compile at the same time; backward's is the larger one.
UNIT = """\
// The {way} kernels of {title}, {dtype}.
#define FASTRNN_ISA {isa}
#define FASTRNN_DTYPE {type}
#define FASTRNN_CELL ::fastrnn::{struct}
#define FASTRNN_CELL_NAME {name}
#define FASTRNN_CELL_{WAY}
#include "cell.h"
#include "cpu/engine/library.h"
"""


def of_cell(cell: Cell, dtype: str, isa: str) -> Program:
    """The library of a derived cell: dtype one of DTYPES, isa an instruction set of this machine.

    Raises RuntimeError where this installation has no headers.
    """
    from ..cells import cpp

    root = headers.folder()
    isa = flags.isa_for(isa, dtype)
    title = re.sub(r"[^ -~]|\\", "?", cell.title)  # a line of a comment
    sources = {"cell.h": cpp.policy(cell)}
    for way in ("forward", "backward")[: 1 if dtype in WEIGHTS else 2]:
        sources[f"{way}.cpp"] = UNIT.format(
            way=way, WAY=way.upper(), title=title, name=_literal(cell.name),
            struct=cpp.struct_name(cell), isa=isa, dtype=dtype, type=DTYPES[dtype],
        )  # fmt: skip
    return Program(
        title=f"the cell {cell.title!r} ({dtype}, {isa})",
        sources=sources,
        flags=(*flags.OPTIMISE, *flags.FLAGS, *flags.isas()[isa]),
        headers=root,
        headers_digest=_digest(root),
        facts={"cell": cell.name, "dtype": dtype, "isa": isa, "library": library_version()},
    )


def running_isa() -> str:
    """The instruction set that the native library runs with; the plainest where there is none."""
    return ops.BUILD_INFO.get("isa", "base")


def library_version() -> int:
    """Of what a compiled cell and the native library know of each other."""
    return int(VERSION.search((headers.folder() / LIBRARY_H).read_text())[1])


@functools.cache
def _digest(root: Path) -> str:
    return headers.digest(root)


def _literal(text: str) -> str:
    """A C++ string, whatever is in it."""
    plain = "".join(chr(c) for c in range(32, 127) if chr(c) not in '"\\?')
    octal = "".join(c if c in plain else "".join(f"\\{b:03o}" for b in c.encode()) for c in text)
    return f'"{octal}"'

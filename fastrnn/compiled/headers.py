"""The C++ headers that a cell is compiled with: those that the native library was built from."""

from __future__ import annotations

import hashlib
from pathlib import Path

from .flags import HEADERS, LIBRARY

PACKAGE = Path(__file__).resolve().parents[1]
PLACES = (PACKAGE / "csrc", PACKAGE.parent / "csrc")  # of an installed package, of a source tree


class NoHeaders(RuntimeError):
    """This installation has no headers to compile with."""


def folder(rooms: tuple[str, ...] = HEADERS) -> Path:
    """Where the headers are; NoHeaders if this installation has none."""
    for place in PLACES:
        if all((place / room).is_dir() for room in rooms):
            return place
    raise NoHeaders("the C++ headers of fastrnn are not installed (FASTRNN_NATIVE=0?)")


def library_folder() -> Path:
    """The same where the sources of the C library are, too."""
    return folder(HEADERS + LIBRARY)


def digest(root: Path) -> str:
    """sha256 of their names and contents. All of them: a macro may say which are included."""
    whole = hashlib.sha256()
    for path in sorted(path for room in HEADERS for path in (root / room).rglob("*.h")):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        whole.update(f"{path.relative_to(root)} {content}\n".encode())
    return whole.hexdigest()

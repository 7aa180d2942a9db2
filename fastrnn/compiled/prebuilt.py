"""Folders of cells that were compiled ahead of time, for a package to ship its cells with.

index.json      for each library: cell, dtype, isa, fastrnn, library, file, sha256
<title>-<digest>-<dtype>-<isa>.so
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from ..version import __version__
from .cache import sha256

INDEX = "index.json"
_folders: list[tuple[Path, list[dict[str, Any]]]] = []


def add(folder: str | os.PathLike) -> None:
    """Makes the libraries of a folder known; ValueError where it has no index."""
    path = Path(folder).resolve()
    _folders[:] = [known for known in _folders if known[0] != path]
    _folders.append((path, index(path)))


def find(cell: str, dtype: str, isa: str, library_version: int) -> tuple[Path | None, str]:
    """The library of a cell, by its whole name; or None and a word on what is there instead."""
    wanted = {"fastrnn": __version__, "library": library_version}
    why = ""
    for folder, libraries in reversed(_folders):
        for facts in libraries:
            if (facts["cell"], facts["dtype"], facts["isa"]) != (cell, dtype, isa):
                continue
            path = folder / facts["file"]
            other = {name: facts[name] for name in wanted if facts[name] != wanted[name]}
            if other:
                made_for = ", ".join(f"{name} {value}" for name, value in other.items())
                why = f"{path} was compiled for {made_for}"
            elif not path.is_file() or sha256(path) != facts["sha256"]:
                why = f"{path} is not the file that was written"
            else:
                return path, ""
    return None, why


def write(folder: Path, library: Path, facts: dict[str, Any]) -> Path:
    """Puts a library into a folder, which is made if need be, and into its index."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = index(folder) if (folder / INDEX).exists() else []
    cell, dtype, isa = facts["cell"], facts["dtype"], facts["isa"]
    title, _, digest = cell.rpartition("@")
    plain = re.sub(r"\W+", "_", title, flags=re.ASCII)
    target = folder / f"{plain}-{digest}-{dtype}-{isa}.so"
    _replace(target, lambda new: shutil.copyfile(library, new))
    listed = [known for known in listed if known["file"] != target.name]
    listed.append({**facts, "fastrnn": __version__, "file": target.name, "sha256": sha256(target)})
    text = json.dumps({"cells": listed}, indent=1) + "\n"
    _replace(folder / INDEX, lambda new: new.write_text(text))
    return target


def index(folder: Path) -> list[dict[str, Any]]:
    """What the index of a folder lists; ValueError if it is none."""
    path = folder / INDEX
    try:
        listed = json.loads(path.read_text())["cells"]
        for facts in listed:
            missing = {"cell", "dtype", "isa", "fastrnn", "library", "file", "sha256"} - set(facts)
            if missing or Path(facts["file"]).name != facts["file"]:
                raise ValueError(f"an entry without {', '.join(sorted(missing)) or 'a plain file'}")
    except FileNotFoundError:
        raise ValueError(
            f"{folder} must hold an {INDEX}, as `python -m fastrnn build` writes it"
        ) from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is not what `python -m fastrnn build` writes: {error}") from None
    return listed


def _replace(target: Path, write) -> None:
    new = target.with_name(f".{target.name}.{os.getpid()}")
    write(new)
    os.replace(new, target)

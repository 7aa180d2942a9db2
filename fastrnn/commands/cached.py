"""`python -m fastrnn cache`: the cells that were compiled here."""

from __future__ import annotations

import argparse

from ..compiled.cache import Cache, Entry
from ..compiled.folder import CacheError, chosen

SHOWN = 8  # in a summary


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clear", action="store_true", help="remove them, and what failed")
    parser.add_argument(
        "--older-than", type=days, metavar="DAYS", help="with --clear: those alone that were made"
        " more than so many days ago",
    )  # fmt: skip


def days(text: str) -> float:
    """A number of days, as an option."""
    value = float(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"must be a number of days, got {text}")
    return value


def run(options: argparse.Namespace) -> str:
    """What to print. Raises CacheError where the folder cannot be used."""
    if options.older_than is not None and not options.clear:
        raise ValueError("--older-than needs --clear")
    cache = existing()
    if cache is None:
        return f"no compiled cells: {chosen()} does not exist"
    if options.clear:
        count, size = cache.clear(options.older_than or 0)
        return f"removed {count} compiled cells, {size / 1e6:.1f} MB, from {cache.path}"
    found = cache.entries()
    size = sum(entry.facts.get("size", 0) for entry in found)
    head = f"{len(found)} compiled cells, {size / 1e6:.1f} MB, in {cache.path}"
    rows = [(name, facts) for name, facts in map(_described, found)]
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join([head, *(f"  {name:<{width}}  {facts}" for name, facts in rows)])


def existing() -> Cache | None:
    """The user's cache; None where nothing was ever compiled."""
    path = chosen()
    return Cache(path) if path.exists() else None


def summary() -> list[tuple[str, str]]:
    """Lines for the report: how many there are, and the newest."""
    try:
        cache = existing()
        found = cache.entries() if cache else []
    except (CacheError, OSError) as error:
        return [("compiled cells", f"no: {error}")]
    where = cache.path if cache else chosen()
    lines = [("compiled cells", f"{len(found) or 'none'} in {where}")]
    return lines + [(f"cell {name}", facts) for name, facts in map(_described, found[-SHOWN:])]


def _described(entry: Entry) -> tuple[str, str]:
    facts = entry.facts
    if not {"cell", "dtype", "isa", "size", "date"} <= facts.keys():
        return f"? {entry.folder.name[:16]}", "not readable: is compiled again when needed"
    size = f"{facts['size'] / 1000:.0f} kB"
    return facts["cell"], f"{facts['dtype']}, {facts['isa']}, {size}, {facts['date']}"

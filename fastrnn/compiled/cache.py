"""The user's folder of compiled cells. What is loaded from it is code: it must be ours alone.

<key>/              an entry: made elsewhere in the folder and moved here whole
    cell.so         what is loaded; beside it the sources it was compiled from
    entry.json      what it is, and the sha256 of cell.so
<key>.lock          held by the process that makes the entry; freed with it, however it ends
<key>.work-…        where it is made; without a holder of the lock it is a leftover, and goes
<key>.failed/       sources and compiler output of what did not compile
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .folder import prepared, reason, untrusted

LIBRARY, FACTS = "cell.so", "entry.json"
KEY = re.compile(r"[0-9a-f]{64}")


def key(ingredients: Any) -> str:
    """sha256 of whatever decides what an entry is: anything that JSON can write."""
    return hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()


def sha256(path: Path) -> str:
    """Of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Entry:
    """One compiled cell. facts: cell, dtype, isa, compiler, date, seconds, size, sha256."""

    folder: Path
    facts: dict[str, Any]

    @property
    def library(self) -> Path:
        return self.folder / LIBRARY

    def complaint(self) -> str | None:
        """Why its library must not be loaded, or None."""
        for path, kind in ((self.folder, stat.S_ISDIR), (self.library, stat.S_ISREG)):
            try:
                found = path.lstat()
            except OSError as error:
                return f"{path.name} cannot be read: {reason(error)}"
            if not kind(found.st_mode):
                return f"{path.name} is not what it should be"
            if complaint := untrusted(found):
                return f"{path.name} {complaint}"
        with suppress(OSError):
            if sha256(self.library) == self.facts.get("sha256"):
                return None
        return f"{self.library.name} is not the file that was written"


class Cache:
    """Entries below one folder, by key."""

    def __init__(self, path: Path):
        self.path = prepared(path)

    def find(self, key: str) -> Entry | None:
        """The entry, which may still have a complaint."""
        return _entry(self.path / key)

    @contextmanager
    def held(self, key: str, timeout: float = -1) -> Iterator[None]:
        """Holds a key: one process at a time makes an entry. filelock.Timeout after `timeout`."""
        from filelock import FileLock  # torch requires it

        with FileLock(self.path / f"{key}.lock", timeout=timeout, mode=0o600):
            yield

    @contextmanager
    def work(self, key: str) -> Iterator[Path]:
        """A folder to make an entry in; gone afterwards unless it was kept. Hold the key."""
        self._sweep(key)
        path = Path(tempfile.mkdtemp(prefix=f"{key}.work-", dir=self.path))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def keep(self, key: str, work: Path, facts: dict[str, Any]) -> Entry:
        """Makes a work folder with a cell.so in it the entry, in one move. Hold the key."""
        library = work / LIBRARY
        library.chmod(0o600)  # a umask may have let others write
        facts = {
            **facts,
            "date": time.strftime("%Y-%m-%d %H:%M:%S"),
            "size": library.stat().st_size,
            "sha256": sha256(library),
        }
        (work / FACTS).write_text(json.dumps(facts, indent=1) + "\n")
        target = self.path / key
        self.drop(key)
        os.rename(work, target)
        return Entry(target, facts)

    def drop(self, key: str) -> None:
        """Removes an entry: out of sight in one move, then file by file. Hold the key."""
        self._remove(self.path / key, key)

    def failed(self, key: str, work: Path) -> Path:
        """Keeps a work folder for whoever wants to know why it failed. Hold the key."""
        target = self.path / f"{key}.failed"
        self._remove(target, key)
        os.rename(work, target)
        return target

    def entries(self) -> list[Entry]:
        """All entries, the oldest first."""
        found = [_entry(path) for path in self.path.iterdir() if KEY.fullmatch(path.name)]
        return sorted(filter(None, found), key=lambda entry: entry.facts.get("date", ""))

    def clear(self, older_than: float = 0) -> tuple[int, int]:
        """Removes what was made more than that many days ago, and is in no process's hands.

        Returns how many entries went, and their bytes.
        """
        before, count, size = time.time() - 86400 * older_than, 0, 0
        for key in sorted({path.name[:64] for path in self.path.iterdir()}):
            if not KEY.fullmatch(key):
                continue
            paths = [p for p in self.path.glob(f"{key}*") if p.suffix != ".lock"]
            if any(_modified(path) > before for path in paths):
                continue
            with self._held_now(key) as mine:
                if not mine:
                    continue
                entry = self.find(key)
                count, size = count + bool(entry), size + (_size(entry) if entry else 0)
                for path in paths:
                    self._remove(path, key)
                (self.path / f"{key}.lock").unlink(missing_ok=True)
        return count, size

    def _sweep(self, key: str) -> None:
        """Removes what killed processes left: work folders that nobody holds the key of."""
        for path in self.path.glob("*.work-*"):
            owner = path.name[:64]
            if owner == key:
                shutil.rmtree(path, ignore_errors=True)
            elif KEY.fullmatch(owner):
                with self._held_now(owner) as mine:
                    if mine:
                        shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def _held_now(self, key: str) -> Iterator[bool]:
        from filelock import Timeout

        try:
            with self.held(key, timeout=0):
                yield True
        except Timeout:
            yield False

    def _remove(self, path: Path, key: str) -> None:
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.exists():
            hidden = Path(tempfile.mkdtemp(prefix=f"{key}.work-", dir=self.path))
            os.rename(path, hidden / path.name)
            shutil.rmtree(hidden, ignore_errors=True)


def _entry(folder: Path) -> Entry | None:
    try:
        facts = json.loads((folder / FACTS).read_text())
    except FileNotFoundError:
        return Entry(folder, {}) if os.path.lexists(folder) else None
    except (OSError, ValueError):
        facts = {}
    return Entry(folder, facts if isinstance(facts, dict) else {})


def _modified(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def _size(entry: Entry) -> int:
    with suppress(OSError):
        return entry.library.stat().st_size
    return 0

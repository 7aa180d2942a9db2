"""The folder that compiled cells are kept in: which it is, and whether it can be trusted."""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class CacheError(RuntimeError):
    """The folder cannot be used, or not be trusted."""


def current() -> Path:
    """The user's folder; with a warning a temporary one where that cannot be used."""
    try:
        return prepared(chosen())
    except CacheError as error:
        return temporary(str(error))


def chosen() -> Path:
    """$FASTRNN_CACHE, else fastrnn in the user's cache folder."""
    if ours := os.environ.get("FASTRNN_CACHE"):
        return Path(os.path.abspath(os.path.expanduser(ours)))
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):  # others are invalid, says the XDG specification
        return Path(base, "fastrnn")
    try:
        return Path.home() / ".cache" / "fastrnn"
    except RuntimeError:
        raise CacheError("the user has no home folder: set FASTRNN_CACHE to one") from None


def prepared(path: Path) -> Path:
    """Makes the folder if need be; CacheError unless it is ours alone and can be written.

    The answer has no symbolic links in it: what a link says later does not count.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        real = path.resolve(strict=True)
        found = real.stat()
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise CacheError(f"{path} cannot be made: {reason(error)}") from None
    if not stat.S_ISDIR(found.st_mode):
        raise CacheError(f"{path} is not a folder")
    if complaint := untrusted(found):
        raise CacheError(f"{path} {complaint}")
    for parent in real.parents:
        mode = parent.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise CacheError(f"{path} lies in {parent}, where everybody may rename folders")
    if not os.access(real, os.R_OK | os.W_OK | os.X_OK):
        raise CacheError(f"{path} cannot be written")
    return real


def untrusted(found: os.stat_result) -> str | None:
    """Why a file or folder may hold somebody else's code, or None."""
    if found.st_uid != os.geteuid():
        return f"belongs to user {found.st_uid}, not to user {os.geteuid()}"
    if found.st_mode & OTHERS_WRITE:
        return f"can be written by others (mode {stat.S_IMODE(found.st_mode):o})"
    return None


_temporary: dict[int, Path] = {}  # by process: a forked child makes its own


def temporary(why: str) -> Path:
    """A fresh folder of this process's own, gone with it. Says so once."""
    path = _temporary.get(os.getpid())
    if path is None:
        try:
            path = Path(tempfile.mkdtemp(prefix="fastrnn-")).resolve()
        except OSError as error:
            raise CacheError(f"{why}; nor can a temporary folder: {reason(error)}") from None
        _temporary[os.getpid()] = path
        atexit.register(_forget, os.getpid(), path)
        warnings.warn(
            f"fastrnn keeps no compiled cells for later: {why}. This process has a temporary "
            "folder for them; the environment variable FASTRNN_CACHE names another",
            stacklevel=2,
        )
    return path


def _forget(process: int, path: Path) -> None:
    if os.getpid() == process:
        shutil.rmtree(path, ignore_errors=True)


def reason(error: Exception) -> str:
    """What went wrong, without the number and the path."""
    return getattr(error, "strerror", None) or str(error)

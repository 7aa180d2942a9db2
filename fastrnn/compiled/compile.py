"""Sources become a shared library: taken from the cache, or compiled into it."""

from __future__ import annotations

import errno
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ..version import __version__
from . import cache, folder, toolchain
from .cache import Cache, Entry
from .toolchain import Compiler

PATIENCE = 1800  # seconds for one compile: a hundred times what it takes
SILENCE = 1.0  # seconds before it is worth a word
LINES = 12  # of a compiler's output in an error
FULL = re.compile(r"No space left on device|Disk quota exceeded|File (too large|size limit)")


class CompileError(RuntimeError):
    """The compiler did not like the sources."""


@dataclass(frozen=True)
class Program:
    """What a library is made of.

    title: in messages, as "the cell 'light_gru' (float32, avx2)"
    sources: file name -> text; each *.cpp is compiled, at the same time as the others
    flags: for compiling; `headers` is a folder to look for more in, `headers_digest` says what is
        in it
    facts: what else decides what it is, as the cell's name; for people who list the cache
    """

    title: str
    sources: Mapping[str, str]
    flags: Sequence[str] = ()
    headers: Path | None = None
    headers_digest: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def key(self, compiler: Compiler) -> str:
        """Where it is in the cache: another one for whatever could make another library."""
        first, *more = compiler.command
        return cache.key(
            {
                "sources": dict(self.sources),
                "flags": list(self.flags),
                "headers": self.headers_digest,
                "compiler": [os.path.realpath(first), *more, compiler.version],
                "machine": [platform.machine(), *platform.libc_ver()],
                "facts": dict(self.facts),
                "fastrnn": __version__,
            }
        )


def library(program: Program, compiler: Compiler) -> Path:
    """The compiled program, from the cache if it is there.

    Raises CompileError, `toolchain.NoCompiler` or `folder.CacheError`.
    """
    try:
        return _library(Cache(folder.current()), program, compiler)
    except OSError as error:  # a full disk, say, or one that became read-only
        why = f"{error.filename or 'the cache folder'} cannot be written: {folder.reason(error)}"
    try:
        return _library(Cache(folder.temporary(why)), program, compiler)
    except OSError as error:
        raise folder.CacheError(f"{why}; nor can {folder.temporary(why)}: {error}") from None


def _library(cache: Cache, program: Program, compiler: Compiler) -> Path:
    key = program.key(compiler)
    found = cache.find(key)
    if found and not found.complaint():
        return found.library
    with _Notice(f"waiting for another process that compiles {program.title}") as notice:
        with cache.held(key):
            found = cache.find(key)  # another process may have made it meanwhile
            complaint = found.complaint() if found else None
            if found and not complaint:
                return found.library
            if complaint:
                _say(f"{program.title} is compiled again: in {found.folder}, {complaint}")
            notice.now(f"compiling {program.title}")
            return _compiled(cache, key, program, compiler).library


def _compiled(cache: Cache, key: str, program: Program, compiler: Compiler) -> Entry:
    toolchain.check(compiler)
    start = time.perf_counter()
    with cache.work(key) as work:
        for name, text in program.sources.items():
            (work / name).write_text(text)
        try:
            _build(work, program, compiler)
        except CompileError as error:
            shutil.rmtree(work / "tmp", ignore_errors=True)
            where = cache.failed(key, work)
            raise CompileError(f"{error}\n  sources and compiler.log are in {where}") from None
        seconds = round(time.perf_counter() - start, 2)
        facts = {**program.facts, "compiler": compiler.title, "seconds": seconds}
        return cache.keep(key, work, {**facts, "fastrnn": __version__})


def _build(work: Path, program: Program, compiler: Compiler) -> None:
    """Compiles all *.cpp of a folder into its cell.so. Commands name files only, no folders."""
    (work / "tmp").mkdir()  # the compiler's own, so that nothing of it stays anywhere else
    base = [*compiler.command, *program.flags, "-I."]
    if program.headers:
        base.append(f"-I{program.headers}")
    units = [name for name in program.sources if name.endswith(".cpp")]
    objects = [f"{Path(name).stem}.o" for name in units]
    _run([[*base, "-c", unit, "-o", out] for unit, out in zip(units, objects)], work, program)
    # -Wl,-s leaves out symbols that nobody looks up
    link = [*compiler.command, "-shared", "-Wl,-s", "-o", cache.LIBRARY, *objects]
    _run([link], work, program)
    shutil.rmtree(work / "tmp", ignore_errors=True)
    for name in objects:
        (work / name).unlink()


def _run(commands: Sequence[Sequence[str]], work: Path, program: Program) -> None:
    """Runs all at the same time; CompileError if one of them fails. None outlives this call."""
    log = work / "compiler.log"
    running: list[subprocess.Popen] = []
    until = time.monotonic() + PATIENCE
    try:
        with log.open("a") as output:
            for command in commands:
                output.write(f"$ {shlex.join(command)}\n")
            output.flush()
            for command in commands:
                running.append(_start(command, work, output))
        for process in running:
            process.wait(max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise CompileError(f"compiling {program.title} took more than {PATIENCE} s") from None
    finally:
        for process in running:
            _end(process)
    for command, process in zip(commands, running):
        if process.returncode:
            _fail(program, command, process.returncode, log)


def _start(command: Sequence[str], work: Path, output: IO) -> subprocess.Popen:
    """In a session of its own: Ctrl-C comes to this process, which decides what ends."""
    try:
        return subprocess.Popen(
            command, cwd=work, env=toolchain.environment(work / "tmp"), stdin=subprocess.DEVNULL,
            stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise CompileError(f"{command[0]} cannot be run: {error.strerror}") from None


def _end(process: subprocess.Popen) -> None:
    """Kills it and all that it started, if it still runs."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _fail(program: Program, command: Sequence[str], status: int, log: Path) -> None:
    text = log.read_text(errors="replace")
    if full := FULL.search(text):
        raise OSError(errno.ENOSPC, full[0], str(log.parent.parent))
    if -status in (signal.SIGXFSZ, signal.SIGXCPU):
        raise OSError(errno.EFBIG, signal.strsignal(-status), str(log.parent.parent))
    lines = [line for line in text.splitlines() if not line.startswith("$ ")]
    first = next((k for k, line in enumerate(lines) if re.search(r"\berror\b", line)), 0)
    said = "".join(f"\n  {line}" for line in lines[first : first + LINES])
    how = f"was killed: {signal.strsignal(-status)}" if status < 0 else f"exit status {status}"
    raise CompileError(f"compiling {program.title} failed ({command[0]}: {how}){said}")


class _Notice:
    """Says on stderr what is being done, if it takes longer than a moment, and how long it took."""

    def __init__(self, doing: str):
        self._start = time.perf_counter()
        self._said = False
        self.now(doing)

    def now(self, doing: str) -> None:
        if hasattr(self, "_timer"):
            self._timer.cancel()
        self._doing = doing
        self._timer = threading.Timer(SILENCE, self._speak)
        self._timer.daemon = True
        self._timer.start()

    def _speak(self) -> None:
        self._said = True
        _say(f"{self._doing} ...")

    def __enter__(self) -> _Notice:
        return self

    def __exit__(self, kind: type | None, *rest) -> None:
        self._timer.cancel()
        if self._said and kind is None:
            _say(f"{self._doing} took {time.perf_counter() - self._start:.1f} s")


def _say(text: str) -> None:
    if sys.stderr:  # there may be none
        print(f"fastrnn: {text}", file=sys.stderr, flush=True)

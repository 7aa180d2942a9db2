"""Compilers for the tests of the cache: the real one behind a script that logs, waits or fails."""

import contextlib
import ctypes
import multiprocessing
import os
import shlex
import shutil
import time
from pathlib import Path

from fastrnn.compiled import compile, toolchain
from fastrnn.compiled.compile import Program

REAL = shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")
SCRIPT = """#!/bin/sh
# $0.log: a line for each compile; $0.do: what to do first
case " $* " in *" -c "*)
  echo "$$" >> {script}.log
  [ -e {script}.do ] && . {script}.do
esac
exec {real} "$@"
"""


class FakeCompiler:
    """A script that CXX names. `do` is shell that it runs before it compiles."""

    def __init__(self, folder: Path, monkeypatch):
        self.script = folder / "fake-g++"
        script = shlex.quote(str(self.script))
        self.script.write_text(SCRIPT.format(script=script, real=shlex.quote(REAL)))
        self.script.chmod(0o755)
        monkeypatch.setenv("CXX", str(self.script))

    def do(self, shell: str) -> None:
        Path(f"{self.script}.do").write_text(f"{shell}\n")

    def started(self) -> list[int]:
        """The processes that have compiled or do."""
        with contextlib.suppress(FileNotFoundError):
            return [int(line) for line in Path(f"{self.script}.log").read_text().split()]
        return []


def answering(answer: int = 42, **more) -> Program:
    """A library with one function, which returns that number."""
    text = f'extern "C" int answer() {{ return {answer}; }}\n'
    return Program("the test's library", {"answer.cpp": text}, ("-fPIC", "-O0"), **more)


def names(place: Path, *kinds: str) -> list[str]:
    """What lies in the folder but locks; kinds: endings that are looked for alone."""
    found = [path.name for path in place.iterdir() if path.suffix != ".lock"]
    return [name for name in found if any(kind in name for kind in kinds)] if kinds else found


def ask(library: Path) -> int:
    return ctypes.CDLL(str(library)).answer()


def make(program: Program | None = None) -> Path:
    return compile.library(program or answering(), toolchain.find())


def forked(function, *arguments) -> multiprocessing.Process:
    """Runs it in a process of its own, which is quicker to fork than to start: no torch to load."""
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    process.start()
    return process


def until(condition, seconds: float = 60) -> None:
    """Waits for it; fails the test if it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def alive(process: int) -> bool:
    """A zombie is not: it waits for whoever started it."""
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False

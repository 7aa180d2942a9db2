"""The C++ compiler of the user's machine."""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .flags import FLAGS

NAMES = ("g++", "c++", "clang++")
# What would make a compiler do another thing than its command says, or write elsewhere.
FOREIGN = (
    *("CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "OBJC_INCLUDE_PATH", "CXXFLAGS", "LDFLAGS"),
    *("DEPENDENCIES_OUTPUT", "SUNPRO_DEPENDENCIES", "GCC_COMPARE_DEBUG", "GCC_EXEC_PREFIX"),
    *("LD_RUN_PATH", "LD_PRELOAD", "CCC_OVERRIDE_OPTIONS", "MAKEFLAGS", "LANGUAGE"),
)
TINY = "template <auto v> constexpr int f() { if constexpr (v > 0) return v; return 0; }\n"
PATIENCE = 60  # seconds, for what takes a fraction of one


class NoCompiler(RuntimeError):
    """There is no compiler here that a cell could be compiled with."""


@dataclass(frozen=True)
class Compiler:
    """command: as it is run, its first word an absolute path; version: what --version says."""

    command: tuple[str, ...]
    version: str

    @property
    def title(self) -> str:
        """In a word or two: the first line of what it says of itself."""
        return self.version.partition("\n")[0] or self.command[0]


def environment(temporary: Path | None = None) -> dict[str, str]:
    """What a compiler is run in: the user's environment but for what would change its work."""
    kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    if temporary:
        kept["TMPDIR"] = str(temporary)
    return {**kept, "LC_ALL": "C"}


def find() -> Compiler:
    """$CXX, else the first of g++, c++ and clang++; NoCompiler says what was looked for."""
    return _described(_command(os.environ.get("CXX", ""), os.environ.get("PATH", "")))


def check(compiler: Compiler) -> None:
    """NoCompiler where it cannot compile C++17; looked at once."""
    if complaint := _complaint(compiler.command):
        raise NoCompiler(f"{shlex.join(compiler.command)} cannot compile C++17: {complaint}")


@functools.cache
def _command(cxx: str, path: str) -> tuple[str, ...]:
    """path: PATH, which the answer depends on."""
    if cxx.strip():
        words = shlex.split(cxx)  # it may carry a launcher: "ccache g++"
        if found := shutil.which(words[0], path=path):
            return (os.path.abspath(found), *words[1:])
        raise NoCompiler(f"CXX={cxx} is set, but {words[0]!r} cannot be run")
    for name in NAMES:
        if found := shutil.which(name, path=path):
            return (os.path.abspath(found),)
    raise NoCompiler(f"no C++ compiler found (looked for $CXX, {', '.join(NAMES)}): install g++")


@functools.cache
def _described(command: tuple[str, ...]) -> Compiler:
    done = _run([*command, "--version"])
    if done.returncode:
        raise NoCompiler(f"{shlex.join(command)} --version failed: {_first_line(done)}")
    return Compiler(command, done.stdout.strip())


@functools.cache
def _complaint(command: tuple[str, ...]) -> str | None:
    done = _run([*command, *FLAGS, "-x", "c++", "-fsyntax-only", "-"], TINY)
    return None if done.returncode == 0 else _first_line(done)


def _run(command: list[str], text: str = "") -> subprocess.CompletedProcess:
    try:
        return subprocess.run(
            command, input=text, text=True, errors="replace", stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env=environment(), timeout=PATIENCE,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoCompiler(f"{shlex.join(command)} cannot be run: {error}") from None


def _first_line(done: subprocess.CompletedProcess) -> str:
    line = done.stdout.strip().partition("\n")[0]
    return line or f"exit status {done.returncode}"

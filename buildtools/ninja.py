"""Writes a build.ninja for a list of compile steps and one link, and runs it."""

import fcntl
import os
import shlex
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from buildtools.toolchain import BuildError, find_ninja

FAILED = "fastrnn: compiling the native library failed: see the errors above"


@dataclass(frozen=True)
class Compile:
    """One object file: the whole command but for source, object and header dependencies."""

    source: Path
    output: Path
    command: list[str]


@dataclass(frozen=True)
class Link:
    """The shared library: what stands before and after the list of objects."""

    output: Path
    command: list[str]
    libraries: list[str]


def write(path: Path, steps: list[Compile], link: Link) -> None:
    """build.ninja: each step with its own command, then all objects linked."""
    lines = [
        "ninja_required_version = 1.5",
        f"builddir = {path.parent}",
        # gcc, clang and nvcc all understand -MD -MF; ninja then knows every header of an object
        "rule compile",
        "  command = $tool -MD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "  description = compile $out",
        "rule link",
        "  command = $tool -o $out $in $libraries",
        "  description = link $out",
    ]
    for step in steps:
        lines.append(f"build {step.output}: compile {step.source}")
        lines.append(f"  tool = {_command(step.command)}")
    objects = " ".join(str(step.output) for step in steps)
    lines.append(f"build {link.output}: link {objects}")
    lines.append(f"  tool = {_command(link.command)}")
    lines.append(f"  libraries = {_command(link.libraries)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, ""]))


def run(path: Path, root: Path) -> None:
    """Brings everything in build.ninja up to date, on MAX_JOBS cores (default: all of them)."""
    command = [find_ninja(), "-f", str(path), "-j", str(max_jobs())]
    if subprocess.run(command, cwd=root).returncode:
        raise BuildError(FAILED)


def run_without_ninja(steps: list[Compile], link: Link, root: Path) -> None:
    """Compiles everything anew, on MAX_JOBS cores: --no-build-isolation where ninja is missing."""

    def compile_one(step: Compile) -> int:
        (root / step.output).parent.mkdir(parents=True, exist_ok=True)
        command = [*step.command, "-c", str(step.source), "-o", str(step.output)]
        return subprocess.run(command, cwd=root).returncode

    with ThreadPoolExecutor(max_jobs()) as pool:
        failed = any(list(pool.map(compile_one, steps)))
    objects = [str(step.output) for step in steps]
    command = [*link.command, "-o", str(link.output), *objects, *link.libraries]
    if failed or subprocess.run(command, cwd=root).returncode:
        raise BuildError(FAILED)


def max_jobs() -> int:
    """MAX_JOBS, as torch's own builds read it; else the number of usable cores."""
    value = os.environ.get("MAX_JOBS")
    if not value:
        return len(os.sched_getaffinity(0))
    if not value.isdecimal() or int(value) < 1:
        raise BuildError(f"fastrnn: MAX_JOBS must be a positive number, got {value!r}")
    return int(value)


@contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Holds a build directory: two builds at once would spoil ninja's log."""
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / ".lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _command(words: list[str]) -> str:
    return shlex.join(words).replace("$", "$$")

"""Finds what a build needs: the installed torch, a C++ compiler, ninja.

torch is never imported: the stable ABI needs only its `include/` and `lib/` directories.
"""

import os
import re
import runpy
import shlex
import shutil
import site
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

MIN_TORCH = (2, 11)
TORCH_REQUIREMENT = "torch>=2.11"
TESTED_BELOW_PYTHON = (3, 15)  # the torch of constraints.txt has wheels up to the one before

NO_COMPILER = """\
fastrnn: no C++ compiler found (looked for $CXX, g++, clang++, c++).
  Install one:      apt install g++   |   dnf install gcc-c++   |   conda install gxx
  or go without:    FASTRNN_NATIVE=0 pip install .      (Triton and reference backends only)"""


class BuildError(SystemExit):
    """Ends the build. A SystemExit, so that pip shows the message and no traceback."""


@dataclass(frozen=True)
class Torch:
    """An installed torch, as far as a build cares."""

    root: Path
    version: tuple[int, int]
    cuda: str | None  # CUDA version it was built with, as in "13.0"


def native_wanted() -> bool:
    """False for FASTRNN_NATIVE=0, which asks for a pure-Python install."""
    value = os.environ.get("FASTRNN_NATIVE", "1")
    if value not in ("0", "1"):
        raise BuildError(f"fastrnn: FASTRNN_NATIVE must be 0 or 1, got {value!r}")
    return value == "1"


def site_directories() -> list[str]:
    """sys.path, then the site-packages of the environment that build isolation took out of it."""
    outer = site.getsitepackages()
    # as site.py has it: a virtual environment sees the user's packages only with the system's
    if sys.base_prefix in site.PREFIXES:
        outer.append(site.getusersitepackages())
    return [*sys.path, *outer]


def find_torch() -> Torch | None:
    """The newest-enough torch that is installed, also one hidden by build isolation; else None."""
    for directory in site_directories():
        spec = PathFinder.find_spec("torch", [directory])
        if spec is None or not spec.submodule_search_locations:
            continue
        root = Path(next(iter(spec.submodule_search_locations)))
        if not (root / "version.py").exists():
            continue
        facts = runpy.run_path(str(root / "version.py"))
        major, minor = re.match(r"(\d+)\.(\d+)", facts["__version__"]).groups()
        if (int(major), int(minor)) >= MIN_TORCH:
            return Torch(root, (int(major), int(minor)), facts["cuda"])
    return None


def torch_requirement(root: Path) -> str:
    """What to ask pip for where there is no torch: the tested version, by `constraints.txt`.

    pip does not apply `-c constraints.txt` to build requirements: it would fetch the newest torch
    for the build and the constrained one for use, gigabytes each.
    """
    pinned = re.search(r"^torch==\S+", (root / "constraints.txt").read_text(), re.M)
    if pinned and sys.version_info < TESTED_BELOW_PYTHON:
        return pinned[0]
    return TORCH_REQUIREMENT


def find_compiler() -> list[str]:
    """The C++ compiler as a command, $CXX first (it may carry a launcher: "ccache g++")."""
    if cxx := os.environ.get("CXX"):
        command = shlex.split(cxx)
        if shutil.which(command[0]):
            return command
        raise BuildError(f"fastrnn: CXX={cxx} is set, but {command[0]!r} cannot be run")
    for name in ("g++", "clang++", "c++"):
        if path := shutil.which(name):
            return [path]
    raise BuildError(NO_COMPILER)


def compiler_accepts(compiler: list[str], flags: list[str]) -> bool:
    """Whether an empty program compiles with these flags."""
    command = [*compiler, *flags, "-x", "c++", "-fsyntax-only", "-"]
    return subprocess.run(command, input=b"", capture_output=True).returncode == 0


def find_ninja() -> str | None:
    """A ninja that runs. (The script of a `ninja` package that isolation hides does not.)"""
    candidates = [shutil.which("ninja"), os.path.join(sysconfig.get_path("scripts"), "ninja")]
    for path in filter(None, candidates):
        try:
            if subprocess.run([path, "--version"], capture_output=True).returncode == 0:
                return path
        except OSError:
            continue
    return None

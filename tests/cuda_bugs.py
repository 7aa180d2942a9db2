"""Copies of the CUDA sources with a bug in them, built for the simulator and run by a worker."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from buildtools import simulator

ROOT = Path(__file__).resolve().parents[1]
WORKER = Path(__file__).with_name("cuda_bug_worker.py")
NO_TABLE = """#include "cuda/kernels.h"
namespace fastrnn::cuda {{
extern const PassKernels {}[] = {{{{}}}};
}}
"""


class Bug(NamedTuple):
    file: str  # below csrc/cuda
    right: str  # what stands there
    wrong: str  # what stands there instead
    engine: str  # that shows it


def make_tree(tree: Path) -> None:
    """The sources, in bfloat16 and exact float32 alone."""
    for part in ("csrc", simulator.DEVICE):
        shutil.copytree(ROOT / part, tree / part)
    for kind in ("tf32", "float16", "float64"):
        for source in tree.glob(f"csrc/cuda/kernel/{kind}_*.cu"):
            source.write_text(NO_TABLE.format(source.stem))


def library_with(bug: Bug, tree: Path, copy: Path, build: Callable[[Path], Path]) -> Path:
    """A copy of a built tree with the bug, of which only what has changed is compiled."""
    shutil.copytree(tree, copy, dirs_exist_ok=True)
    source = copy / "csrc/cuda" / bug.file
    text = source.read_text()
    assert text.count(bug.right) == 1, f"{bug.file} has changed: {bug.right}"
    source.write_text(text.replace(bug.right, bug.wrong))
    return build(copy)


def run(library: Path, engine: str, *more: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(WORKER), str(library), engine, *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def assert_caught(result: subprocess.CompletedProcess) -> None:
    assert result.returncode == 1 and "caught" in result.stdout, result.stdout + result.stderr

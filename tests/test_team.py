"""The CPU engine's threads on pools that do not run all parts at once (csrc/cpu/threads/team.h)."""

import subprocess
from pathlib import Path

import pytest

from buildtools import toolchain

SOURCES = Path(__file__).parent / "cpu"
CSRC = Path(__file__).parents[1] / "csrc"


def built(source, folder, *more):
    """A program of these sources; skips where there is no compiler for it."""
    try:
        compiler = toolchain.find_compiler()
    except toolchain.BuildError as error:
        pytest.skip(str(error))
    flags = ["-std=c++17", "-O1", "-pthread", *more]
    if not toolchain.compiler_accepts(compiler, flags):
        pytest.skip(f"the compiler does not take {' '.join(more)}")
    program = folder / source.stem
    subprocess.run(
        [*compiler, *flags, f"-I{CSRC}", str(source), "-o", str(program)], check=True, timeout=120
    )
    return program


@pytest.mark.parametrize("sanitizer", [None, "thread"])
def test_teams_neither_wait_forever_nor_differ(tmp_path, sanitizer):
    more = [f"-fsanitize={sanitizer}"] if sanitizer else []
    program = built(SOURCES / "team.cpp", tmp_path, *more)
    run = subprocess.run([program], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("same") == 8


def test_busy_machines_and_containers_get_fewer_threads(tmp_path):
    """How much is lost to late threads, when calls go on one for it, and a cgroup's quota."""
    (tmp_path / "cgroup" / "cpu").mkdir(parents=True)
    program = built(SOURCES / "pace.cpp", tmp_path)
    run = subprocess.run([program, tmp_path / "cgroup"], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout + run.stderr

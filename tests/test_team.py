"""The CPU engine's threads on pools that do not run all parts at once (csrc/cpu/threads/team.h)."""

import subprocess
from pathlib import Path

import pytest

from buildtools import toolchain

SOURCE = Path(__file__).parent / "cpu" / "team.cpp"
CSRC = Path(__file__).parents[1] / "csrc"


@pytest.mark.parametrize("sanitizer", [None, "thread"])
def test_teams_neither_wait_forever_nor_differ(tmp_path, sanitizer):
    try:
        compiler = toolchain.find_compiler()
    except toolchain.BuildError as error:
        pytest.skip(str(error))
    flags = ["-std=c++17", "-O1", "-pthread", *([f"-fsanitize={sanitizer}"] if sanitizer else [])]
    if not toolchain.compiler_accepts(compiler, flags):
        pytest.skip(f"the compiler has no {sanitizer} sanitizer")
    program = tmp_path / "team"
    subprocess.run(
        [*compiler, *flags, f"-I{CSRC}", str(SOURCE), "-o", str(program)], check=True, timeout=120
    )
    run = subprocess.run([program], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("same") == 8

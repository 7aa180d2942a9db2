"""Bugs in what the CUDA kernels do with a cell's own parameters: the checks must notice each.

As tests/test_cuda_bugs.py, with the peephole cell.
"""

import os
import re
import shutil
from pathlib import Path

import cuda_bugs
import cuda_more_cells
import pytest
from cuda_bugs import Bug

pytestmark = pytest.mark.slow

STEP = "kernel/step.cuh"
SUM = "carry[S + k] = carry[S + k] + raw<A>(d_params[k]);"
BUGS = {
    "parameters_of_the_first_direction": Bug(
        STEP, "(int64_t(p.d) * P + k) * s.H + p.u", "int64_t(k) * s.H + p.u", "block"
    ),
    "parameters_of_the_neighbour": Bug(STEP, "ahead[k].at(i)", "ahead[k].at(0)", "block"),
    "masked_rows_added": Bug(
        STEP,
        "    if (left) carry[0] = carry[0] + sums[0];",
        "    if (left) carry[0] = carry[0] + sums[0];\n"
        "    for (int k = S; k < kCarried; ++k) carry[k] = carry[k] + sums[0];",
        "cluster",
    ),
    "one_row_of_two": Bug(
        STEP,
        "const int64_t line = (int64_t(d) * s.B + b) * P + k;",
        "const int64_t line = (int64_t(d) * s.B + b / 2 * 2) * P + k;",
        "grid",
    ),
    "starts_from_the_states_gradient": Bug(
        STEP,
        "for (int k = S; k < kCarried; ++k) carry[k] = A(0);",
        "for (int k = S; k < kCarried; ++k) carry[k] = carry[0];",
        "stepwise",
    ),
    "a_reset_forgets_the_sum": Bug(
        STEP, SUM, SUM.replace("= carry[S + k]", "= (p.reset ? A(0) : carry[S + k])"), "block"
    ),
    "the_last_step_alone": Bug(STEP, SUM, "carry[S + k] = raw<A>(d_params[k]);", "stepwise"),
}
USUAL = ("masked_rows_added", "parameters_of_the_first_direction")
ALL = os.environ.get("FASTRNN_TEST_ALL_KERNELS") == "1"


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """The sources and their build, for the peephole cell in bfloat16 and exact float32."""
    tree = tmp_path_factory.mktemp("right")
    cuda_bugs.make_tree(tree)
    header = tree / "tests/cuda" / cuda_more_cells.HEADER
    shutil.copy(cuda_bugs.ROOT / "tests/cuda" / header.name, header)
    text, others = re.subn(r"( \\\n)?  F\(cascade\d, [^)]+\)", "", header.read_text())
    assert others == 2
    header.write_text(text)
    cuda_more_cells.build(tree)
    return tree


@pytest.mark.parametrize("engine", ["block", "cluster", "grid", "stepwise"])
def test_the_right_kernels_pass(engine, tree):
    result = cuda_bugs.run(cuda_more_cells.build(tree), engine, "3", "more")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("bug", BUGS if ALL else USUAL)
def test_is_caught(bug, tree, tmp_path):
    library = cuda_bugs.library_with(BUGS[bug], tree, tmp_path, cuda_more_cells.build)
    cuda_bugs.assert_caught(cuda_bugs.run(library, BUGS[bug].engine, "1", "more"))

"""Bugs put into copies of the CUDA kernels: the checks of cuda_simulation.py must notice each.

The kinds of mistake that a GPU punishes at random: a barrier less, a buffer used once instead of in
turns, an index into a fragment, a count of bytes. Each copy is compiled for one cell and two dtypes
and run in a process of its own. A few with --slow; with FASTRNN_TEST_ALL_KERNELS=1 besides, all.
"""

import os
from pathlib import Path

import cuda_bugs
import pytest
from cuda_bugs import Bug

from buildtools import simulator

pytestmark = pytest.mark.slow  # half a minute of compiling a bug

# name -> (file below csrc/cuda, what stands there, what stands there instead, engine that shows it)
BUGS = {
    "no_barrier_after_the_product": (
        "kernel/resident.cuh",
        "partial_ + share_);\n    }\n    __syncthreads();",
        "partial_ + share_);\n    }",
        "block",
    ),
    "no_barrier_after_publishing": (
        "kernel/exchange.cuh",
        "void wait(uint32_t, int) { __syncthreads(); }",
        "void wait(uint32_t, int) {}",
        "block",
    ),
    "one_operand_slot": (
        "kernel/exchange.cuh",
        "return slots + (tick & 1) * operand_bytes(plan);",
        "return slots + (tick & 0) * operand_bytes(plan);",
        "cluster",
    ),
    "a_byte_count_too_small": (
        "kernel/exchange.cuh",
        "expect_bytes(counter, rows * row_bytes)",
        "expect_bytes(counter, (rows - 1) * row_bytes)",
        "cluster",
    ),
    "a_phase_of_the_other_parity": (
        "kernel/exchange.cuh",
        "wait_bytes(counter, tick >> 1 & 1)",
        "wait_bytes(counter, tick & 1)",
        "cluster",
    ),
    "cluster_starts_without_meeting": (
        "kernel/exchange.cuh",
        "    cluster_arrive();\n    cluster_wait();\n",
        "",
        "cluster",
    ),
    "ticks_not_compared": (
        "kernel/exchange.cuh",
        "while (uint32_t(found[i].a >> 32) != tag || uint32_t(found[i].b >> 32) != tag)",
        "while (uint32_t(found[i].a >> 32) == 0 || uint32_t(found[i].b >> 32) == 0)",
        "grid",
    ),
    "one_slot_of_words": (
        "kernel/exchange.cuh",
        "words + (int64_t(tick & 1) * Block::plan.rows + row) * row_words",
        "words + (int64_t(tick & 0) * Block::plan.rows + row) * row_words",
        "grid",
    ),
    "a_part_of_a_row_not_copied": (
        "kernel/exchange.cuh",
        "thread & (threads - 1)",
        "thread & 31",
        "grid",
    ),
    "operand_not_cleared": (
        "kernel/resident.cuh",
        "i < count; i += int(blockDim.x)) zeros[i] = 0;",
        "i < 0; i += int(blockDim.x)) zeros[i] = 0;",
        "grid",
    ),
    "halves_of_a_fragment_swapped": (
        "kernel/product.cuh",
        "at = (2 * t + r / 2) * kRun / 4;",
        "at = (2 * t + 1 - r / 2) * kRun / 4;",
        "block",
    ),
    "quarters_of_a_run_swapped": (
        "kernel/product.cuh",
        "{{{a.x, b.x, a.y, b.y}, {a.z, b.z, a.w, b.w}}}",
        "{{{a.x, b.x, a.z, b.z}, {a.y, b.y, a.w, b.w}}}",
        "block",
    ),
    "gates_not_transposed": (
        "host/runs.cpp",
        "{H * H, 1, H}",
        "{H * H, H, 1}",
        "block",
    ),
    "sums_of_another_batch_row": (
        "kernel/product.cuh",
        "out[i % 2 * p.sums_row + m * 16 + i / 2 * 8] = sum;",
        "out[i / 2 * p.sums_row + m * 16 + i % 2 * 8] = sum;",
        "block",
    ),
    "no_last_product_in_backward": (
        "kernel/resident.cuh",
        "const int64_t products = count + (Step::kBackward && count > 0);",
        "const int64_t products = count;",
        "block",
    ),
    "state_of_the_wrong_step": (
        "kernel/resident.cuh",
        "at.second + row",
        "at.offset + row",
        "block",
    ),
    "stores_of_the_first_unit_twice": (
        "kernel/resident.cuh",
        "if (a.active && owned(e, h)) Step::store(s_, place(a, e, b, at, h), stored[h]);",
        "if (a.active && owned(e, h)) Step::store(s_, place(a, e, b, at, h), stored[0]);",
        "block",
    ),
    "gradient_crosses_a_reset": (
        "kernel/step.cuh",
        "published[g] = p.reset ? A(0) : r;",
        "published[g] = r;",
        "stepwise",
    ),
    "sums_of_a_leaving_row_lost": (
        "kernel/step.cuh",
        "if (left) carry[0] = carry[0] + sums[0];",
        "",
        "stepwise",
    ),
}
USUAL = ("one_operand_slot", "ticks_not_compared", "no_barrier_after_the_product")
ALL = os.environ.get("FASTRNN_TEST_ALL_KERNELS") == "1"


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """The sources and their build, for the lstm in bfloat16 and exact float32."""
    tree = tmp_path_factory.mktemp("right")
    cuda_bugs.make_tree(tree)
    registry = tree / "csrc/cells/registry.h"
    lines = registry.read_text().splitlines(keepends=True)
    others = ("  F(rnn_tanh", "  F(rnn_relu", "  F(rnn_identity", "  F(gru")
    registry.write_text("".join(line for line in lines if not line.startswith(others)))
    simulator.build(tree)
    return tree


@pytest.mark.parametrize("engine", ["block", "cluster", "grid", "stepwise"])
def test_the_right_kernels_pass(engine, tree):
    result = cuda_bugs.run(simulator.build(tree), engine)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("bug", BUGS if ALL else USUAL)
def test_is_caught(bug, tree, tmp_path):
    bug = Bug(*BUGS[bug])
    library = cuda_bugs.library_with(bug, tree, tmp_path, simulator.build)
    cuda_bugs.assert_caught(cuda_bugs.run(library, bug.engine))

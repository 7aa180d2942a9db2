"""The simulator of tests/cuda/sim: its primitives are the GPU's, and it catches what it is for.

The C++ program in tests/cuda/ has checks of the primitives, and kernels that exchange values
between threads, blocks and clusters, each correct or with a bug of one's choice.
"""

import os
import subprocess
from pathlib import Path

import pytest
from helpers import slow_but

from buildtools import simulator
from buildtools.toolchain import BuildError, find_compiler

ROOT = Path(__file__).resolve().parents[1]
ORDERS = 10  # of the threads, in which a bug must show

CHECKS = [
    *("bf16", "half", "tf32", "mma_bf16", "mma_half", "mma_tf32"),
    *("warps", "clusters", "words", "grid", "limits", "refusals"),
]

# Each bug, with a part of what is said of it; "wrong value" is the test's own comparison.
BUGS = {
    "block": {
        "one_slot": "wrong value",
        "no_barrier": "wrong value",
        "early_exit": "ended",
        "divergent": "divergent barrier",
        "skipped_barrier": "ended",
        "past_end": "past the end of its shared memory",
        "half_shuffle": "deadlock: 48 threads in __shfl_xor_sync",
    },
    "cluster": {
        "one_slot": "wrong value",
        "no_start": "wrong value",
        "read_early": "wrong value",
        "store_late": "wrong value",
        "fragment": "wrong value",
        "early_exit": "ended while others of its cluster wrote its shared memory",
        "arrive_twice": "cluster_arrive twice",
        "wait_twice": "cluster_wait without cluster_arrive",
        "wrong_rank": "a rank outside the cluster",
        "rank_left_out": "wrong value",
    },
    "counting": {
        "one_slot": "wrong value",
        "no_start": "a counter that its block has not made",
        "fragment": "wrong value",
        "early_exit": "stores are on their way",
        "too_few_bytes": "stores are on their way",
        "too_many_bytes": "deadlock: 256 threads in wait_bytes",
        "wrong_parity": "twice in a phase",
    },
    "grid": {
        "one_slot": "a word that nobody publishes?",
        "no_barrier": "wrong value",
        "early_exit": "a word that nobody publishes?",
        "no_tag": "wrong value",
        "half_tag": "wrong value",
        "unpublished": "a word that nobody publishes?",
        "flag": "wrong value",
    },
}


def compile_program(directory: Path, *flags: str) -> Path:
    try:
        compiler = find_compiler()
    except BuildError as error:
        pytest.skip(str(error))
    program = directory / "simulator_cases"
    source = ROOT / "tests/cuda/simulator_cases.cpp"
    options = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", *simulator.SIMULATED]
    command = [*compiler, *options, *flags, str(source), "-o", str(program)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=300)
    return program


@pytest.fixture(scope="session")
def program(tmp_path_factory) -> Path:
    return compile_program(tmp_path_factory.mktemp("simulator"))


def run(program: Path, *arguments) -> list[str]:
    """The lines it printed: one for each order."""
    command = [program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.stdout.splitlines()


def test_every_check_and_bug_is_run(program):
    listed = {tuple(line.split()) for line in run(program, "list")}
    checks = {("check", name) for name in CHECKS}
    kernels = {(kernel, bug) for kernel, bugs in BUGS.items() for bug in ["none", *bugs]}
    assert listed == checks | kernels | {("grid", "plain_data")}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", CHECKS)
def test_primitive(program, name, seed):
    assert run(program, "check", name, seed) == ["ok"]


@pytest.mark.parametrize("kernel", BUGS)
def test_correct_kernel_passes_in_every_order(program, kernel):
    assert run(program, "kernel", kernel, "none", 0, 50) == ["ok"] * 50


@pytest.mark.parametrize(
    "kernel, bug, says",
    [(kernel, bug, says) for kernel, bugs in BUGS.items() for bug, says in bugs.items()],
)
def test_bug_is_caught(program, kernel, bug, says):
    lines = run(program, "kernel", kernel, bug, 0, ORDERS)
    assert len(lines) == ORDERS
    assert any(says in line for line in lines), lines


def test_an_order_can_be_repeated(program):
    arguments = ("kernel", "grid", "half_tag", 0, ORDERS)
    assert run(program, *arguments) == run(program, *arguments)


@pytest.fixture(scope="session")
def sanitized(tmp_path_factory) -> Path:
    """The program under ThreadSanitizer, to which the simulator tells what orders memory."""
    directory = tmp_path_factory.mktemp("simulator_tsan")
    try:
        program = compile_program(directory, "-g1", "-fsanitize=thread")
        subprocess.run([program, "list"], check=True, capture_output=True)
    except subprocess.CalledProcessError:
        pytest.skip("the compiler has no working ThreadSanitizer")
    return program


def races(program: Path, kernel: str, bug: str) -> list[str]:
    environment = {**os.environ, "TSAN_OPTIONS": "exitcode=66"}
    command = [program, "kernel", kernel, bug, "0", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    found = [line for line in done.stderr.splitlines() if line.startswith("SUMMARY")]
    assert done.returncode == (66 if found else 0), done.stderr
    return found


@pytest.mark.parametrize("kernel", slow_but(["grid"], BUGS))
def test_correct_kernel_has_no_race(sanitized, kernel):
    assert not races(sanitized, kernel, "none")


@pytest.mark.parametrize(
    "race",
    slow_but(
        [("grid", "plain_data")],
        [
            *(("block", bug) for bug in ["one_slot", "no_barrier"]),
            *(("cluster", bug) for bug in ["one_slot", "read_early", "store_late"]),
            *(("counting", bug) for bug in ["one_slot", "too_few_bytes"]),
            *(("grid", bug) for bug in ["no_barrier", "plain_data"]),
        ],
    ),
    ids="-".join,
)
def test_race_is_reported(sanitized, race):
    """Also one that no order of the threads shows: plain stores before a relaxed flag."""
    found = races(sanitized, *race)
    assert found and all("data race" in line for line in found)

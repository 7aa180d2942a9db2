"""Fixtures of the whole test run."""

import os
import sys
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:
    # Threads of one worker that wait must not take the cores of another. Read when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest
import torch

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)  # of each worker; tests of threads say how many they want

if os.environ.get("FASTRNN_TEST_DEVICE", "cpu") == "cpu":
    # Without a GPU the Triton kernels run in Triton's interpreter, which is chosen on its import.
    os.environ.setdefault("TRITON_INTERPRET", "1")
# Tests of threads run on as many as they ask for, beside other workers too.
os.environ.setdefault("FASTRNN_STEADY_THREADS", "1")
# Cells that tests compile are kept with the other objects of this tree's builds.
os.environ.setdefault("FASTRNN_CACHE", str(Path(__file__).resolve().parents[1] / "build" / "cells"))


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too")


def pytest_collection_modifyitems(config, items):
    """A test marked slow shows among the skipped ones, with what runs it."""
    if not config.getoption("--slow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))


@pytest.fixture(autouse=True)
def seeded():
    """Every test draws the same numbers, alone or among others."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def restored_settings():
    """No test leaves another number of threads, default dtype or determinism behind."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    deterministic = torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture(autouse=True)
def known_cells():
    """A cell that a test declares, and no module has, is known for as long as the test lasts."""
    from fastrnn.cells import CELLS

    before = dict(CELLS)
    yield
    for name in CELLS.keys() - before.keys():
        cell = CELLS[name]
        home = sys.modules.get(cell.__module__)
        if getattr(home, getattr(cell, "__qualname__", ""), None) is not cell:
            del CELLS[name]


@pytest.fixture(autouse=True)
def exact_float32():
    """torch.nn's float32 layers on a GPU are the yardstick; by default cuDNN's round to tf32."""
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [flag.allow_tf32 for flag in flags]
    for flag in flags:
        flag.allow_tf32 = False
    yield
    for flag, value in zip(flags, before):
        flag.allow_tf32 = value


@pytest.fixture
def poisoned():
    """Memory that kernels get for their results is NaN until they write it."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(8).isnan().all(), "torch.empty is not filled: the poison is off"


@pytest.fixture
def cache_folder(tmp_path, monkeypatch):
    """Where compiled cells are kept; it does not exist yet."""
    from fastrnn.compiled import folder

    monkeypatch.setenv("FASTRNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(folder, "_temporary", {})
    return tmp_path / "cache"


@pytest.fixture
def fake_compiler(tmp_path, cache_folder, monkeypatch):
    """A compiler that counts what it does (`fake_compilers.FakeCompiler`)."""
    from fake_compilers import FakeCompiler

    return FakeCompiler(tmp_path, monkeypatch)


@pytest.fixture(scope="session")
def simulator():
    """The CUDA kernels in the simulator, compiled for this CPU."""
    from cuda_simulation import Simulator

    from buildtools import simulator

    return Simulator(simulator.build(Path(__file__).resolve().parents[1]))


@pytest.fixture(scope="session")
def loaded(request, tmp_path_factory):
    """Hand-written cells compiled by themselves and loaded: (policy, dtype) -> its library."""
    import cell_libraries as cells

    wanted = cells.ALL if request.config.getoption("--slow") else cells.QUICK
    paths = cells.libraries(tmp_path_factory.mktemp("cells"), wanted)
    for path in paths.values():
        torch.ops.fastrnn.load_cell(str(path))
    return paths

"""Every test of a program runs in an empty folder, on one thread."""

from pathlib import Path

import pytest
import torch

PROGRAMS = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def one_thread():
    """Threads only get in each other's way at these sizes, the more so on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def empty_folder(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(PROGRAMS)
    monkeypatch.chdir(tmp_path)

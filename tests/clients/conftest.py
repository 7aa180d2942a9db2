"""Tests of this folder need the libraries of the extra `clients`, and run on one thread."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread(restored_settings):
    """Threads only get in each other's way at these sizes."""
    torch.set_num_threads(1)

"""Triton kernels of cells with late slots: a second product in a step."""

import pytest
import torch
from helpers import DEVICE, problem, slow_but

pytest.importorskip("triton")

from late_cells import LATE, everything  # noqa: E402
from triton_ways import WAYS, assert_close, run_both, use, zones  # noqa: E402, F401

from fastrnn import backends  # noqa: E402
from fastrnn.cells import triton_source  # noqa: E402
from fastrnn.triton import cells as pairs  # noqa: E402
from fastrnn.triton import config  # noqa: E402

interpreted = pytest.mark.skipif(not pairs.INTERPRET, reason="needs TRITON_INTERPRET=1")
STREAMED = [way for way in WAYS if way.startswith("streamed")]
EVERY = [(cell, way, ragged) for cell in LATE for way in STREAMED for ragged in (True, False)]
CASES = [EVERY[0], (everything, "streamed", True)]


def run(cell, way, ragged, monkeypatch, dtype=torch.float32):
    use(way, monkeypatch)
    input, weights, state = problem(cell.name, t=3, b=5, i=3, h=19, directions=3, dtype=dtype)
    sizes, rows = None, input.shape[:-1]
    if ragged:
        sizes = torch.tensor([4, 3, 1])
        input, rows = input.reshape(15, -1)[:8], (8,)
        weights = [w.flatten(0, 1)[:8] if w.dim() == 3 else w for w in weights]
    resets = (torch.rand(rows) < 0.3).to(DEVICE)
    return run_both(cell.name, input, weights, state, sizes, resets, 3, True)


@interpreted
@pytest.mark.parametrize("case", slow_but(CASES, EVERY), ids=lambda c: f"{c[0].title}-{c[1:]}")
@pytest.mark.usefixtures("zones")
def test_values_and_gradients(case, monkeypatch):
    ours, exact = run(*case, monkeypatch)
    assert_close(ours, exact, 4e-6)


@interpreted
@pytest.mark.parametrize("cell", slow_but(LATE[:1], LATE), ids=lambda cell: cell.title)
def test_low_precision(cell, monkeypatch):
    ours, exact = run(cell, "streamed_wide", True, monkeypatch, torch.bfloat16)
    assert_close(ours, exact, 12 * torch.finfo(torch.bfloat16).eps)


@pytest.mark.parametrize("multiply", ["bfloat16", "tf32", "ieee"])
@pytest.mark.parametrize("h", [1, 64, 300, 2048])
def test_the_matrix_is_streamed(h, multiply):
    for direction in ("forward", "backward"):
        need = config.Need.of(direction, everything, h, multiply)
        options = config.candidates(need, 16, 1, 132, 232_448)
        assert options and all(option.hold == "streamed" for option in options)


def test_what_is_written():
    text = triton_source.module(LATE[0])
    assert "def reset_before_gru_ask(x, r, state):" in text
    assert "def reset_before_gru_late(saved, prev, next, grad):" in text
    assert backends.choose(LATE[0].name, "meta", torch.float32, "triton")[0].name == "triton"

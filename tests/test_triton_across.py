"""Triton kernels of cells that look across the units of a row, which one program has all."""

import pytest
import torch
from helpers import problem, slow_but

pytest.importorskip("triton")

from across_cells import ACROSS, centred  # noqa: E402
from triton_ways import assert_close, run_both, zones  # noqa: E402, F401

import fastrnn  # noqa: E402
from fastrnn import backends  # noqa: E402
from fastrnn.cells import triton_source  # noqa: E402
from fastrnn.triton import cells as pairs  # noqa: E402
from fastrnn.triton import config, engine  # noqa: E402

interpreted = pytest.mark.skipif(not pairs.INTERPRET, reason="needs TRITON_INTERPRET=1")
H = 19
WAYS = {
    "alone": config.Config(4, 32, 32, "resident", 4),
    "streamed": config.Config(2, 32, 16, "streamed", 4),
}
ROW_BY_ROW = config.Config(1, 32, 16, "nowhere", 4)


def run(cell, way, monkeypatch, dtype=torch.float32, **changes):
    def chosen(direction, layer, run):
        return run(WAYS[way] if layer.spec.recurrent else ROW_BY_ROW)[0]

    monkeypatch.setattr(engine, "choose", chosen)
    input, weights, state = problem(cell.name, t=3, b=5, i=3, h=H, dtype=dtype, **changes)
    sizes = torch.tensor([4, 3, 1])
    input = input.reshape(15, -1)[:8]
    resets = torch.rand(8) < 0.3
    return run_both(cell.name, input, weights, state, sizes, resets, 3, True)


@interpreted
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cell", slow_but(ACROSS[:2], ACROSS), ids=lambda cell: cell.title)
@pytest.mark.usefixtures("zones")
def test_values_and_gradients(cell, way, monkeypatch):
    ours, exact = run(cell, way, monkeypatch, directions=3)
    assert_close(ours, exact, 4e-6)


@interpreted
@pytest.mark.parametrize("cell", slow_but(ACROSS[:1], ACROSS), ids=lambda cell: cell.title)
def test_low_precision(cell, monkeypatch):
    ours, exact = run(cell, "alone", monkeypatch, dtype=torch.bfloat16, directions=3)
    assert_close(ours, exact, 12 * torch.finfo(torch.bfloat16).eps)


@pytest.mark.parametrize("cell", ACROSS, ids=lambda cell: cell.title)
@pytest.mark.parametrize("multiply", ["bfloat16", "tf32", "ieee"])
@pytest.mark.parametrize("h", [1, 64, 300, 1024])
def test_every_program_has_all_units(h, multiply, cell):
    for direction in ("forward", "backward"):
        need = config.Need.of(direction, cell, h, multiply)
        options = config.candidates(need, 16, 1, 132, 232_448)
        assert options
        for option in options:
            assert option.programs(h) == 1 and option.units >= h and option.shares == 1
            assert option.registers * 32 * option.warps <= 65536


def test_too_many_units_are_refused():
    need = config.Need.of("forward", centred, 1025, "bfloat16")
    with pytest.raises(RuntimeError, match="at most 1024, got 1025"):
        config.candidates(need, 16, 1, 132, 232_448)


def test_what_is_written():
    text = triton_source.module(centred)
    assert "import over_units, tanh" in text and "over_units(p[3], p[3])" in text
    assert backends.choose(centred.name, "meta", torch.float32, "triton")[0].name == "triton"
    layer = fastrnn.Recurrent(centred, 4, 100, device="meta")
    assert layer(torch.empty(3, 2, 4, device="meta"))[0].shape == (3, 2, 100)

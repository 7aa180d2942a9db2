"""Triton's kernels of cells with slots of their own, and of masked layers, in every way."""

import pytest
import torch
from helpers import assert_same, flat, gradients, problem, randn, slow_but
from slot_cells import many_back, more_back, more_in

pytest.importorskip("triton")

from triton_ways import WAYS, assert_close, run_both, use, zones  # noqa: E402, F401

import fastrnn  # noqa: E402
from fastrnn import cells  # noqa: E402
from fastrnn.cells import regularised  # noqa: E402
from fastrnn.triton import cells as pairs  # noqa: E402
from fastrnn.triton import config  # noqa: E402

interpreted = pytest.mark.skipif(not pairs.INTERPRET, reason="needs TRITON_INTERPRET=1")


@fastrnn.cell(inputs=2, product="none", extra=1, params=1)
def alone(x, r, state, p):
    return (torch.sigmoid(x[0] + p[0]) * state[0] * x[2] + x[1],)


CELLS = {cell.title: cell for cell in (more_in, more_back, many_back, alone)}
CASES = [
    ("more_in", "sharing", False),
    ("more_back", "alone", True),
    ("more_back", "streamed", False),
]
CASES += [("many_back", "sharing_two_gates", True), ("alone", "alone", False)]
EVERY = [(cell, way, ragged) for cell in CELLS for way in WAYS for ragged in (True, False)]


@interpreted
@pytest.mark.parametrize("case", slow_but(CASES, EVERY), ids=str)
@pytest.mark.usefixtures("zones")
def test_values_and_gradients(case, monkeypatch):
    title, way, ragged = case
    use(way, monkeypatch)
    cell = CELLS[title]
    input, weights, state = problem(
        cell.name, t=3, b=5, i=3, h=19, directions=3, dtype=torch.float32
    )
    sizes, rows = None, input.shape[:-1]
    if ragged:
        sizes = torch.tensor([4, 3, 1])
        input, rows = input.reshape(15, -1)[:8], (8,)
        weights = [w.flatten(0, 1)[:8] if w.dim() == 3 else w for w in weights]
    ours, exact = run_both(cell.name, input, weights, state, sizes, torch.rand(rows) < 0.3, 3, True)
    assert_close(ours, exact, 4e-6)


@interpreted
@pytest.mark.parametrize("way", slow_but(["streamed"], ["alone", "sharing", "streamed"]))
def test_masked_layers(way, monkeypatch):
    """As a layer calls them, with lengths; what is not to be saved is not returned."""
    use(way, monkeypatch)
    layer = fastrnn.FastGRU(3, 19, bidirectional=True, zoneout=0.3, recurrent_dropout=0.3)
    x, lengths = randn(3, 4, 3, grad=True), [2, 3, 0, 1]
    results = {}
    for backend in ("triton", "reference"):
        torch.manual_seed(3)
        layer.backend = backend
        result = flat(layer(x, lengths=lengths))
        results[backend] = result, gradients(result, [x, *layer.parameters()])
    assert_same(results["triton"][0], results["reference"][0], 2e-6)
    assert_same(results["triton"][1], results["reference"][1], 2e-5)
    layer.backend = "triton"
    with torch.no_grad():
        torch.manual_seed(3)
        assert_same(flat(layer(x, lengths=lengths)), results["triton"][0], 0.0)


def test_tiles_are_counted():
    """A cell has room for its extra slots, and products of the slots of r."""
    need = config.Need.of("backward", many_back, 64, "bfloat16")
    assert need.gates == 5
    name = regularised.name_of("lstm", (True, True), False)
    zoned = config.Need.of("backward", cells.get(name), 64, "bfloat16")
    assert zoned.tiles == 1 + 4 + 3 * 2 + 4 + 2 * 2

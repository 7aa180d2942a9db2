"""The benchmark preset of the zoo: its contestants compute its cells, and its report."""

from dataclasses import replace

import pytest
import torch

pytest.importorskip("pandas")
pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

from helpers import slow_but
from test_benchmarks import synthetic
from test_benchmarks_custom import judged

from benchmarks.cases import layers, lookup, presets, problem, zoo_cells
from benchmarks.cases.case import Case
from benchmarks.measure import gate, records
from benchmarks.peers import contestants, loops
from benchmarks.peers.contestants import EAGER
from benchmarks.report import document

SIZES = {"B": 3, "T": 6, "I": 8, "H": 8}
PEERS = [name for name in presets.ZOO_PEERS if name != EAGER]


@pytest.mark.parametrize("cell", zoo_cells.ZOO)
@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize("name", ["reference", *slow_but([], PEERS)])
def test_contestants_compute_the_cell(name, mode, cell):
    entry = judged(Case(cell, mode, **SIZES), name)
    assert entry.status == "ok", entry.note


@pytest.mark.parametrize("name", ["minGRU-pytorch", "log-space scan"])
def test_a_scan_in_log_space_computes_min_gru(name):
    entry = judged(Case("min_gru", "training", **SIZES), name)
    assert entry.status == "ok" and entry.verdict.error < 1e-5


def test_weights_have_the_form_of_the_cell_and_flops_are_those_of_its_products():
    case = Case("slstm", "inference", **SIZES)
    assert problem.weight_shapes(case)["weight_hh_l0"] == (4, 8, 2)
    assert case.flops == 2 * 3 * 6 * 4 * 8 * (8 + 2)
    case = replace(case, cell="min_gru")
    assert list(problem.weight_shapes(case)) == ["weight_ih_l0", "bias_ih_l0"]
    assert case.flops == 2 * 3 * 6 * 2 * 8 * 8
    for cell in zoo_cells.ZOO:
        made = problem.make(replace(case, cell=cell))
        layer = made.load(layers.fast(cell))  # which is strict about names and shapes
        assert lookup.own(cell) and layer.cell == lookup.get(cell).name
        assert (made.extra is not None) == (cell == zoo_cells.ZONED)


def test_masks_of_zoneout_are_drawn_in_training_and_rates_in_inference():
    case = Case(zoo_cells.ZONED, "training", B=50, T=40, I=8, H=8)
    for mode, tolerance in (("training", 0.02), ("inference", 1e-6)):
        kept = problem.make(replace(case, mode=mode)).extra
        assert torch.equal(kept, kept.round()) == (mode == "training")
        for half, rate in zip(kept.chunk(2, -1), zoo_cells.ZONEOUT):
            assert half.mean().item() == pytest.approx(rate, abs=tolerance)


def test_other_loops_say_that_they_do_not_serve():
    for cell in zoo_cells.ZOO:
        case = Case(cell, "training", **SIZES)
        for name in ("scripted loop", "torch scan", "compiled scan"):
            assert "dense products" in contestants.CONTESTANTS[name].cannot(case, "cpu")
        assert loops._serves(case, "cpu") is None


def test_the_gate_allows_an_inexact_method_so_much_and_no_more():
    exact, got = {"y": torch.ones(3).double()}, {"y": torch.full((3,), 1.2)}
    assert not gate.judge(got, exact, exact, "float32").ok
    assert gate.judge(got, exact, exact, "float32", inexact=0.25).ok
    assert not gate.judge(got, exact, exact, "float32", inexact=0.1).ok


def test_the_report_tells_what_is_inexact(tmp_path):
    sink = records.Sink(tmp_path / "results.csv")
    for steps in (100, 10000):
        case = Case("min_gru", "training", 1, steps, 64, 64)
        ratios = {EAGER: 1.0, "fastrnn": 8.0, "log-space scan": 2.0}
        rows = synthetic(ratios, case, EAGER)
        sink.write([replace(row, error=steps / 1e5, baseline_error=1e-7) for row in rows])
    shown = document.write(records.read(tmp_path / "results.csv"), tmp_path)
    assert "| log-space scan, min_gru, T 10000, training | 1.0e-01 | 1.0e-07 |" in shown
    assert "| training, min_gru, 1 thread(s) | 8.00x (8.00x) · 2 | 4.00x (4.00x) · 2 |" in shown
    assert "| fastrnn, min_gru" not in shown

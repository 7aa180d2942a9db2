"""The benchmark preset of cells of one's own: its contestants, limits and summary."""

from dataclasses import replace

import pytest
import torch

pytest.importorskip("pandas")
pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

from test_benchmarks import synthetic

from benchmarks.__main__ import main
from benchmarks.cases import custom_cells, lookup, presets, problem
from benchmarks.cases.case import Case
from benchmarks.measure import one_case, records
from benchmarks.peers import contestants, loops, time_limit
from benchmarks.peers.contestants import EAGER
from benchmarks.report import document

CELLS = list(custom_cells.OWN)
SIZES = {"B": 3, "T": 6, "I": 5, "H": 4}
SMALL = Case("light_gru", "training", **SIZES)
QUICK_PEERS = ["fastrnn", "reference", "scripted loop", "jax"]
SLOW_PEERS = ["compiled loop", "torch scan", "compiled scan"]


def judged(case, name):
    """The entry of a contestant after the gate; skips where it is not there or does not serve."""
    entry = contestants.CONTESTANTS[name]
    refusal = entry.missing() or entry.cannot(case, "cpu")
    if refusal:
        pytest.skip(refusal)
    made = problem.make(case)
    with torch.set_grad_enabled(made.training):
        return one_case.gate_all([EAGER, name], made, threads=1)[-1]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize("name", QUICK_PEERS)
def test_contestants_compute_the_cell(name, mode, cell):
    entry = judged(Case(cell, mode, **SIZES), name)
    assert entry.status == "ok", entry.note


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW_PEERS)
def test_slow_contestants_compute_the_cell(name):
    entry = judged(SMALL, name)
    if name == "compiled scan" and "DataDependentOutput" in entry.note:
        pytest.skip(f"torch {torch.__version__}: {entry.note}")
    assert entry.status == "ok", entry.note
    assert entry.runner.compiled > 0


@pytest.mark.parametrize("cell", CELLS)
def test_the_cells_are_the_suite_s_own_and_in_no_other_preset(cell):
    assert lookup.own(cell) and lookup.get(cell).title == cell
    assert contestants.baseline_of(replace(SMALL, cell=cell)) == EAGER
    assert cell not in {c.cell for c in presets.quick() + presets.full()}
    shapes = problem.weight_shapes(replace(SMALL, cell=cell))
    assert ("params_l0" in shapes) == (lookup.get(cell).params > 0)


def test_slow_contestants_run_at_the_anchors_only(capsys, tmp_path):
    cases, anchors = presets.custom_cells(), presets.custom_anchors()
    assert len(cases) == 54 and len(anchors) == 12 and set(anchors) < set(cases)
    from benchmarks.measure.worker import Plan

    plan = Plan(tuple(cases), (), presets.CUSTOM_PEERS, 1, None, 0, 1, None, 1, tmp_path,
                frozenset(anchors))  # fmt: skip
    for number, case in enumerate(cases):
        slow = set(plan.contestants(number)) & set(SLOW_PEERS)
        assert slow == (set(SLOW_PEERS) if case in anchors else set()), case.id
    everywhere = replace(plan, slow_cases=None)
    assert set(everywhere.contestants(2)) == set(presets.CUSTOM_PEERS)


def test_compiling_is_stopped_at_its_limit(monkeypatch):
    monkeypatch.setattr(loops, "COMPILE_LIMIT", 0.05)
    entry = judged(SMALL, "compiled loop")
    assert entry.status == "failed"
    assert entry.note == "TimeoutError: timed out after 0.05 s of compiling"


def test_a_failing_compiler_is_a_result():
    with pytest.raises(RuntimeError, match="compiling process failed: AttributeError"):
        with time_limit.compiled_beforehand(problem.make(SMALL), "NoSuchLoop", 1, 60.0):
            pass


def test_a_tiny_run_of_the_preset(monkeypatch, capsys, tmp_path):
    tiny = "light_gru-training-B1-T100-I64-H64"
    command = ["--preset", "custom-cells", "--only", tiny, "--peers", "scripted loop,reference"]
    assert main([*command, "--out", str(tmp_path)]) == 0
    found = records.read(tmp_path / "results.csv")
    timed = found[found["metric"] == "time"].set_index("contestant")
    assert set(timed.index) == {EAGER, "scripted loop", "reference"}
    assert set(timed["status"]) <= {"ok", "unsteady"}, "unsteady where other programs run"
    assert (timed["p50"] > 0).all() and set(timed["baseline"]) == {EAGER}
    assert set(timed["threads"]) == {1}
    compiled = found[found["metric"] == "compile"]
    assert compiled["contestant"].tolist() == ["scripted loop"] and compiled["p50"].iloc[0] > 0
    assert "compiling, seconds" in capsys.readouterr().out
    assert len(records.measured(found)) == 1, "compiling is no measurement that --resume looks for"


def test_report_tells_geomean_minimum_and_goals(tmp_path):
    sink = records.Sink(tmp_path / "results.csv")
    sizes = {64: (8.0, 2.0), 128: (8.0, 4.0), 256: (27.0, 30.0)}  # H: fastrnn, jax
    for hidden, (fast, jax) in sizes.items():
        case = replace(SMALL, T=100, I=hidden, H=hidden)
        sink.write(synthetic({EAGER: 1.0, "fastrnn": fast, "jax": jax}, case, EAGER))
    shown = document.write(records.read(tmp_path / "results.csv"), tmp_path)
    assert "| eager loop, training, geomean, 1 thread(s) | 12.00 | >= 6 | yes | 3 |" in shown
    assert "| jax, training, worst, 1 thread(s) | 0.90 | >= 1 | **no** | 3 |" in shown
    assert "| training, light_gru, 1 thread(s) | 12.00x (8.00x) · 3 | 1.93x (0.90x) · 3 |" in shown
    assert "### Targets of the CPU kernels" not in shown and "(eager loop)" in shown
    assert (tmp_path / "custom-cells-training-1t.png").stat().st_size > 1000
    assert not (tmp_path / "speedup-training-1t.png").exists()

"""The benchmark suite's own parts: the gate, rounds and ratios, contestants, estimates, reports."""

import ast
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("pandas")
pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

from helpers import CELLS

from benchmarks.cases import presets, problem
from benchmarks.cases.case import MODES, Case
from benchmarks.measure import cost, memory, one_case, records, timing, worker
from benchmarks.measure.others import Others
from benchmarks.peers import contestants
from benchmarks.peers.contestants import AGAIN, BASELINE
from benchmarks.report import document

SUITE = Path(__file__).parents[1] / "benchmarks"
MACHINE = records.Machine("2026-01-01T00:00Z", "abc", "cpu", "a machine", 2, "2.11")
SMALL = Case("gru", "training", B=2, T=5, I=3, H=4)


class FixedRate:
    """Stands in for the measured sgemm rate."""

    def rate(self):
        return 100.0


class Unseen(Others):
    """The machine's other programs, of which these tests are not to know."""

    def start(self):
        pass

    def share(self):
        return None


@pytest.fixture
def setting():
    return one_case.Setting(1, MACHINE, FixedRate(), allowance=0.0, least=3, others=Unseen())


def contestant(monkeypatch, name, build, *needs):
    """Registers a contestant for one test."""
    entry = contestants.Contestant(name, build, needs or ("torch",), lambda case, device: None)
    monkeypatch.setitem(contestants.CONTESTANTS, name, entry)


def with_weight_error(name, factor):
    """A contestant that computes with one weight scaled."""

    def build(made, threads):
        weights = made.weights | {name: made.weights[name] * factor}
        return contestants.torch_nn(replace(made, weights=weights), threads)

    return build


def by_name(found):
    return {r.contestant: r for r in found}


def test_wrong_contestant_is_shown_as_wrong_and_not_timed(monkeypatch, setting):
    calls = []

    def build(made, threads):
        runner = with_weight_error("weight_hh_l0", 1.001)(made, threads)
        return replace(runner, call=lambda: calls.append(1) or runner.call())

    contestant(monkeypatch, "liar", build)
    found = by_name(one_case.run_case(SMALL, [BASELINE, "liar"], setting))
    assert (found["liar"].status, found["liar"].p50, found["liar"].ratio) == ("WRONG", None, None)
    assert found["liar"].error > found["liar"].baseline_error
    assert len(calls) == 1, "called by the gate alone"
    assert found[BASELINE].status == "ok" and found[BASELINE].p50 > 0 and found[BASELINE].ratio == 1


@pytest.mark.parametrize("name", ["grad x", "grad weight_hh_l0", "grad bias_hh_l0", "h_n"])
def test_gate_judges_every_tensor(monkeypatch, setting, name):
    def build(made, threads):
        runner = contestants.torch_nn(made, threads)

        def read(result):
            got = runner.read(result)
            return got | {name: got[name] + 1e-4 * got[name].abs().max()}

        return replace(runner, read=read)

    contestant(monkeypatch, "liar", build)
    found = by_name(one_case.run_case(SMALL, [BASELINE, "liar"], setting))
    assert found["liar"].status == "WRONG" and found["liar"].note.startswith(name)


def test_not_a_number_a_missing_tensor_and_another_shape_are_wrong():
    from benchmarks.measure.gate import judge

    good = {"output": torch.ones(2), "h_n": torch.ones(1)}
    nan = good | {"output": torch.tensor([1.0, float("nan")])}
    for bad in (nan, {"output": torch.ones(2)}, good | {"h_n": torch.ones(2)}):
        assert not judge(bad, good, good, "float32").ok
    assert judge(good, good, good, "float32").ok


def test_a_contestant_that_breaks_does_not_end_the_run(monkeypatch, setting):
    def build(made, threads):
        raise TypeError("no such kernel\nsecond line")

    contestant(monkeypatch, "broken", build)
    found = by_name(one_case.run_case(SMALL, [BASELINE, "broken"], setting))
    assert found["broken"].status == "failed"
    assert found["broken"].note == "TypeError: no such kernel"
    assert found[BASELINE].status == "ok"


def test_missing_contestants_are_named(monkeypatch):
    contestant(monkeypatch, "absent", contestants.torch_nn, "no_such_module")
    names, missing = worker.present([BASELINE, "absent"])
    assert names == [BASELINE]
    assert missing == {"absent": "not installed: no_such_module"}


PEERS = [AGAIN, "fastrnn", "fastrnn-lengths", "reference", "onnxruntime", "jax"]
PEERS += ["fastrnn int8", "torch int8", "onnxruntime int8"]
SHAPES = [
    Case("lstm", "inference", 3, 6, 5, 4, layers=2, directions=2),
    Case("gru", "training", 3, 6, 5, 4, layers=2, directions=2),
    Case("rnn_relu", "inference", 4, 8, 5, 4, directions=2, ragged=True),
    Case("lstm", "training", 4, 8, 5, 4, ragged=True),
    Case("lstm", "stream", 1, 1, 5, 4),
    Case("rnn_identity", "training", 3, 6, 5, 4),
    Case("lstm", "inference", 3, 6, 5, 4, layers=2, directions=2, dtype="int8"),
    Case("gru", "stream", 1, 1, 5, 4, dtype="int8"),
]


@pytest.mark.parametrize("name", PEERS)
def test_contestants_pass_the_gate(name):
    entry = contestants.CONTESTANTS[name]
    if entry.missing():
        pytest.skip(entry.missing())
    served = [c for c in SHAPES if entry.cannot(c, "cpu") is None]
    if not served:
        pytest.skip(entry.cannot(SHAPES[0], "cpu"))
    for case in served:
        made = problem.make(case)
        names = list(dict.fromkeys([contestants.baseline_of(case), name]))
        with torch.set_grad_enabled(made.training):
            judged = one_case.gate_all(names, made, threads=1)[-1]
        assert judged.status == "ok", f"{case.id}: {judged.note}"


def test_ratios_are_formed_within_a_round():
    baseline, other = np.array([1.0, 10.0, 2.0]), np.array([1.0, 5.0, 4.0])
    assert one_case._ratios(baseline, other)["ratio"] == 1.0  # of 1, 2, 0.5; of the medians: 0.5


def test_rounds_interleave_the_contestants_and_rotate_their_order():
    order, names = [], ["a", "b", "c"]
    calls = {n: (lambda n=n: order.append(n)) for n in names}

    def slot(call, count):
        call()
        return 1.0  # a slow call: neither warmed up nor batched

    timed = timing.interleaved(calls, allowance=0.0, least=4, slot=slot)
    assert order[:3] == names
    rounds = np.array(order[3:]).reshape(-1, 3)
    assert len(rounds) == 3 and {frozenset(r) for r in rounds} == {frozenset(names)}
    assert list(rounds[:, 0]) == ["b", "c", "a"], "the first calls were the first round"
    assert all(len(v) == 4 for v in timed.seconds.values())


def test_large_cases_are_gated_over_their_first_steps():
    large = Case("lstm", "training", 64, 500, 1024, 1024)
    cut = one_case.gate_case(large, gflops=100)
    assert 32 <= cut.T < 500 and replace(cut, T=500) == large
    assert one_case.gate_case(SMALL, gflops=100) == SMALL


def test_budget_bounds_the_run_and_follows_its_pace():
    grid = presets.shuffled(presets.cpu_grid())
    names = [[BASELINE]] * len(grid)
    limit = cost.Budget(grid, names, 100, allowance=1.0, least=3).minimum * 1.5
    budget = cost.Budget(grid, names, 100, allowance=10.0, least=3, limit=limit)
    assert 0 < budget.allowance() < 10.0
    assert budget.seconds <= limit * 1.001 and not budget.exhausted
    first = budget.allowance()
    budget.done(seconds=limit * 0.9, allowance=first)
    assert budget.allowance() < first and not budget.exhausted
    budget.done(seconds=limit * 0.2, allowance=0.0)
    assert budget.exhausted


def test_presets_cover_every_cell_and_mode_once():
    for name, preset in presets.PRESETS.items():
        found = preset.cases()
        assert len({c.id for c in found}) == len(found), name
        pairs = {"inference", "training"}
        served = {"inference", "stream"}
        modes = {"custom-cells": pairs, "zoo": pairs, "stream": {"stream"}, "int8": served}
        assert {c.mode for c in found} == modes.get(name, {*MODES}), name
    assert {c.cell for c in presets.quick()} == {c.cell for c in presets.full()} == set(CELLS)
    assert set(contestants.CONTESTANTS) >= set(presets.QUICK_PEERS)


def test_flops_count_every_layer_direction_and_valid_row():
    one = Case("lstm", "inference", B=2, T=3, I=5, H=7)
    assert one.flops == 2 * 2 * 3 * 4 * 7 * (5 + 7)
    both = replace(one, layers=2, directions=2)
    assert both.flops == 2 * 2 * 3 * 4 * 7 * 2 * ((5 + 7) + (14 + 7))
    assert replace(one, mode="training").flops == 3 * one.flops
    ragged = replace(one, T=4, ragged=True)
    assert ragged.lengths == [4, 1] and ragged.flops * 8 == replace(one, T=4).flops * 5


@pytest.mark.slow
def test_peak_memory_sees_what_a_training_step_keeps():
    case = Case("rnn_tanh", "training", B=16, T=400, I=8, H=256)
    output = 4 * case.T * case.B * case.H / 2**20
    peak, growth = memory.peak_mib(case, BASELINE)
    assert 2 * output < growth < 20 * output and peak > growth


def synthetic(ratios, case=SMALL, baseline=BASELINE):
    """Rows as a run would have written them: {contestant: ratio}, 100 µs for the baseline."""
    rows = []
    for name, ratio in ratios.items():
        values = {"status": "WRONG"} if ratio is None else {"status": "ok", "unit": "us"}
        if ratio is not None:
            times = {k: 100 / ratio for k in ("p20", "p50", "p80")}
            rates = {k: ratio for k in ("ratio_p20", "ratio", "ratio_p80")}
            values |= times | rates | {"baseline": baseline, "sgemm_gflops": 100.0}
        common = asdict(MACHINE) | asdict(case) | {"threads": 1, "version": "1", "metric": "time"}
        rows.append(records.Record(**common, contestant=name, **values))
    return rows


def test_report_shows_losses_wrongs_and_the_same_twice(tmp_path):
    path = tmp_path / "results.csv"
    sink = records.Sink(path)
    sink.write(synthetic({BASELINE: 1.0, AGAIN: 1.01, "fastrnn": 2.0, "jax": 4.0}))
    won = replace(SMALL, H=8)
    sink.write(synthetic({BASELINE: 1.0, "fastrnn": 2.0, "jax": None}, won))
    unknown_to_torch = {"reference": 1.0, "fastrnn": 90.0}
    sink.write(synthetic(unknown_to_torch, replace(SMALL, cell="rnn_identity"), "reference"))
    shown = document.write(records.read(path), tmp_path)
    assert "| fastrnn, training, 1 thread(s) | 2 | 2.00x |" in shown
    lost = shown.split("### Cases that fastrnn loses")[1].split("###")[0]
    assert SMALL.id in lost and "0.50x" in lost and won.id not in lost
    wrong = shown.split("### Wrong, failed or unsteady")[1].split("##")[0]
    assert f"jax: {won.id}" in wrong and "WRONG" in wrong
    assert "torch.nn against itself in 1 cases: median ratio 1.010" in shown
    assert (tmp_path / "report.md").exists() and (tmp_path / "cases-1t.png").stat().st_size > 1000


def test_json_and_csv_hold_the_same_records(tmp_path):
    records.Sink(tmp_path / "r.csv").write(synthetic({BASELINE: 1.0, "fastrnn": 3.0}))
    found = records.read(tmp_path / "r.csv")
    records.write_json(found, tmp_path / "r.json")
    again = records.read(tmp_path / "r.json")
    assert records.measured(again) == records.measured(found) == {(SMALL, 1, "time")}
    assert again["ratio"].tolist() == [1.0, 3.0]


def test_rooms_import_one_way():
    """From the command line down to the cases, as the tree in benchmarks/README.md says."""
    rooms = ["cases", "peers", "clients", "measure", "report", "commands"]
    folders = {path.parent.name for path in SUITE.glob("*/__init__.py")}
    assert folders == set(rooms)
    for room in rooms:
        for path in (SUITE / room).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and node.level == 2 and node.module != "errors":
                    used = (node.module or "").split(".")[0]
                    assert rooms.index(used) < rooms.index(room), f"{path}: imports {used}"

"""Benchmarks on several threads: contestants in processes of their own, and a busy machine."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("pandas")
pytest.importorskip("tqdm")

from benchmarks.cases import problem
from benchmarks.cases.case import Case
from benchmarks.measure import one_case, records, timing
from benchmarks.measure.apart import Stage
from benchmarks.measure.others import Others, _own_seconds
from benchmarks.peers.contestants import BASELINE, CONTESTANTS

ROOT = Path(__file__).parent.parent
SMALL = Case("gru", "training", B=2, T=5, I=3, H=4)
MACHINE = records.Machine("2026-01-01T00:00Z", "abc", "cpu", "a machine", 2, "2.11")


class FixedRate:
    def rate(self):
        return 100.0


class Noise(Others):
    """Other programs' share in one try after another."""

    def __init__(self, *shares):
        self._left = list(shares)

    def start(self):
        pass

    def share(self):
        return self._left.pop(0)


def state(pid):
    """ "T" of a stopped process, "S" of one that waits; None of one that has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return None


def settled(pid, wanted, seconds=10.0):
    deadline = time.monotonic() + seconds
    while state(pid) not in wanted and time.monotonic() < deadline:
        time.sleep(0.01)
    return state(pid) in wanted


@pytest.fixture
def stage():
    made = Stage(threads=1)
    yield made
    made.close()


def setting(stage=None, others=None):
    way = {"slot": stage.slot, "build": stage.build} if stage else {}
    return one_case.Setting(
        1, MACHINE, FixedRate(), 0.0, 3, others=others or Noise(*[None] * 9), **way
    )


@pytest.mark.skipif(not Path("/proc").exists(), reason="asks /proc")
def test_a_contestant_alone_is_awake_and_gives_the_same_numbers(stage):
    made = problem.make(SMALL)
    runners = {n: stage.build(n, made, 1) for n in (BASELINE, "fastrnn")}
    for name, runner in runners.items():
        here = CONTESTANTS[name].build(made, 1)
        want, got = here.read(here.call()), runner.read(runner.call())
        assert got.keys() == want.keys() and all(torch.equal(got[k], want[k]) for k in want)
        assert stage.slot(runner.call, 2) > 0
        asked = stage.pids[list(runners).index(name)]
        assert state(asked) in "SR"
        assert settled(next(p for p in stage.pids if p != asked), "T")


def test_a_case_is_gated_and_timed_in_those_processes(stage):
    wrong = replace(SMALL, mode="inference", dtype="bfloat16")
    for case in (SMALL, wrong):
        found = one_case.run_case(case, [BASELINE, "fastrnn"], setting(stage))
        assert [r.status for r in found] == ["ok", "ok"], found
        assert all(r.p50 > 0 for r in found) and found[1].error is not None


def test_what_goes_wrong_there_is_said(stage):
    entry = one_case.Entry(BASELINE, stage.build)
    unknown = problem.make(replace(SMALL, cell="rnn_identity"))
    entry.attempt(one_case.Entry.build, unknown, 1)
    assert entry.status == "failed" and "Error" in entry.note
    stage.build(BASELINE, problem.make(SMALL), 1)
    os.kill(stage.pids[-1], signal.SIGKILL)
    with pytest.raises(RuntimeError, match="its process ended with status -9"):
        stage.ask(BASELINE, "slot", 1)
    assert stage.build(BASELINE, problem.make(SMALL), 1), "a new process serves the next case"


@pytest.mark.slow
def test_no_process_outlives_a_run_that_is_killed():
    program = (
        "import time\n"
        "from benchmarks.cases import problem\n"
        "from benchmarks.measure.apart import Stage\n"
        "from tests.test_benchmarks_apart import SMALL\n"
        "if __name__ == '__main__':\n"
        "    stage = Stage(1)\n"
        "    for name in ('torch.nn', 'fastrnn'):\n"
        "        stage.build(name, problem.make(SMALL), 1)\n"
        "    print(*stage.pids, flush=True)\n"
        "    time.sleep(60)\n"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    pids = [int(p) for p in run.stdout.readline().split()]
    assert len(pids) == 2 and settled(pids[0], "T")
    run.kill()
    run.wait()
    assert all(settled(pid, (None, "Z")) for pid in pids)


@pytest.mark.parametrize(
    ("shares", "status", "left"),
    [
        ((0.01, 0.9), "ok", 1),  # calm at once
        ((0.9, 0.02, 0.9), "ok", 1),
        ((0.4, 0.12, 0.3), "ok", 0),  # the calmest of three
        ((0.4, 0.3, 0.2), "unsteady", 0),
    ],
)
def test_rounds_in_which_others_run_are_taken_again(monkeypatch, shares, status, left):
    monkeypatch.setattr(one_case, "PAUSE", 0.0)
    noise = Noise(*shares)
    found = one_case.run_case(SMALL, [BASELINE, "fastrnn"], setting(others=noise))
    assert len(noise._left) == left
    for row in found:
        if status == "unsteady" or row.status == "unsteady":
            assert row.status == "unsteady" and row.ratio is None and row.p50 > 0
    assert found[0].status == status
    if status == "unsteady":
        assert found[1].note == "other programs took 20% of the processors"


def test_a_ratio_that_spreads_over_more_than_itself_is_withheld(monkeypatch):
    seconds = iter([1.0, 1.0, 1.0, 0.2, 1.0, 5.0])

    def interleaved(racing, *_):
        taken = {n: [next(seconds) for _ in range(3)] for n in racing}
        arrays = {n: one_case.np.array(v) for n, v in taken.items()}
        return timing.Timed(arrays, dict.fromkeys(racing, 1))

    monkeypatch.setattr(timing, "interleaved", interleaved)
    first, second = one_case.run_case(SMALL, [BASELINE, "fastrnn"], setting())
    assert (first.status, first.ratio) == ("ok", 1.0)
    assert (second.status, second.ratio, second.ratio_p80) == ("unsteady", None, None)
    assert second.note.startswith("a ratio of 1.00 that spreads over ")


def test_own_time_is_not_others():
    start, before = time.process_time(), _own_seconds([os.getpid()])
    while time.process_time() - start < 0.2:
        pass
    assert 0.15 < _own_seconds([os.getpid()]) - before < 0.4
    meter = Others()
    readings = iter([(0.0, 0.0, 0.0), (1.0, 0.8, 0.5)])  # wall, busy, own
    meter._now = lambda: next(readings)
    meter.start()
    assert meter.share() == pytest.approx(0.28 / len(os.sched_getaffinity(0)))

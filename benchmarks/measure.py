"""One case, from tensors to records: build, gate, time."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from . import gate, memory, peers, problem, timing
from .cases import Case
from .peers import CONTESTANTS, Runner
from .records import MEMORY, TIME, Machine, Record

# A float64 reference that would take longer than this is computed over the case's first steps only
# (never under 32); records say over how many in `gate_steps`.
GATE_SECONDS = 1.0
FP64_SHARE = 0.35  # of the sgemm rate, that torch.nn reaches in float64; rough


@dataclass(frozen=True)
class Setting:
    """What all cases of one process share."""

    threads: int
    machine: Machine
    sgemm: timing.Sgemm
    allowance: float
    least: int
    slot: timing.Slot = timing.cpu_slot


def record(case: Case, name: str, setting: Setting, **found) -> Record:
    """A row for one contestant of a case."""
    common = asdict(setting.machine) | asdict(case)
    return Record(
        **common,
        threads=setting.threads,
        contestant=name,
        version=CONTESTANTS[name].version(),
        **({"metric": TIME} | found),
    )


def gate_case(case: Case, gflops: float) -> Case:
    """The case that the gate runs: itself, or its first steps where float64 would take too long."""
    seconds = case.flops / (gflops * 1e9 * FP64_SHARE)
    steps = max(32, int(case.T * GATE_SECONDS / max(seconds, 1e-9)))
    return case if steps >= case.T else replace(case, T=steps)


def _failure(problem: Exception) -> str:
    """An exception as one short line."""
    lines = f"{type(problem).__name__}: {problem}".splitlines()
    return lines[0][:200]


class _Entry:
    """One contestant on its way through a case: its runner, verdict, or what went wrong."""

    def __init__(self, name: str):
        self.name, self.runner, self.results = name, None, {}
        self.status, self.note, self.verdict = "ok", "", None

    def attempt(self, action) -> None:
        """Runs a step of a contestant still in the race; its failure is a result, not a crash."""
        if self.status != "ok":
            return
        try:
            action()
        except Exception as failure:
            self.status, self.note = "failed", _failure(failure)


def _build(entry: _Entry, made: problem.Problem, threads: int) -> Runner:
    return CONTESTANTS[entry.name].build(made, threads)


def _gate(entries: list[_Entry], made: problem.Problem, threads: int) -> None:
    """Runs every contestant once and sets the verdicts; the baseline is judged by its own error."""
    exact = peers.exact(made)
    baseline = peers.baseline_of(made.case)

    def run(entry: _Entry) -> None:
        entry.runner = _build(entry, made, threads)
        entry.results = entry.runner.read(entry.runner.call())

    def judge(entry: _Entry) -> None:
        entry.verdict = gate.judge(entry.results, expected, exact, made.case.dtype)
        if not entry.verdict.ok:
            entry.status, entry.note = "WRONG", entry.verdict.text

    reference = next(e for e in entries if e.name == baseline)
    for entry in entries:
        entry.attempt(lambda entry=entry: run(entry))
    if reference.status != "ok":
        for entry in entries:
            if entry.status == "ok":
                entry.status, entry.note = "failed", f"no baseline: {reference.note}"
        return
    expected = reference.results
    for entry in entries:
        entry.attempt(lambda entry=entry: judge(entry))
        entry.results = {}


def run_case(case: Case, names: list[str], setting: Setting) -> list[Record]:
    """All records of a case; `names` holds the baseline of the case."""
    device = setting.machine.device
    refused = {n: CONTESTANTS[n].cannot(case, device) for n in names}
    entries = [_Entry(n) for n in names if refused[n] is None]
    gated = gate_case(case, setting.sgemm.rate())
    made = problem.make(case, device)
    with torch.set_grad_enabled(made.training):
        checked = made if gated == case else problem.make(gated, device)
        _gate(entries, checked, setting.threads)
        for entry in entries if checked is not made else ():
            entry.attempt(lambda e=entry: setattr(e, "runner", _build(e, made, setting.threads)))
        for entry in entries:
            entry.attempt(lambda e=entry: _warm(e, case, gated))
        racing = {e.name: e.runner.call for e in entries if e.status == "ok"}
        timed = timing.interleaved(racing, setting.allowance, setting.least, setting.slot)
    unserved = {n: why for n, why in refused.items() if why}
    found = [record(case, n, setting, status="unsupported", note=w) for n, w in unserved.items()]
    return found + [_timed_record(e, case, gated, timed, setting) for e in entries]


def _warm(entry: _Entry, case: Case, gated: Case) -> None:
    """Compiles and warms what the gate has not run at full length."""
    if case != gated:
        entry.runner.call()


def _timed_record(entry, case: Case, gated: Case, timed: timing.Timed, setting: Setting) -> Record:
    found = {"status": entry.status, "note": entry.note, "gate_steps": gated.T}
    if entry.verdict:
        found |= {"error": entry.verdict.error, "baseline_error": entry.verdict.baseline_error}
    if entry.status == "ok":
        seconds = timed.seconds[entry.name]
        found |= dict(zip(("p20", "p50", "p80"), timing.spread(seconds * 1e6))) | {"unit": "us"}
        found |= {"rounds": len(seconds), "calls": timed.calls[entry.name]}
        found |= {"sgemm_gflops": setting.sgemm.rate()}
        found |= _ratios(timed.seconds.get(peers.baseline_of(case)), seconds)
        found |= {"baseline": peers.baseline_of(case)}
    return record(case, entry.name, setting, **found)


def _ratios(baseline: np.ndarray | None, seconds: np.ndarray) -> dict[str, float]:
    """Baseline over contestant, formed in each round, then the percentiles of that."""
    if baseline is None:
        return {}
    names = ("ratio_p20", "ratio", "ratio_p80")
    return dict(zip(names, timing.spread(baseline / seconds)))


def run_memory(case: Case, names: list[str], setting: Setting) -> list[Record]:
    """Peak memory of a training step for torch.nn and fastrnn, each in a process of its own."""
    found, baseline = [], None
    for name in names:
        if CONTESTANTS[name].cannot(case, "cpu"):
            continue
        try:
            peak, growth = memory.peak_mib(case, name)
        except RuntimeError as failure:
            note = _failure(failure)
            found.append(record(case, name, setting, metric=MEMORY, status="failed", note=note))
            continue
        baseline = baseline or (name, growth)
        ratio = {"baseline": baseline[0], "ratio": growth / baseline[1]}
        note = f"peak of the whole process {peak:.0f} MiB"
        measured = {"unit": "MiB", "p50": growth, "note": note} | ratio
        found.append(record(case, name, setting, metric=MEMORY, status="ok", **measured))
    return found


def check_writable(folder: Path) -> None:
    """OSError where results could not be written there."""
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / ".writable"
    probe.touch()
    probe.unlink()

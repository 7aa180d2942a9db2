"""One case, from tensors to records: build, gate, time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from ..cases import problem
from ..cases.case import Case
from ..peers import contestants
from ..peers.contestants import CONTESTANTS, Runner
from . import cost, gate, memory, timing
from .others import Others
from .records import COMPILE, MEMORY, TIME, Machine, Record

GATE_STEPS = 32  # the gate looks at no fewer, however long they take
# Of the processors' time that other programs take: above CALM rounds are taken again, twice at the
# most; above DISTURBED the calmest of them still say nothing.
CALM, DISTURBED, ATTEMPTS, PAUSE = 0.05, 0.15, 3, 1.0
Builder = Callable[[str, problem.Problem, int], Runner]


def build_here(name: str, made: problem.Problem, threads: int) -> Runner:
    return CONTESTANTS[name].build(made, threads)


@dataclass(frozen=True)
class Setting:
    """What all cases of one process share.

    build: makes a contestant ready, in this process or in one of its own; slot: times it there.
    """

    threads: int
    machine: Machine
    sgemm: timing.Sgemm
    allowance: float
    least: int
    slot: timing.Slot = timing.cpu_slot
    build: Builder = build_here
    others: Others = field(default_factory=Others)


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
    seconds = cost.exact_seconds(case, gflops)
    steps = max(GATE_STEPS, int(case.T * cost.GATE_SECONDS / seconds))
    return case if steps >= case.T else replace(case, T=steps)


def _failure(problem: Exception) -> str:
    """An exception as one short line."""
    lines = f"{type(problem).__name__}: {problem}".splitlines()
    return lines[0][:200]


class Entry:
    """One contestant on its way through a case: its runner, verdict, or what went wrong."""

    def __init__(self, name: str, builder: Builder = build_here):
        self.name, self.runner, self.results = name, None, {}
        self._builder = builder
        self.status, self.note, self.verdict = "ok", "", None

    def attempt(self, action, *args) -> None:
        """Runs a step of a contestant still in the race; its failure is a result, not a crash."""
        if self.status != "ok":
            return
        try:
            action(self, *args)
        except Exception as failure:
            self.fail(_failure(failure))

    def fail(self, note: str) -> None:
        self.status, self.note = "failed", note

    def build(self, made: problem.Problem, threads: int) -> None:
        self.runner = self._builder(self.name, made, threads)

    def solve(self, made: problem.Problem, threads: int) -> None:
        self.build(made, threads)
        self.results = self.runner.read(self.runner.call())

    def judge(self, baseline: dict, exact: dict, dtype: str) -> None:
        inexact = CONTESTANTS[self.name].inexact
        self.verdict = gate.judge(self.results, baseline, exact, dtype, inexact)
        if not self.verdict.ok:
            self.status, self.note = "WRONG", self.verdict.text


def gate_all(
    names: list[str], made: problem.Problem, threads: int, builder: Builder = build_here
) -> list[Entry]:
    """Runs every contestant once and judges it; `names` holds the baseline of the case."""
    entries = {name: Entry(name, builder) for name in names}
    reference, exact = entries[contestants.baseline_of(made.case)], {}
    reference.attempt(lambda entry: exact.update(contestants.exact(made)))
    for entry in entries.values():
        entry.attempt(Entry.solve, made, threads)
    expected = reference.results
    for entry in entries.values():
        if reference.status == "ok":
            entry.attempt(Entry.judge, expected, exact, made.case.dtype)
        elif entry.status == "ok":
            entry.fail(f"no baseline: {reference.note}")
        entry.results = {}
    return list(entries.values())


@contextmanager
def products_of(case: Case) -> Iterator[None]:
    """TensorFloat-32 on GPUs for everyone where the case says so, for nobody where it does not."""
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [flag.allow_tf32 for flag in flags]
    for flag in flags:
        flag.allow_tf32 = case.dtype == "tf32"
    try:
        yield
    finally:
        for flag, value in zip(flags, before):
            flag.allow_tf32 = value


def run_case(case: Case, names: list[str], setting: Setting) -> list[Record]:
    """All records of a case; `names` holds the baseline of the case."""
    device, threads = setting.machine.device, setting.threads
    refused = {n: why for n in names if (why := CONTESTANTS[n].cannot(case, device))}
    served = [n for n in names if n not in refused]
    gated = gate_case(case, setting.sgemm.rate())
    made = problem.make(case, device)
    with torch.set_grad_enabled(made.training), products_of(case):
        if gated == case:
            entries = gate_all(served, made, threads, setting.build)
        else:
            entries = gate_all(served, problem.make(gated, device), threads, setting.build)
            for entry in entries:
                entry.attempt(_lengthen, made, threads)
        racing = {e.name: e.runner.call for e in entries if e.status == "ok"}
        timed, share = _undisturbed(racing, setting)
    found = [record(case, n, setting, status="unsupported", note=w) for n, w in refused.items()]
    for entry in entries:
        if entry.runner and entry.runner.compiled is not None:
            taken = {"metric": COMPILE, "status": "ok", "unit": "s", "p50": entry.runner.compiled}
            found.append(record(case, entry.name, setting, **taken))
    timed_records = [_timed_record(e, case, gated, timed, setting) for e in entries]
    return found + [_believed(r, share) for r in timed_records]


def _undisturbed(
    racing: dict[str, timing.Call], setting: Setting
) -> tuple[timing.Timed, float | None]:
    """The rounds in which other programs took least, of up to three tries, and that share."""
    found = []
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE)
        setting.others.start()
        timed = timing.interleaved(racing, setting.allowance, setting.least, setting.slot)
        found.append((timed, setting.others.share()))
        if found[-1][1] is None or found[-1][1] <= CALM:
            return found[-1]
    return min(found, key=lambda pair: pair[1])


def _believed(found: Record, share: float | None) -> Record:
    """The record, without a ratio where none can be read from it: status "unsteady"."""
    if found.status != "ok" or found.ratio is None:
        return found
    wide = found.ratio_p80 - found.ratio_p20
    if share is not None and share > DISTURBED:
        why = f"other programs took {100 * share:.0f}% of the processors"
    elif wide > found.ratio:
        why = f"a ratio of {found.ratio:.2f} that spreads over {wide:.2f}"
    else:
        return found
    none = dict.fromkeys(("ratio_p20", "ratio", "ratio_p80"))
    return replace(found, status="unsteady", note=why, **none)


def _lengthen(entry: Entry, made: problem.Problem, threads: int) -> None:
    """Builds the whole case after a gate over its first steps, compiles it and warms it up."""
    entry.build(made, threads)
    entry.runner.call()


def _timed_record(
    entry: Entry, case: Case, gated: Case, timed: timing.Timed, setting: Setting
) -> Record:
    found = {"status": entry.status, "note": entry.note, "gate_steps": gated.T}
    if entry.verdict:
        found |= {"error": entry.verdict.error, "baseline_error": entry.verdict.baseline_error}
    if entry.status == "ok":
        seconds = timed.seconds[entry.name]
        found |= dict(zip(("p20", "p50", "p80"), timing.spread(seconds * 1e6))) | {"unit": "us"}
        found |= {"rounds": len(seconds), "calls": timed.calls[entry.name]}
        found |= {"sgemm_gflops": setting.sgemm.rate()}
        found |= _ratios(timed.seconds.get(contestants.baseline_of(case)), seconds)
        found |= {"baseline": contestants.baseline_of(case)}
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
        if CONTESTANTS[name].cannot(case, setting.machine.device):
            continue
        try:
            peak, growth = memory.peak_mib(case, name, setting.machine.device)
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

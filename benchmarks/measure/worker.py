"""The measuring process: one thread count, CPUs pinned before any library starts its threads."""

from __future__ import annotations

import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ..cases.case import Case
from ..peers.contestants import AGAIN, BASELINE, CONTESTANTS, baseline_of
from .cost import Budget
from .others import Others
from .records import Machine, Sink


@dataclass(frozen=True)
class Plan:
    """All that a measuring process needs to know; limit: seconds for its cases, or None."""

    cases: tuple[Case, ...]
    memory: tuple[Case, ...]
    names: tuple[str, ...]
    threads: int
    machine: Machine
    allowance: float
    least: int
    limit: float | None
    aa_every: int
    results: Path
    slow_cases: frozenset[Case] | None = None  # where slow contestants take part; None: everywhere

    def contestants(self, number: int) -> list[str]:
        """Who runs in the case of that number: the baseline always, the A/A check at times."""
        names = [baseline_of(self.cases[number]), *self.names]
        if number % self.aa_every:
            names = [n for n in names if n != AGAIN]
        if self.slow_cases is not None and self.cases[number] not in self.slow_cases:
            names = [n for n in names if not CONTESTANTS[n].slow]
        return list(dict.fromkeys(names))

    @property
    def apart(self) -> bool:
        """Has each contestant a process of its own? Where thread pools would meet."""
        return self.threads > 1 and self.machine.device == "cpu"

    def budget(self, gflops: float) -> Budget:
        """The plan's time, on a machine of that sgemm rate."""
        names = [self.contestants(k) for k in range(len(self.cases))]
        spread = (self.allowance, self.least, self.limit)
        return Budget(list(self.cases), names, gflops, *spread, self.machine.device)


def end_on_sigterm() -> None:
    """SIGTERM as Ctrl-C: what a process has started ends with it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def run(plan: Plan, current) -> None:
    """Measures the plan's cases and appends their records to the result file.

    current: a shared character array that names the case in hand, for whoever must report a crash.
    """
    import torch

    end_on_sigterm()
    torch.set_num_threads(plan.threads)
    from . import apart, one_case, timing

    sgemm, sink = timing.Sgemm(plan.machine.device), Sink(plan.results)
    stage = apart.Stage(plan.threads) if plan.apart else None
    if stage:
        way = {"slot": stage.slot, "build": stage.build, "others": Others(lambda: stage.pids)}
    else:
        way = {"slot": timing.cpu_slot if plan.machine.device == "cpu" else timing.cuda_slot()}
    budget = plan.budget(sgemm.rate())
    total, calm = len(plan.cases) + len(plan.memory), 0.5 if sys.stderr.isatty() else 20.0
    bar = tqdm(total=total, unit="case", dynamic_ncols=True, mininterval=calm)
    try:
        for number, case in enumerate(plan.cases):
            if budget.exhausted:
                break
            _show(bar, current, f"{case.id} x{plan.threads}")
            allowance, start = budget.allowance(), time.perf_counter()
            setting = one_case.Setting(
                plan.threads, plan.machine, sgemm, allowance, plan.least, **way
            )
            sink.write(one_case.run_case(case, plan.contestants(number), setting))
            budget.done(time.perf_counter() - start, allowance)
            bar.update()
        setting = one_case.Setting(plan.threads, plan.machine, sgemm, 0.0, plan.least)
        compared = [n for n in (BASELINE, "fastrnn") if n in plan.names or n == BASELINE]
        for case in plan.memory:
            _show(bar, current, f"memory {case.id}")
            sink.write(one_case.run_memory(case, compared, setting))
            bar.update()
    except KeyboardInterrupt:
        bar.write("interrupted: what was measured is kept")
    finally:
        bar.close()
        if stage:
            stage.close()


def _show(bar, current, text: str) -> None:
    bar.set_description(text, refresh=sys.stderr.isatty())
    current.value = text.encode()[:255]


def present(names) -> tuple[list[str], dict[str, str]]:
    """(contestants that can be imported, reason for each that cannot)."""
    missing = {n: why for n in names if (why := CONTESTANTS[n].missing())}
    return [n for n in names if n not in missing], missing

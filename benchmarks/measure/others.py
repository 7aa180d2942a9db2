"""How busy the machine is with anything but the measurement."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
BUSY = (0, 1, 2, 5, 6, 7)  # of /proc/stat: user, nice, system, irq, softirq, steal


def _busy_seconds(cpus: Iterable[int]) -> float:
    """Seconds that these processors have worked for anyone, or were given to another machine."""
    wanted, seconds = {f"cpu{n}" for n in cpus}, 0.0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name in wanted:
            seconds += sum(int(ticks[k]) for k in BUSY) / TICK
    return seconds


def _own_seconds(pids: Iterable[int]) -> float:
    """Processor seconds of these processes, all of their threads."""
    seconds = 0.0
    for pid in pids:
        try:
            after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:  # it has ended
            continue
        seconds += (int(after_name[11]) + int(after_name[12])) / TICK
    return seconds


@dataclass
class Others:
    """Measures the share of this process's CPUs that others took since `start`.

    pids: further processes that belong to the measurement.
    """

    pids: Callable[[], list[int]] = list

    def start(self) -> None:
        self._then = self._now()

    def share(self) -> float | None:
        """From 0 to 1; None where the system does not tell (no /proc)."""
        now = self._now()
        if now is None or self._then is None:
            return None
        wall, busy, own = (a - b for a, b in zip(now, self._then))
        cpus = len(os.sched_getaffinity(0))
        # A tick or two may fall on either side of the two readings.
        taken = busy - own - 2 / TICK
        return max(0.0, taken / (wall * cpus)) if wall > 0 else 0.0

    def _now(self) -> tuple[float, float, float] | None:
        try:
            busy = _busy_seconds(os.sched_getaffinity(0))
        except OSError:
            return None
        return time.perf_counter(), busy, _own_seconds([os.getpid(), *self.pids()])

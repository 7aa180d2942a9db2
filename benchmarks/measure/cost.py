"""How long a run will take, and how to spread a given time over its cases.

The model is rough on purpose: FLOPs at a share of the machine's sgemm rate, plus a cost a step. It
serves the estimate before a run; while it runs, what cases really took corrects it.
"""

from __future__ import annotations

import numpy as np

from ..cases.case import Case
from ..peers.contestants import CONTESTANTS, step_seconds

RATE_SHARE = 0.6
CALL_SECONDS = 60e-6
FP64_SHARE = 0.35  # of the sgemm rate, that torch.nn reaches in float64
# A float64 reference that would take longer is computed over a case's first steps only.
GATE_SECONDS = 1.0
LONGEST_ALLOWANCE = 10.0


def call_seconds(case: Case, gflops: float) -> float:
    """What one call of torch.nn is expected to take, or the reference scan."""
    step = step_seconds(case.cell)[case.mode == "training"]
    return CALL_SECONDS + case.steps * step + case.flops / (gflops * 1e9 * RATE_SHARE)


def exact_seconds(case: Case, gflops: float) -> float:
    """What the float64 reference of the whole case is expected to take."""
    return 1e-4 + case.flops / (gflops * 1e9 * FP64_SHARE)


class Budget:
    """Spreads seconds over cases: a fixed cost each, and rounds within one common allowance.

    Without a limit a case gets the allowance it was given. With one it gets as much of that as lets
    the remaining cases end in time; a large case takes its least number of rounds and no more.
    """

    def __init__(
        self, cases: list[Case], names, gflops, allowance, least, limit=None, device="cpu"
    ):
        """names: the contestants' names of each case; limit: seconds for all cases, or None."""
        known = [[CONTESTANTS[n] for n in row] for row in names]
        served = [[k for k in row if not k.cannot(c, device)] for c, row in zip(cases, known)]
        gates = np.array([min(GATE_SECONDS, exact_seconds(c, gflops)) for c in cases])
        calls = np.array([call_seconds(c, gflops) for c in cases]) * [len(row) for row in served]
        self._fixed = np.array([sum(k.setup for k in row) for row in served]) + gates + calls
        self._least = least * calls
        self._allowance, self._limit = allowance, limit
        self._spent = self._expected = 0.0
        self._next = 0

    def _total(self, allowance: float) -> float:
        """Expected seconds of the cases still to come."""
        left = slice(self._next, None)
        return float(np.sum(self._fixed[left] + np.maximum(self._least[left], allowance)))

    @property
    def seconds(self) -> float:
        """Expected seconds of the whole run as asked for."""
        return min(self._total(self.allowance()), self._limit or np.inf)

    @property
    def minimum(self) -> float:
        """Expected seconds with the least rounds everywhere."""
        return self._total(0.0)

    @property
    def pace(self) -> float:
        """Real over expected seconds so far, once there is enough to tell."""
        return self._spent / self._expected if self._expected > 1.0 else 1.0

    def allowance(self) -> float:
        """Seconds of timed rounds for the next case."""
        if self._limit is None:
            return self._allowance
        left = (self._limit - self._spent) / max(self.pace, 0.05)
        low, high = 0.0, self._allowance
        for _ in range(30):
            middle = (low + high) / 2
            low, high = (middle, high) if self._total(middle) <= left else (low, middle)
        return low

    def done(self, seconds: float, allowance: float) -> None:
        """Notes what the next case really took with that allowance."""
        expected = self._fixed[self._next] + max(self._least[self._next], allowance)
        self._spent, self._expected = self._spent + seconds, self._expected + expected
        self._next += 1

    @property
    def exhausted(self) -> bool:
        return self._limit is not None and self._spent >= self._limit


def spoken(seconds: float) -> str:
    """A duration for people: 45 s, 12 min, 1.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

"""How time is taken: slots of a few milliseconds, contestants interleaved round by round.

A slot is one untimed call, which wakes caches and thread pools that the last contestant left cold,
then a batch of calls under one pair of clock readings. A round is one slot of every contestant, in
an order that rotates. Ratios are formed within a round, so drift of the machine cancels.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

Call = Callable[[], object]
Slot = Callable[[Call, int], float]

SLOT_SECONDS = 0.002
WARM_BELOW_SECONDS = 0.02  # longer calls warm themselves up within the first percent of their time
MAX_ROUNDS = 31


def cpu_slot(call: Call, calls: int) -> float:
    """Seconds a call, over one batch."""
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def cuda_slot() -> Slot:
    """The same on a GPU: device time, the L2 cache flushed before each call.

    `triton.testing.do_bench` where Triton is there, else CUDA events around each call.
    """
    try:
        from triton.testing import do_bench
    except ImportError:
        return _event_slot(torch.empty(256 << 20, dtype=torch.int8, device="cuda"))
    return lambda call, calls: do_bench(call, warmup=1, rep=5, return_mode="median") / 1e3


def _event_slot(cache: torch.Tensor) -> Slot:
    def slot(call: Call, calls: int) -> float:
        pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(calls)]
        for start, end in pairs:
            cache.zero_()
            start.record()
            call()
            end.record()
        torch.cuda.synchronize()
        return float(np.median([start.elapsed_time(end) for start, end in pairs])) / 1e3

    return slot


@dataclass(frozen=True)
class Timed:
    """seconds [rounds] a call of each contestant, and how many calls one of its slots held."""

    seconds: dict[str, np.ndarray]
    calls: dict[str, int]


def rounds_for(allowance: float, round_seconds: float, least: int) -> int:
    """How many rounds fit into the allowance: at least `least`, at most MAX_ROUNDS."""
    return max(least, min(MAX_ROUNDS, int(allowance / max(round_seconds, 1e-9))))


def interleaved(
    calls: dict[str, Call], allowance: float, least: int, slot: Slot = cpu_slot
) -> Timed:
    """Times every call in rounds, within about `allowance` seconds."""
    first = {name: slot(call, 1) for name, call in calls.items()}
    slow = min(first.values(), default=0.0) >= WARM_BELOW_SECONDS
    once = first if slow else {n: min(first[n], slot(call, 1)) for n, call in calls.items()}
    batch = {name: max(1, round(SLOT_SECONDS / once[name])) for name in calls}
    warm = {name: once[name] < WARM_BELOW_SECONDS for name in calls}
    round_seconds = sum(once[n] * (batch[n] + warm[n]) for n in calls)
    rounds = rounds_for(allowance, round_seconds, least)
    order, seconds = list(calls), {name: np.empty(rounds) for name in calls}
    gc.collect()
    gc.disable()
    try:
        if slow:  # the first calls were a round already
            for name in order:
                seconds[name][0] = first[name]
        for r in range(int(slow), rounds):
            turn = r % len(order)
            for name in order[turn:] + order[:turn]:
                if warm[name]:
                    calls[name]()
                seconds[name][r] = slot(calls[name], batch[name])
    finally:
        gc.enable()
    return Timed(seconds, batch)


def spread(values: np.ndarray) -> tuple[float, float, float]:
    """20th, 50th and 80th percentile."""
    p20, p50, p80 = np.percentile(values, (20, 50, 80))
    return float(p20), float(p50), float(p80)


class Sgemm:
    """The machine's matrix rate in GFLOP/s, by torch.mm at 1024^3, measured again as a run goes."""

    SIZE, STALE_SECONDS = 1024, 10.0

    def __init__(self, device: str = "cpu"):
        self._a = torch.randn(self.SIZE, self.SIZE, device=device)
        self._b = torch.randn(self.SIZE, self.SIZE, device=device)
        self._slot = cpu_slot if device == "cpu" else cuda_slot()
        self._rate, self._taken = 0.0, float("-inf")

    def rate(self) -> float:
        """The median of five products; a fresh one every ten seconds."""
        if time.perf_counter() - self._taken > self.STALE_SECONDS:
            product = lambda: torch.mm(self._a, self._b)  # noqa: E731
            product()
            seconds = float(np.median([self._slot(product, 1) for _ in range(5)]))
            self._rate, self._taken = 2 * self.SIZE**3 / seconds / 1e9, time.perf_counter()
        return self._rate

"""Contestants in processes of their own, of which one at a time is awake.

Thread pools of one process spoil each other: OpenMP's, ONNX Runtime's and XLA's threads go on
spinning for a while after a call. Each contestant has a process here, and whoever is not asked is
stopped (SIGSTOP): it takes no processor time, whatever its threads would be doing.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection

import torch
from torch import Tensor

from ..cases import problem
from ..cases.case import Case
from ..peers.contestants import CONTESTANTS, Runner
from . import timing

DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)
END_SECONDS = 10


class Apart:
    """One contestant's process, stopped whenever another one is asked."""

    def __init__(self, name: str, threads: int):
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        args = (theirs, name, threads, os.getpid())
        self.process = context.Process(target=_serve, args=args, daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, action: str, *args):
        """The action's result; RuntimeError with the child's own words where it raised one."""
        try:
            self._ours.send((action, args))
            fine, value = self._ours.recv()
        except (EOFError, ConnectionError) as lost:
            self.process.join(END_SECONDS)
            status = self.process.exitcode
            raise RuntimeError(f"its process ended with status {status}") from lost
        if not fine:
            raise RuntimeError(value)
        return value

    def stop(self) -> None:
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        self.wake()
        self.process.terminate()
        self.process.join(END_SECONDS)
        self._ours.close()

    def _signal(self, number: int) -> None:
        if self.process.is_alive():
            os.kill(self.process.pid, number)


@dataclass(frozen=True)
class Call:
    """A case that a process holds ready: called as a contestant of this process is."""

    stage: Stage
    name: str

    def __call__(self) -> None:
        self.stage.ask(self.name, "slot", 1)

    def results(self, _) -> dict[str, Tensor]:
        return {k: torch.from_numpy(v) for k, v in self.stage.ask(self.name, "results").items()}


class Stage:
    """The processes of all contestants; it is a builder of Runners, and what times them."""

    def __init__(self, threads: int):
        self._threads = threads
        self._known: dict[str, Apart] = {}
        self._awake: Apart | None = None

    @property
    def pids(self) -> list[int]:
        return [a.process.pid for a in self._known.values() if a.process.is_alive()]

    def ask(self, name: str, action: str, *args):
        """Wakes that contestant's process alone and asks it."""
        known = self._known.get(name)
        if known is None or not known.process.is_alive():
            if self._awake:
                self._awake.stop()
            known = self._known[name] = self._awake = Apart(name, self._threads)
        elif known is not self._awake:
            self._awake.stop()
            known.wake()
            self._awake = known
        return known.ask(action, *args)

    def build(self, name: str, made: problem.Problem, threads: int) -> Runner:
        """The contestant's case, made and kept in its process."""
        compiled = self.ask(name, "build", made.case)
        call = Call(self, name)
        return Runner(call, call.results, compiled)

    def slot(self, call: Call, calls: int) -> float:
        """Seconds a call, taken in its process; a slot of `timing.interleaved`."""
        return self.ask(call.name, "slot", calls)

    def close(self) -> None:
        for known in self._known.values():
            known.close()
        self._known, self._awake = {}, None


class _Served:
    """What a contestant's process does when asked."""

    def __init__(self, name: str, threads: int):
        self._name, self._threads = name, threads
        self._runner: Runner | None = None

    def build(self, case: Case) -> float | None:
        self._runner = None  # before the next one takes memory
        made = problem.make(case)
        torch.set_grad_enabled(made.training)
        self._runner = CONTESTANTS[self._name].build(made, self._threads)
        return self._runner.compiled

    def slot(self, calls: int) -> float:
        return timing.cpu_slot(self._runner.call, calls)

    def results(self) -> dict:
        found = self._runner.read(self._runner.call())
        # NumPy has no bfloat16; float32 holds its values exactly.
        plain = {k: v.float() if v.dtype == torch.bfloat16 else v for k, v in found.items()}
        return {k: v.detach().numpy() for k, v in plain.items()}


def _serve(pipe: Connection, name: str, threads: int, parent: int) -> None:
    """The child: answers until the pipe is closed; it ends with its parent, even when stopped."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        return
    torch.set_num_threads(threads)
    served = _Served(name, threads)
    while True:
        try:
            action, args = pipe.recv()
        except EOFError:
            return
        try:
            answer = True, getattr(served, action)(*args)
        except Exception as problem:  # told to the parent, which makes it a result
            answer = False, f"{type(problem).__name__}: {problem}"
        pipe.send(answer)

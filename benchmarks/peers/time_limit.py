"""Compiling with a limit: in a process that can be ended, into a cache that this one then reads."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict

from ..cases.case import Case
from ..cases.problem import Problem

CACHE = "TORCHINDUCTOR_CACHE_DIR"


@contextlib.contextmanager
def compiled_beforehand(problem: Problem, loop: str, threads: int, limit: float) -> Iterator[float]:
    """Within it torch.compile finds that loop (a class of loops.py) in its cache.

    Gives the seconds that compiling took without a cache. TimeoutError after `limit` seconds.
    """
    with tempfile.TemporaryDirectory(prefix="fastrnn-compile-") as folder:
        # without workers, which would outlive a process that is killed
        changed = {CACHE: folder, "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        place = {"device": problem.x.device.type, "threads": threads}
        asked = {"case": asdict(problem.case), "loop": loop} | place
        seconds = _ask(json.dumps(asked), os.environ | changed, limit)
        before = os.environ.get(CACHE)
        os.environ[CACHE] = folder
        try:
            yield seconds
        finally:
            del os.environ[CACHE]
            if before is not None:
                os.environ[CACHE] = before


def _ask(asked: str, environment, limit: float) -> float:
    """The child's answer; its compilers end with it."""
    command = [sys.executable, "-m", "benchmarks.peers.time_limit", asked]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    child = subprocess.Popen(command, env=environment, start_new_session=True, **pipes)
    try:
        said, complaints = child.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"timed out after {limit:g} s of compiling") from None
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
    if child.returncode != 0:
        last = (complaints.strip().splitlines() or ["no output"])[-1]
        raise RuntimeError(f"the compiling process failed: {last}")
    return float(said.splitlines()[-1])


def _compile(asked: dict) -> float:
    """In the child: seconds to compile a case's loop, with the first call."""
    import torch

    from ..cases import problem
    from . import loops

    torch.set_num_threads(asked["threads"])
    made = problem.make(Case(**asked["case"]), asked["device"])
    with torch.set_grad_enabled(made.training):
        return loops.compile_whole(made, getattr(loops, asked["loop"])).compiled


if __name__ == "__main__":
    print(_compile(json.loads(sys.argv[1])))

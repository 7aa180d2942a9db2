"""Threads of a measuring process: as many as asked for, on CPUs of their own."""

from __future__ import annotations

import contextlib
import os

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@contextlib.contextmanager
def pinned(threads: int):
    """Processes started inside inherit the first `threads` CPUs and the matching environment.

    Pinned before it starts, no library of a process can size its thread pool by more CPUs.
    """
    cpus = os.sched_getaffinity(0)
    before = {name: os.environ.get(name) for name in VARIABLES}
    os.environ.update(dict.fromkeys(VARIABLES, str(threads)))
    os.sched_setaffinity(0, sorted(cpus)[:threads])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cpus)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

"""Models of other libraries, whole, with torch.nn's layers and with fastrnn's, interleaved."""

from __future__ import annotations

import multiprocessing
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from ..clients import registry
from ..errors import UsageError
from ..measure import records
from ..measure.one_case import check_writable
from ..measure.pinning import pinned
from ..measure.whole_model import Row, measure
from ..report import clients as report

WHAT = (
    "One thread, float32, CPU time; torch.nn's time over fastrnn's in the same round, median "
    "(p20–p80). Share: that of the recurrent layers in inference with torch.nn's. Difference: the "
    "largest of any number of the results. Training: forward, loss and backward; RecurrentPPO's is "
    "all of `learn`. Without dropout, weights are random."
)


def _in_process(place: int) -> Row:
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of the libraries; what matters is in the row
    return measure(registry.CLIENTS[place])


def _row(place: int) -> Row:
    """Measured in a process of its own: libraries change settings, and may die."""
    client = registry.CLIENTS[place]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        try:
            return pool.submit(_in_process, place).result()
        except BrokenProcessPool:
            about = client.package, client.title, client.shapes
            return Row(*about, status="failed", why="its process died")


def run(only: str | None, out: Path) -> int:
    """Prints the table and writes clients.md and clients.csv; 1 if a result was wrong."""
    places = [registry.CLIENTS.index(client) for client in registry.chosen(only)]
    if not places:
        raise UsageError(f"clients: no model has {only!r} in its name")
    try:
        check_writable(out)
    except OSError as problem:
        raise UsageError(f"--out {out} cannot be written: {problem.strerror}") from problem
    machine, rows = records.machine("cpu"), []
    with pinned(1):
        for place in places:
            rows.append(_row(place))
            print(report.told(rows[-1]), file=sys.stderr, flush=True)
    table = pd.DataFrame([asdict(machine) | asdict(row) for row in rows])
    table.to_csv(out / "clients.csv", index=False)
    where = f"{machine.machine}, torch {machine.torch}, commit {machine.commit}, {machine.date}."
    text = "\n\n".join([report.table(rows), WHAT, where, report.times(rows)])
    (out / "clients.md").write_text(f"# Models of other libraries\n\n{text}\n")
    print(f"{text}\n\nwritten: {out / 'clients.md'} and clients.csv")
    return int(any(row.status == "WRONG" for row in rows))

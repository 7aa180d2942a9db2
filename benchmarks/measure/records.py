"""One flat record schema for all results, and the machine they come from.

A row is one contestant in one case and one metric. CSV is written row by row as a run goes, so that
an interrupted run keeps what it measured; a JSON list of the same rows is written at its end.
"""

from __future__ import annotations

import csv
import datetime
import os
import platform
import subprocess
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pandas as pd

from ..cases.case import AXES, Case
from ..errors import UsageError

SCHEMA = 1
REPOSITORY = Path(__file__).parents[2]
CODE = ("csrc", "fastrnn", "benchmarks")  # what a measurement depends on


@dataclass(frozen=True)
class Machine:
    """Where, when and on what a run was made; repeated in every row."""

    date: str
    commit: str
    device: str
    machine: str
    cores: int
    torch: str


@dataclass(frozen=True)
class Record(Machine):
    """status: ok, WRONG, failed, missing (contestant), unsupported (case), unsteady (timed, but no
    ratio can be read from it); p20, p50, p80 in `unit`.

    ratio: the baseline's time over this one's within a round, so above 1 is faster; for memory this
    growth over the baseline's, so below 1 is smaller.
    metric: time, memory, or compile: seconds until a contestant that compiles itself was ready.
    error: largest error of any result tensor, relative to its magnitude, and the baseline's on it.
    """

    threads: int
    contestant: str
    version: str
    cell: str
    mode: str
    B: int
    T: int
    I: int  # noqa: E741
    H: int
    layers: int
    directions: int
    dtype: str
    ragged: bool
    metric: str
    status: str
    unit: str = ""
    p20: float | None = None
    p50: float | None = None
    p80: float | None = None
    baseline: str = ""
    ratio_p20: float | None = None
    ratio: float | None = None
    ratio_p80: float | None = None
    rounds: int = 0
    calls: int = 0
    error: float | None = None
    baseline_error: float | None = None
    gate_steps: int = 0
    sgemm_gflops: float | None = None
    note: str = ""
    schema: int = SCHEMA


COLUMNS = tuple(f.name for f in fields(Record))
TIME, MEMORY, COMPILE = "time", "memory", "compile"


def _git(*args: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(REPOSITORY), *args], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def commit() -> str:
    """The short commit, + where measured code has changes; "unknown" outside a git checkout."""
    head = _git("rev-parse", "--short=10", "HEAD")
    return (head or "unknown") + ("+" if _git("status", "--porcelain", "-uno", "--", *CODE) else "")


def same_code(one: str, other: str) -> bool:
    """Whether two values of `commit` stand for the same measured code."""
    if one == other:
        return True
    if "unknown" in one + other or "+" in one + other:
        return False
    diff = ["git", "-C", str(REPOSITORY), "diff", "--quiet", one, other, "--", *CODE]
    return subprocess.run(diff, capture_output=True, check=False).returncode == 0


def cpu_name() -> str:
    """The processor's own name, with the widest vector instructions that the kernels could use."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    found = dict(map(str.strip, line.split(":", 1)) for line in lines if ":" in line)
    flags = found.get("flags", "").split()
    isa = next((name for name in ("avx512_bf16", "avx512f", "avx2") if name in flags), "baseline")
    return f"{found.get('model name', platform.machine())} ({isa})"


def machine(device: str) -> Machine:
    """This machine, now."""
    import torch

    name = torch.cuda.get_device_name() if device == "cuda" else cpu_name()
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%MZ")
    cores = len(os.sched_getaffinity(0))
    return Machine(now, commit(), device, name, cores, torch.__version__)


class Sink:
    """Appends records to a CSV file; every case is on disk before the next begins."""

    def __init__(self, path: Path):
        self._path = path
        if not path.exists():
            with path.open("w", newline="") as file:
                csv.writer(file).writerow(COLUMNS)

    def write(self, records: list[Record]) -> None:
        with self._path.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerows(_short(asdict(r)) for r in records)


def _short(row: dict) -> dict:
    """Numbers as written: six digits are more than any measurement has."""
    return {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()}


def read(path: Path | str) -> pd.DataFrame:
    """A result file (.csv, .csv.gz or .json); UsageError where it is not one of this schema."""
    path = Path(path)
    try:
        if path.name.endswith(".json"):
            found = pd.read_json(path, orient="records", dtype={"version": str, "commit": str})
        else:
            found = pd.read_csv(path, dtype={"version": str, "commit": str}, keep_default_na=True)
    except (OSError, ValueError, pd.errors.ParserError) as problem:
        raise UsageError(f"cannot read {path}: {problem}") from problem
    if "schema" not in found:
        raise UsageError(f"{path} is not a result file of this suite: it has no column 'schema'")
    others = sorted(set(found["schema"]) - {SCHEMA})
    if others:
        raise UsageError(f"{path} has schema {others[0]}, this suite reads schema {SCHEMA}")
    absent = [c for c in COLUMNS if c not in found]
    if absent:
        raise UsageError(f"{path} lacks the columns {', '.join(absent)}")
    for text in ("note", "unit", "baseline", "version"):
        found[text] = found[text].astype(object).where(found[text].notna(), "")
    return found


def write_json(found: pd.DataFrame, path: Path) -> None:
    found.to_json(path, orient="records", indent=1)


def measured(found: pd.DataFrame) -> set[tuple[Case, int, str]]:
    """(case, threads, metric) of everything a result file holds, whatever came of it."""
    rows = found[found["metric"].isin((TIME, MEMORY))]
    columns = rows[[*AXES, "threads", "metric"]].drop_duplicates()
    return {(Case(*row[:-2]), row[-2], row[-1]) for row in columns.itertuples(index=False)}

"""A result file as one Markdown report with its pictures."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from ..errors import UsageError
from ..measure import records
from . import custom_cells, plots, summary, tables, targets

REPORT, SHOWN_LINES = "report.md", 200


def _header(found: pd.DataFrame) -> str:
    """Machine, versions, date and commit; more than one value of any is said."""
    lines = []
    for field, words in (
        ("machine", "machine"),
        ("device", "device"),
        ("cores", "cores usable"),
        ("torch", "torch"),
        ("commit", "commit (+: with changes)"),
        ("date", "measured (UTC)"),
    ):
        values = sorted(map(str, found[field].unique()))
        lines.append(f"- {words}: {', '.join(values)}")
    rates = found.dropna(subset="sgemm_gflops").groupby("threads")["sgemm_gflops"]
    for threads, rate in rates:
        low, high = rate.min(), rate.max()
        lines.append(
            f"- sgemm at 1024^3, {threads} thread(s): {rate.median():.0f} GFLOP/s "
            f"(from {low:.0f} to {high:.0f} in the course of the run)"
        )
    return "\n".join(lines)


def _case_tables(rows: pd.DataFrame) -> list[str]:
    parts = []
    for (threads, mode), group in rows.groupby(["threads", "mode"]):
        count = group["case"].nunique()
        title = f"### {mode}, {threads} thread(s)"
        if count > tables.ROW_LIMIT:
            parts.append(f"{title}\n\n{count} cases: in the result file")
        else:
            parts.append(f"{title}\n\n{tables.case_table(group)}")
    return parts


def text(found: pd.DataFrame, pictures: list[Path] = ()) -> str:
    """The report; pictures by their file names."""
    rows = tables.times(found)
    if rows.empty:
        raise UsageError("the result file holds no timed case yet")
    cut = rows[(rows["gate_steps"] > 0) & (rows["gate_steps"] < rows["T"])]["case"].nunique()
    baselines = ", ".join(tables.ordered(rows["baseline"]))
    parts = [
        "# Benchmark report",
        _header(found),
        f"A/A check: {summary.same_twice(rows)}.",
        "Times are medians a call (p20–p80). A ratio is the time of the baseline "
        f"({baselines}) over the contestant's, "
        "formed within a round, median: above 1 is faster, below 1 is bold. What is WRONG is not "
        "timed. " + (f"In {cut} cases the gate compared the first steps only." if cut else ""),
        "## Contestants",
        summary.contestants(found),
        "## Summary",
    ]
    has_ours = summary.OURS in set(summary.timed(rows)["contestant"])
    if not summary.to_torch(rows).empty:
        parts.append(summary.against_baseline(rows))
        if has_ours:
            parts += ["### Targets of the CPU kernels", targets.table(rows)]
            parts += ["### fastrnn by region", summary.regions(rows)]
    parts += custom_cells.parts(found, rows)
    if has_ours:
        parts += ["### Cases that fastrnn loses", summary.losing(rows)]
    parts += ["### Wrong, failed or unsteady", summary.mistakes(rows)]
    parts += [f"![{p.stem}]({p.name})" for p in pictures]
    if (found["metric"] == records.MEMORY).any():
        parts += ["## Peak memory of a training step", tables.memory_table(found)]
    return "\n\n".join([*parts, "## Cases", *_case_tables(rows)]) + "\n"


def write(found: pd.DataFrame, folder: Path) -> str:
    """Writes report.md and the pictures; returns what the terminal shows: all of it, if short."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        pictures = plots.draw(found, tables.times(found), folder)
        whole = text(found, pictures)
        (folder / REPORT).write_text(whole)
    except OSError as problem:
        raise UsageError(f"{folder} cannot be written: {problem.strerror}") from problem
    shown = whole if len(whole.splitlines()) <= SHOWN_LINES else whole.split("\n## Cases")[0]
    return f"{shown}\nwritten: {folder / REPORT} and {len(pictures)} pictures"

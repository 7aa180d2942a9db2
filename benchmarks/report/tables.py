"""Result rows as Markdown tables: one line a case, every contestant beside torch.nn."""

from __future__ import annotations

import pandas as pd

from ..cases.case import AXES, Case
from ..measure.records import MEMORY, TIME
from ..peers.contestants import AGAIN, CONTESTANTS

ROW_LIMIT = 120


def case_of(row) -> Case:
    return Case(*(getattr(row, axis) for axis in AXES))


def ordered(names) -> list[str]:
    """Contestants in the order of the registry."""
    return [n for n in CONTESTANTS if n in set(names)]


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table: first column to the left, the others to the right."""
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def number(value: float) -> str:
    """Three significant digits, without an exponent for the sizes that occur here."""
    if value != value:
        return ""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def times(found: pd.DataFrame) -> pd.DataFrame:
    """The rows of timed cases, each with its Case under `case`."""
    rows = found[found["metric"] == TIME].copy()
    rows["case"] = [case_of(r) for r in rows.itertuples()]
    return rows


def _cell(row: pd.Series | None, baseline: bool) -> str:
    if row is None or row["status"] == "unsupported":
        return "–"
    if row["status"] != "ok":
        return f"**{row['status']}**"
    if baseline:
        return f"{number(row['p50'])} ({number(row['p20'])}–{number(row['p80'])})"
    text = f"{number(row['p50'])} · {row['ratio']:.2f}x"
    return f"**{text}**" if row["ratio"] < 1 else text


def _share(row: pd.Series | None, case: Case) -> str:
    """Percent of the sgemm rate that the fastest contestant's own time amounts to."""
    if row is None or row["status"] != "ok":
        return "–"
    return f"{100 * case.flops / (row['p50'] * 1e3) / row['sgemm_gflops']:.0f}%"


def case_table(rows: pd.DataFrame) -> str:
    """Time in µs a call of every contestant; rows are of one mode and one thread count."""
    names = [n for n in ordered(rows["contestant"]) if n != AGAIN]
    served = rows[rows["status"] != "unsupported"]["contestant"].unique()
    names = [n for n in names if n in served]
    lines = []
    for case, group in rows.groupby("case"):
        by_name = {r["contestant"]: r for _, r in group.iterrows()}
        cells = [_cell(by_name.get(n), n == names[0]) for n in names]
        share = _share(by_name.get("fastrnn"), case) if case.dtype == "float32" else "–"
        lines.append([case.id, *cells, share])
    shown = [names[0] + " µs (p20–p80)", *(f"{n} µs · ratio" for n in names[1:])]
    return markdown(["case", *shown, "fastrnn, of sgemm"], lines)


def memory_table(found: pd.DataFrame) -> str:
    """Growth of the resident set in one training step, MiB, with the whole process in brackets."""
    rows = found[found["metric"] == MEMORY].copy()
    rows["case"] = [case_of(r) for r in rows.itertuples()]
    names = ordered(rows["contestant"])
    lines = []
    for case, group in rows.groupby("case"):
        by_name = {r["contestant"]: r for _, r in group.iterrows()}
        cells = []
        for name in names:
            row = by_name.get(name)
            if row is None or row["status"] != "ok":
                cells.append("–" if row is None else f"**{row['status']}**")
                continue
            text = f"{row['p50']:.1f} ({row['note'].split()[-2]})"
            cells.append(f"**{text}**" if row["ratio"] > 1 else text)
        lines.append([case.id, *cells])
    return markdown(["case", *(f"{n}, MiB (process)" for n in names)], lines)

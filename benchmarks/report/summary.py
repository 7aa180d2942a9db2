"""What a result file says in a few lines: ratios, lost cases, the A/A check."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..measure.records import COMPILE
from ..peers.contestants import AGAIN, BASELINE, CONTESTANTS
from .tables import markdown, number, ordered

OURS = "fastrnn"
NOT_COMPARED = ("WRONG", "failed", "unsteady")
NOT_PEERS = (OURS, "fastrnn-lengths", "fastrnn-triton", "reference", AGAIN)


def geomean(values) -> float:
    return (
        float(np.exp(np.mean(np.log(np.asarray(values, float))))) if len(values) else float("nan")
    )


def timed(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows that passed the gate and were timed."""
    return rows[rows["status"] == "ok"]


def to_torch(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows whose ratio refers to torch.nn, not to the reference scan."""
    return rows[rows["baseline"] == BASELINE]


def against_baseline(rows: pd.DataFrame) -> str:
    """Each contestant's ratio to torch.nn, by mode and thread count, for the cells torch.nn has."""
    lines = []
    compared = to_torch(timed(rows))
    compared = compared[~compared["contestant"].isin((BASELINE, AGAIN))]
    for (threads, mode), group in compared.groupby(["threads", "mode"]):
        for name in ordered(group["contestant"]):
            ratios = group[group["contestant"] == name]
            worst = ratios.loc[ratios["ratio"].idxmin()]
            lines.append(
                [
                    f"{name}, {mode}, {threads} thread(s)",
                    str(len(ratios)),
                    f"{geomean(ratios['ratio']):.2f}x",
                    f"{ratios['ratio'].median():.2f}x",
                    str(int((ratios["ratio"] < 1).sum())),
                    f"{worst['ratio']:.2f}x {worst['case'].id}",
                ]
            )
    return markdown(["against torch.nn", "cases", "geomean", "median", "slower", "worst"], lines)


def against_best(rows: pd.DataFrame) -> pd.DataFrame:
    """fastrnn's rows with `best`, the fastest other contestant, and `best_ratio` against it.

    Both ratios were formed against the baseline within rounds; this divides their medians.
    """
    good = timed(rows)
    others = good[~good["contestant"].isin(NOT_PEERS)].dropna(subset="ratio")
    keys = ["case", "threads"]
    if others.empty:
        return good.iloc[:0].assign(best="", best_ratio=0.0)
    best = others.loc[others.groupby(keys)["ratio"].idxmax(), [*keys, "contestant", "ratio"]]
    best = best.rename(columns={"contestant": "best", "ratio": "best_of"})
    ours = good[good["contestant"] == OURS].merge(best, on=keys)
    return ours.assign(best_ratio=ours["ratio"] / ours["best_of"])


def _region(row) -> str:
    if row.T == 1:
        return "one step (T=1)"
    batch = "B<=16" if row.B <= 16 else "B>16"
    return f"{batch} H<=256" if row.H <= 256 else f"{batch} H>256"


def regions(rows: pd.DataFrame) -> str:
    """fastrnn against torch.nn and against the best contestant, by region of the grid, float32."""
    ours = against_best(to_torch(rows[rows["dtype"] == "float32"]))
    ours = ours.assign(region=[_region(r) for r in ours.itertuples()])
    lines = []
    for (threads, mode, region, cell), group in ours.groupby(["threads", "mode", "region", "cell"]):
        columns = [group["ratio"], group["best_ratio"]]
        figures = [f"{f(c):.2f}x" for c in columns for f in (geomean, min)]
        lost = str(int((group["best_ratio"] < 1).sum()))
        lines.append(
            [f"{mode}, {region}, {cell}, {threads} thread(s)", str(len(group)), *figures, lost]
        )
    header = ["region", "cases", "torch.nn geomean", "worst", "best peer geomean", "worst", "lost"]
    return markdown(header, lines)


def losing(rows: pd.DataFrame, limit: int = 60) -> str:
    """Cases where another contestant is faster than fastrnn, the worst first."""
    lost = against_best(rows).query("best_ratio < 1").sort_values("best_ratio")
    if lost.empty:
        return "none"
    lines = [
        [
            r.case.id,
            str(r.threads),
            number(r.p50),
            r.best,
            f"{r.best_ratio:.2f}x",
            f"{r.ratio:.2f}x",
        ]
        for r in lost.head(limit).itertuples()
    ]
    header = ["case", "threads", "fastrnn µs", "fastest", "against it", "against baseline"]
    more = f"\n\nand {len(lost) - limit} more, in the result file" if len(lost) > limit else ""
    return markdown(header, lines) + more


def same_twice(rows: pd.DataFrame) -> str:
    """The A/A check in words: torch.nn against itself, timed as two contestants."""
    again = timed(rows)
    again = again[again["contestant"] == AGAIN].dropna(subset="ratio")
    if again.empty:
        return "not run"
    away = (again["ratio"] - 1).abs()
    wide = again["ratio_p80"] - again["ratio_p20"]
    outside = int((away > wide).sum())
    return (
        f"torch.nn against itself in {len(again)} cases: median ratio "
        f"{again['ratio'].median():.3f}, four fifths of the cases within "
        f"{100 * np.percentile(away, 80):.1f}% of 1; the rounds of a case spread over "
        f"{100 * wide.median():.1f}% (p20 to p80, median case); {outside} of {len(again)} came out "
        "farther from 1 than their own spread"
    )


def contestants(found: pd.DataFrame) -> str:
    """Who ran, who is missing and why."""
    lines, found = [], found[found["metric"] != COMPILE]
    for name in CONTESTANTS:
        rows = found[found["contestant"] == name]
        if rows.empty:
            continue
        count = rows["status"].value_counts()
        version = next((v for v in rows["version"] if isinstance(v, str) and v), "")
        absent = rows[rows["status"] == "missing"]["note"]
        note = absent.iloc[0] if len(absent) else _refusals(rows)
        lines.append([name, version, *(str(count.get(s, 0)) for s in ("ok", *NOT_COMPARED)), note])
    return markdown(["contestant", "version", "timed", *NOT_COMPARED, "not served"], lines)


def _refusals(rows: pd.DataFrame) -> str:
    notes = rows[rows["status"] == "unsupported"]["note"].value_counts()
    return "; ".join(f"{count}: {note}" for note, count in notes.items()).replace("|", "/")


def mistakes(rows: pd.DataFrame, limit: int = 40) -> str:
    """WRONG and failed entries, which were not timed, and those too unsteady for a ratio."""
    bad = rows[rows["status"].isin(NOT_COMPARED)]
    if bad.empty:
        return "none"
    lines = []
    for (case, threads, status, note), group in bad.groupby(
        ["case", "threads", "status", "note"], sort=False
    ):
        who = f"{', '.join(group['contestant'])}: {case.id}, {threads} thread(s)"
        lines.append([who, status, note.replace("|", "/")])
    more = f"\n\nand {len(lines) - limit} more, in the result file" if len(lines) > limit else ""
    return markdown(["case", "status", "why"], lines[:limit]) + more

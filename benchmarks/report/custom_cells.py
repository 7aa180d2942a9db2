"""The suite's own cells in a report: fastrnn's derived kernels against what people write today."""

from __future__ import annotations

import pandas as pd

from ..cases.lookup import in_order
from ..measure.records import COMPILE
from ..peers.contestants import CONTESTANTS, EAGER
from .summary import OURS, geomean, timed
from .tables import markdown, number, ordered

# Of fastrnn's training: the contestant, what of the ratios, and at least how much.
GOALS = (
    (EAGER, "geomean", geomean, 6.0),
    (EAGER, "worst", min, 1.0),
    ("jax", "geomean", geomean, 2.0),
    ("jax", "worst", min, 1.0),
)


def ours(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the other contestants with `times`, how much faster fastrnn is in the same case.

    Both ratios were formed against the eager loop within rounds; this divides their medians.
    """
    good = timed(rows[rows["baseline"] == EAGER]).dropna(subset="ratio")
    mine = good.loc[good["contestant"] == OURS, ["case", "threads", "ratio"]]
    both = good.merge(mine.rename(columns={"ratio": "mine"}), on=["case", "threads"])
    both = both[~both["contestant"].isin((OURS, "reference"))]
    return both.assign(times=both["mine"] / both["ratio"])


def _figure(times: pd.Series) -> str:
    return f"{geomean(times):.2f}x ({times.min():.2f}x) · {len(times)}" if len(times) else "–"


def against_each(rows: pd.DataFrame) -> str:
    """Geomean, minimum and number of cases against each contestant, by mode and cell."""
    both, lines = ours(rows), []
    names = ordered(both["contestant"])
    for (threads, mode), group in both.groupby(["threads", "mode"]):
        parts = {"all cells": group}
        parts |= {cell: group[group["cell"] == cell] for cell in in_order(group["cell"])}
        for title, part in parts.items():
            figures = [_figure(part.loc[part["contestant"] == name, "times"]) for name in names]
            lines.append([f"{mode}, {title}, {threads} thread(s)", *figures])
    return markdown(["fastrnn against", *names], lines)


def goals(rows: pd.DataFrame) -> str:
    """The goals of derived kernels in training against what was measured."""
    both, lines = ours(rows), []
    training = both[both["mode"] == "training"]
    for threads, group in training.groupby("threads"):
        for name, what, value, least in GOALS:
            times = group.loc[group["contestant"] == name, "times"]
            if len(times):
                measured = value(times)
                met = "yes" if measured >= least else "**no**"
                text = f"{name}, training, {what}, {threads} thread(s)"
                lines.append([text, f"{measured:.2f}", f">= {least:g}", met, str(len(times))])
    return markdown(["against", "measured", "goal", "met", "cases"], lines)


def compile_times(found: pd.DataFrame) -> str:
    """How long contestants compiled before their first result, outside all other times."""
    rows, lines = found[(found["metric"] == COMPILE) & (found["status"] == "ok")], []
    for name in ordered(rows["contestant"]):
        for mode, part in rows[rows["contestant"] == name].groupby("mode"):
            spread = [number(f(part["p50"])) for f in (min, pd.Series.median, max)]
            lines.append([f"{name}, {mode}", str(len(part)), *spread])
    return markdown(["compiling, seconds", "cases", "least", "median", "most"], lines)


def inexact(rows: pd.DataFrame) -> str:
    """The errors of contestants that are timed though their method is inexact."""
    lines = []
    for name in (n for n in ordered(rows["contestant"]) if CONTESTANTS[n].inexact):
        good = rows[(rows["contestant"] == name) & (rows["status"] == "ok")]
        for (cell, steps, mode), part in good.groupby(["cell", "T", "mode"]):
            errors = [f"{part[of].max():.1e}" for of in ("error", "baseline_error")]
            lines.append([f"{name}, {cell}, T {steps}, {mode}", *errors])
    return markdown(["timed though inexact", "largest error", "the baseline's"], lines)


def parts(found: pd.DataFrame, rows: pd.DataFrame) -> list[str]:
    """The section of a report; nothing where no case is of the suite's own cells."""
    if not (rows["baseline"] == EAGER).any():
        return []
    made = ["### Cells of one's own"]
    if not ours(rows).empty:
        made += [goals(rows), "Geomean (least) · cases:", against_each(rows)]
    if any(CONTESTANTS[n].inexact for n in timed(rows)["contestant"].unique()):
        made.append(inexact(rows))
    if (found["metric"] == COMPILE).any():
        made.append(compile_times(found))
    return made

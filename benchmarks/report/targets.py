"""The goals of the CPU kernels, against what was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fastrnn.cells import get

from ..cases import layers
from ..cases.presets import MAIN
from ..peers.forms import TORCH_FUSED_ON_CPU
from .summary import against_best, geomean, to_torch
from .tables import markdown


@dataclass(frozen=True)
class Target:
    """A goal of the CPU kernels: which of fastrnn's rows, what of them, and at least how much."""

    text: str
    rows: Callable[[pd.DataFrame], pd.Series]
    value: Callable[[pd.DataFrame], float]
    least: float


def _mode(*modes: str):
    return lambda r: r["mode"].isin(modes)


# The main cells that torch.nn walks step by step on a CPU, in a target's words and as such.
STEPPED = [cell for cell in MAIN if layers.of(cell).torch not in TORCH_FUSED_ON_CPU]
SMALL = "/".join(layers.of(cell).torch.lower() for cell in STEPPED) + " B<=16 H<=256"


def _small_stepped(mode: str):
    return lambda r: (
        (r["mode"] == mode) & (r["B"] <= 16) & (r["H"] <= 256) & r["cell"].isin(STEPPED)
    )


def _large(r: pd.DataFrame) -> pd.Series:
    return (r["B"] == 64) & (r["H"] >= 512) & (r["mode"] != "stream")


def _geo(column: str):
    return lambda r: geomean(r[column])


def _low(column: str):
    return lambda r: r[column].min()


def _sgemm_share(r: pd.DataFrame) -> float:
    flops = np.array([case.flops for case in r["case"]])
    return float((flops / (r["p50"] * 1e3) / r["sgemm_gflops"]).min())


FORWARD, TRAIN, ANY = (
    _mode("inference"),
    _mode("training"),
    _mode("inference", "training", "stream"),
)
SMALL_FORWARD, SMALL_TRAIN = _small_stepped("inference"), _small_stepped("training")
TARGETS = (
    Target("torch.nn, forward, geomean", FORWARD, _geo("ratio"), 3.0),
    Target("torch.nn, forward, worst", FORWARD, _low("ratio"), 1.0),
    Target(
        f"torch.nn, forward, {SMALL}, geomean",
        SMALL_FORWARD,
        _geo("ratio"),
        4.0,
    ),
    Target(f"torch.nn, forward, {SMALL}, worst", SMALL_FORWARD, _low("ratio"), 4.0),
    Target("torch.nn, training, geomean", TRAIN, _geo("ratio"), 4.5),
    Target("torch.nn, training, worst", TRAIN, _low("ratio"), 1.15),
    Target(
        f"torch.nn, training, {SMALL}, geomean",
        SMALL_TRAIN,
        _geo("ratio"),
        8.0,
    ),
    Target(f"torch.nn, training, {SMALL}, worst", SMALL_TRAIN, _low("ratio"), 8.0),
    Target("best contestant, forward, geomean", FORWARD, _geo("best_ratio"), 1.5),
    Target("best contestant, training, geomean", TRAIN, _geo("best_ratio"), 2.0),
    Target("best contestant, every mode, worst", ANY, _low("best_ratio"), 1.0),
    Target("share of sgemm, B=64 H>=512, worst", _large, _sgemm_share, 0.85),
)
STREAM_MICROSECONDS = {c: 13.0 if get(c).gates == 1 else 15.0 for c in MAIN}


def table(rows: pd.DataFrame) -> str:
    """The goals of the CPU kernels against what was measured, float32, for each thread count."""
    ours = against_best(to_torch(rows[rows["dtype"] == "float32"]))
    lines = []
    for threads, group in ours.groupby("threads"):
        for target in TARGETS:
            chosen = group[target.rows(group)]
            if len(chosen):
                value = target.value(chosen)
                met = "yes" if value >= target.least else "**no**"
                measured = [f"{value:.2f}", f">= {target.least:g}", met, str(len(chosen))]
                lines.append([f"{target.text}, {threads} thread(s)", *measured])
        steps = group[(group["mode"] == "stream") & (group["H"] == 48)]
        for row in steps.itertuples():
            limit = STREAM_MICROSECONDS.get(row.cell)
            if limit:
                met = "yes" if row.p50 <= limit else "**no**"
                text = f"one step, {row.cell} H=48, µs, {threads} thread(s)"
                lines.append([text, f"{row.p50:.1f}", f"<= {limit:g}", met, "1"])
    return markdown(["target", "measured", "goal", "met", "cases"], lines)

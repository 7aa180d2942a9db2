"""Pictures of a result file: readable in black and white and by colour-blind eyes, axes with units.

Contestants differ by colour (Okabe and Ito's palette), marker and line style at once.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, NullLocator

from ..cases.lookup import in_order
from ..measure.records import MEMORY
from ..peers.contestants import AGAIN, BASELINE, EAGER
from .summary import geomean, timed
from .tables import case_of, ordered

DOT_LINES = 60
STYLES = {
    "torch.nn": ("#000000", "o", "-"),
    "torch.compile": ("#999999", "x", (0, (1, 1))),
    "fastrnn": ("#D55E00", "s", "-"),
    "fastrnn-lengths": ("#D55E00", "*", ":"),
    "fastrnn-triton": ("#CC79A7", "D", "--"),
    "reference": ("#999999", "+", ":"),
    "onnxruntime": ("#0072B2", "^", "--"),
    "jax": ("#009E73", "v", "-."),
    "flashrnn": ("#56B4E9", "P", "--"),
    "haste": ("#E69F00", "X", "-."),
    "eager loop": ("#000000", "o", "-"),
    "scripted loop": ("#0072B2", "^", "--"),
    "compiled loop": ("#CC79A7", "D", "none"),
    "torch scan": ("#56B4E9", "P", "none"),
    "compiled scan": ("#E69F00", "X", "none"),
    "xlstm": ("#56B4E9", "P", "none"),
    "minGRU-pytorch": ("#E69F00", "X", "none"),
    "log-space scan": ("#CC79A7", "D", "none"),
}
plt.rcParams.update(
    {
        "figure.dpi": 110,
        "savefig.bbox": "tight",
        "font.size": 9,
        "axes.grid": True,
        "grid.alpha": 0.3,
    }
)


def _plain(axis) -> None:
    """1, 2, 10 in place of 10^0 on a logarithmic axis."""
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axis.set_minor_locator(NullLocator())


def _hidden_axis(axes, hidden) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted(set(hidden)))
    _plain(axes.xaxis)
    axes.tick_params(axis="x", labelrotation=60)


def _line(axes, name: str, x, y) -> None:
    color, marker, style = STYLES[name]
    axes.plot(x, y, color=color, marker=marker, linestyle=style, markersize=4, label=name)


def _grid_of_axes(rows: int, columns: int, share_y: bool = True):
    size = (2.3 * columns + 1.2, 2.3 * rows + 0.6)
    return plt.subplots(rows, columns, figsize=size, squeeze=False, sharex=True, sharey=share_y)


def _finish(figure, axes, title: str, path: Path, bottom: str, left: str) -> Path:
    handles = {}
    for ax in axes.flat:
        handles |= dict(zip(*reversed(ax.get_legend_handles_labels())))
    figure.legend(handles.values(), handles, loc="upper center", ncols=6, frameon=False,
                  bbox_to_anchor=(0.5, 0.0))  # fmt: skip
    figure.suptitle(title)
    for ax in axes[-1]:
        ax.set_xlabel(bottom)
    for ax in axes[:, 0]:
        ax.set_ylabel(left)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
    return path


def _plain_layers(rows: pd.DataFrame) -> pd.DataFrame:
    """One dense float32 layer in one direction: what can be compared by H."""
    plain = (rows["layers"] == 1) & (rows["directions"] == 1) & (rows["dtype"] == "float32")
    return timed(rows[plain & ~rows["ragged"] & (rows["contestant"] != AGAIN)])


def _by_hidden(rows: pd.DataFrame) -> pd.DataFrame:
    """What a picture by H can show: cells and batches with at least three sizes."""
    sizes = rows.groupby(["cell", "B"])["H"].transform("nunique")
    return rows[sizes >= 3]


def speedups(rows: pd.DataFrame, baseline: str, mode: str, threads: int, path: Path) -> Path | None:
    """Speed-up against a baseline by H: a column for each B, a row for each cell."""
    chosen = _plain_layers(rows).query("mode == @mode and threads == @threads")
    chosen = chosen[(chosen["baseline"] == EAGER) == (baseline == EAGER)].dropna(subset="ratio")
    chosen = _by_hidden(chosen[~chosen["contestant"].isin((baseline, "reference"))])
    if chosen.empty:
        return None
    cells, batches = in_order(chosen["cell"]), sorted(set(chosen["B"]))
    figure, axes = _grid_of_axes(len(cells), len(batches))
    for (i, cell), (j, batch) in product(enumerate(cells), enumerate(batches)):
        ax, part = axes[i, j], chosen.query("cell == @cell and B == @batch")
        ax.axhline(1, color="black", linewidth=1.2)
        for name in ordered(part["contestant"]):
            by_h = part[part["contestant"] == name].groupby("H")["ratio"].apply(geomean)
            _line(ax, name, by_h.index, by_h.values)
        ax.set_title(f"{cell}, B={batch}", fontsize=9)
        ax.set_yscale("log", base=2)
        _plain(ax.yaxis)
        _hidden_axis(ax, chosen["H"])
    over = "" if baseline == EAGER else "; geometric mean over T and I"
    title = f"Speed-up against {baseline}, {mode}, {_threads(threads)}{over}"
    return _finish(figure, axes, title, path, "hidden units H", "times faster")


def roofline(rows: pd.DataFrame, mode: str, threads: int, path: Path) -> Path | None:
    """Microseconds a time step by H beside the least that the measured sgemm rate allows."""
    chosen = _plain_layers(rows).query("mode == @mode and threads == @threads and I == H")
    chosen = _by_hidden(chosen[chosen["contestant"] != "reference"].query("T >= 10"))
    if chosen.empty:
        return None
    steps = int(chosen["T"].mode().iloc[0])
    chosen = chosen.query("T == @steps").sort_values("H")
    cells, batches = in_order(chosen["cell"]), sorted(set(chosen["B"]))
    figure, axes = _grid_of_axes(len(cells), len(batches))
    lowest = min(chosen["p50"] / chosen["T"]) / 3
    for (i, cell), (j, batch) in product(enumerate(cells), enumerate(batches)):
        ax, part = axes[i, j], chosen.query("cell == @cell and B == @batch")
        for name in ordered(part["contestant"]):
            own = part[part["contestant"] == name]
            _line(ax, name, own["H"], own["p50"] / own["T"])
        bound = part.drop_duplicates("H")
        least = [r.case.flops / r.T / r.sgemm_gflops / 1e3 for r in bound.itertuples()]
        ax.fill_between(bound["H"], np.maximum(least, lowest), lowest, color="0.8",
                        label="faster than sgemm")  # fmt: skip
        ax.set_title(f"{cell}, B={batch}", fontsize=9)
        ax.set_yscale("log")
        _plain(ax.yaxis)
        _hidden_axis(ax, chosen["H"])
    title = f"Time of one step, {mode}, T={steps}, I=H, {_threads(threads)}"
    return _finish(figure, axes, title, path, "hidden units H", "µs a step")


def dots(rows: pd.DataFrame, threads: int, path: Path) -> Path | None:
    """Each case of a short list on a line of its own: ratios to torch.nn with their p20 to p80."""
    chosen = timed(rows).query("threads == @threads and baseline == 'torch.nn'")
    chosen = chosen[~chosen["contestant"].isin(("torch.nn", AGAIN, "reference"))]
    chosen = chosen.dropna(subset="ratio").sort_values(["mode", "case"])
    lines = list(dict.fromkeys(chosen["case"]))
    if not 1 <= len(lines) <= DOT_LINES:
        return None
    figure, ax = plt.subplots(figsize=(7.5, 1.2 + 0.24 * len(lines)))
    at = {case: k for k, case in enumerate(lines)}
    for name in ordered(chosen["contestant"]):
        own = chosen[chosen["contestant"] == name]
        color, marker, _ = STYLES[name]
        reach = [own["ratio"] - own["ratio_p20"], own["ratio_p80"] - own["ratio"]]
        ax.errorbar(own["ratio"], own["case"].map(at), xerr=reach, fmt=marker, color=color,
                    markersize=5, elinewidth=0.8, label=name)  # fmt: skip
    ax.axvline(1, color="black", linewidth=1.2)
    ax.set_xscale("log", base=2)
    _plain(ax.xaxis)
    ax.set_yticks(range(len(lines)), [case.id for case in lines], fontsize=8)
    ax.invert_yaxis()
    ax.set_xlabel(f"times faster than torch.nn, {_threads(threads)} (median; bars: p20 to p80)")
    ax.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=5, frameon=False)
    figure.savefig(path)
    plt.close(figure)
    return path


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def memory(found: pd.DataFrame, path: Path) -> Path | None:
    """Growth of the resident set in one training step, contestants side by side."""
    rows = found[(found["metric"] == MEMORY) & (found["status"] == "ok")]
    if rows.empty:
        return None
    labels = list(dict.fromkeys(case_of(r).id for r in rows.itertuples()))
    names = ordered(rows["contestant"])
    figure, ax = plt.subplots(figsize=(7, 0.9 + 0.42 * len(labels)))
    width = 0.8 / len(names)
    for k, name in enumerate(names):
        own = {case_of(r).id: r.p50 for r in rows[rows["contestant"] == name].itertuples()}
        at = np.arange(len(labels)) + (k - (len(names) - 1) / 2) * width
        values = [own.get(label, 0.0) for label in labels]
        hatch = "" if name == "torch.nn" else "///"
        bars = ax.barh(at, values, width * 0.92, color=STYLES[name][0], hatch=hatch,
                       edgecolor="white", label=name)  # fmt: skip
        ax.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
    ax.set_yticks(range(len(labels)), [label.replace("-training", "") for label in labels])
    ax.invert_yaxis()
    ax.margins(x=0.12)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel("peak memory of one training step, MiB above the process before it")
    ax.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=len(names), frameon=False)
    figure.savefig(path)
    plt.close(figure)
    return path


def draw(found: pd.DataFrame, rows: pd.DataFrame, folder: Path) -> list[Path]:
    """All pictures that the results allow."""
    made = []
    for threads in sorted(set(rows["threads"])):
        made.append(dots(rows, threads, folder / f"cases-{threads}t.png"))
        for mode in ("inference", "training"):
            mark = f"{mode}-{threads}t.png"
            made.append(speedups(rows, BASELINE, mode, threads, folder / f"speedup-{mark}"))
            made.append(speedups(rows, EAGER, mode, threads, folder / f"custom-cells-{mark}"))
            made.append(roofline(rows, mode, threads, folder / f"step-{mark}"))
    made.append(memory(found, folder / "memory.png"))
    return [path for path in made if path]

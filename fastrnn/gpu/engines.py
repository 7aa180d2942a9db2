"""Which CUDA engine walks the steps of a layer, and why.

    stepwise  a GEMM and a pointwise kernel a step: any size, and float64
    block     the recurrent weights of some batch rows in one multiprocessor for all steps
    cluster   in the multiprocessors of a cluster, which read each other's memory (sm_90 and newer)
    grid      in many multiprocessors, h through the L2 cache

FASTRNN_CUDA_ENGINE asks for one. Otherwise ("auto") the fastest one in `table.json` serves, where a
device of this class was measured; else the planner of the native library estimates.
"""

from __future__ import annotations

import functools
import json
import math
import os
from pathlib import Path
from typing import NamedTuple

import torch

from .. import cells

ENGINES = ("auto", "stepwise", "block", "cluster", "grid")
TABLE = Path(__file__).with_name("table.json")


class Limits(NamedTuple):
    """What a device allows, as far as the choice of an engine goes."""

    sms: int
    arch: int  # 90 for compute capability 9.0
    shared: int  # bytes of shared memory that a block may have

    @property
    def device_class(self) -> str:
        """Devices of one class share their row of the table: H100 and H200, say."""
        return f"sm_{self.arch}, {self.sms} multiprocessors"


class Need(NamedTuple):
    """What is asked of an engine."""

    cell: str
    backward: bool
    B: int
    H: int
    D: int
    multiply: str  # "bfloat16", "float16", "float64", "tf32" or "ieee"

    @property
    def dtype(self) -> str:
        return "float32" if self.multiply in ("tf32", "ieee") else self.multiply


class Choice(NamedTuple):
    engine: str
    plan: dict  # what fastrnn::scan_plan says of it
    source: str  # where the choice comes from


def asked() -> str:
    """The value of FASTRNN_CUDA_ENGINE; ValueError if it names no engine."""
    engine = os.environ.get("FASTRNN_CUDA_ENGINE") or "auto"
    if engine not in ENGINES:
        raise ValueError(f"FASTRNN_CUDA_ENGINE must be one of {', '.join(ENGINES)}, got {engine!r}")
    return engine


@functools.cache
def limits(device: torch.device) -> Limits:
    properties = torch.cuda.get_device_properties(device)
    return Limits(
        properties.multi_processor_count,
        10 * properties.major + properties.minor,
        properties.shared_memory_per_block_optin,
    )


@functools.cache
def to_ask_for(library, need: Need, limits: Limits, engine: str) -> str:
    """The engine that the ops are asked for. They plan by "auto" themselves; only what was
    measured has to be told to them."""
    if engine != "auto" or limits.device_class not in table():
        return engine
    return choose(library, need, limits, engine).engine


@functools.cache
def choose(library, need: Need, limits: Limits, engine: str) -> Choice:
    """The engine that serves; RuntimeError where one asked for by name cannot.

    library: torch.ops.fastrnn
    """
    if engine != "auto":
        return _planned(library, need, limits, engine, "asked for")
    fastest, source = measured(table(), need, limits)
    if fastest:
        try:
            return _planned(library, need, limits, fastest, source)
        except RuntimeError:
            source = "estimated: the engine of the nearest measured size does not fit"
    return _planned(library, need, limits, "auto", source)


def _planned(library, need: Need, limits: Limits, engine: str, source: str) -> Choice:
    cell, backward, B, H, D, multiply = need
    plan = json.loads(
        library.scan_plan(cell, backward, B, H, D, need.dtype, multiply == "tf32", engine, *limits)
    )
    return Choice(plan["engine"], plan, source)


@functools.cache
def table() -> dict:
    """Device class -> {"device", "date", "fastest": rows}; what `python -m benchmarks tune` wrote.

    A row: [cell, multiply, "forward" or "backward", H, B, fastest engine, {engine: us a step}].
    """
    return json.loads(TABLE.read_text()) if TABLE.exists() else {}


def measured(table: dict, need: Need, limits: Limits) -> tuple[str | None, str]:
    """(engine, source) of the nearest measured size at least as large, else (None, why not)."""
    entry = table.get(limits.device_class)
    if entry is None:
        return None, "estimated, not measured on this class of device"
    pass_ = "backward" if need.backward else "forward"
    kind = [cells.measured_as(need.cell), need.multiply, pass_]
    rows = need.B * need.D
    sizes = [r for r in entry["fastest"] if r[:3] == kind and r[3] >= need.H and r[4] >= rows]
    if not sizes:
        return None, "estimated, no size as large was measured"
    nearest = min(sizes, key=lambda r: math.log(r[3] / need.H) + math.log(r[4] / max(1, rows)))
    times = ", ".join(f"{engine} {us}" for engine, us in nearest[6].items())
    told = f"measured at H={nearest[3]}, B={nearest[4]}, {entry['date']}: {times} us a step"
    return nearest[5], told


def describe(choice: Choice, need: Need) -> str:
    """One line for `fastrnn.explain`."""
    plan = choice.plan
    parts = [f"{choice.engine} ({choice.source}; {plan['why']})"]
    if choice.engine != "stepwise":
        parts.append(
            f"{plan['blocks']} blocks of {plan['threads']} threads own {plan['units']} units each "
            f"of {plan['rows']} batch rows, {plan['shared']} bytes of shared memory"
        )
    return f"{'backward' if need.backward else 'forward'}: " + "; ".join(parts)

"""`python -m benchmarks tune`: times the CUDA engines and writes the table that "auto" reads.

The scans alone, over ready projections: for each cell, pass, kind of numbers, H and B every engine
that serves, and Triton's scan beside them. A result that is not right is not timed. Row and rule of
the choice: see `fastrnn.gpu.engines`.
"""

from __future__ import annotations

import datetime
import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from fastrnn import cells
from fastrnn.gpu import engines
from fastrnn.gpu import layer as layers
from fastrnn.gpu.host import Scan
from fastrnn.gpu.layer import Layer

from ..cases.presets import MAIN
from ..measure.gate import FLOOR, error

HIDDEN = (64, 128, 256, 384, 512, 768, 1024, 1536, 2048)
BATCH = (1, 8, 16, 32, 128)
NUMBERS = ("bfloat16", "float16", "tf32", "float32")
PASSES = ("forward", "backward")
STEPS = 64
MULTIPLY = {"float32": "ieee"}  # the table's name where it is another

Clock = Callable[[Callable[[], object]], float]  # seconds of one call


@dataclass(frozen=True)
class Point:
    cell: str
    numbers: str
    H: int
    B: int

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32 if self.numbers == "tf32" else getattr(torch, self.numbers)


def points() -> list[Point]:
    return [Point(c, n, h, b) for c, n, h, b in product(MAIN, NUMBERS, HIDDEN, BATCH)]


def event_clock(call: Callable[[], object]) -> float:
    """Median of a few runs between CUDA events, after one to warm up."""
    call()
    pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(7)]
    for start, end in pairs:
        start.record()
        call()
        end.record()
    torch.cuda.synchronize()
    return statistics.median(start.elapsed_time(end) for start, end in pairs) / 1e3


def native_scans(library) -> dict[str, Scan]:
    """One scan for each engine of the native library."""
    from fastrnn.gpu.scan import CudaScan

    return {name: CudaScan(library, name) for name in engines.ENGINES if name != "auto"}


def triton_scan() -> dict[str, Scan]:
    try:
        from fastrnn.triton.engine import TritonScan
    except ImportError:
        return {}
    return {"triton": TritonScan}


@dataclass(frozen=True)
class Made:
    """The tensors of a point, and of the same point in float64."""

    layer: Layer
    gx: Tensor  # [N, G*H]
    grads: list[Tensor]  # of output [N, H] and of the S final states [1, B, H]


def make(point: Point, dtype: torch.dtype, device: str) -> Made:
    gen = torch.Generator().manual_seed(7)
    spec, (h, b) = cells.get(point.cell), (point.H, point.B)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        drawn = torch.randn(*shape, generator=gen) * scale
        return drawn.to(point.dtype).to(device, dtype)

    gx = normal(STEPS, b, spec.gates * h)
    weights = [normal(spec.gates * h, h, scale=h**-0.5), normal(spec.gates * h)]
    state = [normal(1, b, h) for _ in range(spec.states)]
    grads = [normal(STEPS * b, h), *(normal(1, b, h) for _ in range(spec.states))]
    layer = layers.read(point.cell, gx, weights, state, None, None, 1, False)
    return Made(layer, gx.flatten(0, 1), grads)


Results = dict[str, Tensor]
Call = Callable[[], object]


def passes(
    scan: Scan, made: Made, walked: tuple[Tensor, Tensor]
) -> dict[str, tuple[Call, Results]]:
    """Pass -> (a call of it, its named results), of the passes that the scan serves.

    walked: output and saved of a forward pass, for the backward one.
    """

    def forward():
        return scan.forward(made.layer, made.gx, True)

    def backward():
        return scan.backward(made.layer, made.grads[0], made.grads[1:], *walked)

    served = {}
    for name, call in (("forward", forward), ("backward", backward)):
        try:
            found = call()
        except RuntimeError as refusal:
            if "cannot serve" not in str(refusal):
                raise
            continue
        if name == "forward":
            first, states, _ = found
            results = {"output": first}
        else:
            dx, dr, _, states = found  # no cell here has parameters
            results = {"dx": dx, "dr": dr}
        served[name] = call, results | {f"state {k}": s for k, s in enumerate(states)}
    return served


def walk(scan: Scan, made: Made) -> tuple[Tensor, Tensor]:
    output, _, saved = scan.forward(made.layer, made.gx, True)
    return output, saved


def measure(
    point: Point, scans: dict[str, Scan], device: str, clock: Clock
) -> dict[str, dict[str, float]]:
    """Pass -> engine -> microseconds a step, of the engines that serve the point and are right."""
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [flag.allow_tf32 for flag in flags]
    for flag in flags:
        flag.allow_tf32 = point.numbers == "tf32"
    try:
        made, wide = make(point, point.dtype, device), make(point, torch.float64, device)
        plain = scans["stepwise"]
        walked = walk(plain, made)
        exact = passes(plain, wide, walk(plain, wide))
        allowed = _errors(passes(plain, made, walked), exact)
        times: dict[str, dict[str, float]] = {name: {} for name in PASSES}
        for engine, scan in scans.items():
            calls = passes(scan, made, walked)
            errors = _errors(calls, exact)
            for name, (call, _) in calls.items():
                limit = 2 * allowed[name] + 4 * FLOOR[point.numbers]
                if errors[name] > limit:
                    tqdm.write(f"{point} {engine} {name}: WRONG, {errors[name]:.1e} > {limit:.1e}")
                else:
                    times[name][engine] = clock(call) / STEPS * 1e6
        return times
    finally:
        for flag, value in zip(flags, before):
            flag.allow_tf32 = value


def _errors(calls: dict, exact: dict) -> dict[str, float]:
    return {
        name: max(error(found[key], exact[name][1][key]) for key in found)
        for name, (_, found) in calls.items()
    }


def rows(point: Point, times: dict[str, dict[str, float]]) -> list[list]:
    """The table's rows of a point; Triton's time is told, the fastest is one of the native ones."""
    found = []
    multiply = MULTIPLY.get(point.numbers, point.numbers)
    for name, by_engine in times.items():
        native = {e: t for e, t in by_engine.items() if e != "triton"}
        if native:
            told = {e: float(f"{t:.3g}") for e, t in by_engine.items()}
            fastest = min(native, key=native.__getitem__)
            found.append([point.cell, multiply, name, point.H, point.B, fastest, told])
    return found


def write(path: Path, device_class: str, device: str, fastest: list[list]) -> None:
    """Puts a device class into the table, in place of what stood there for it: a row a line."""
    table = json.loads(path.read_text()) if path.exists() else {}
    date = datetime.date.today().isoformat()
    table[device_class] = {"device": device, "date": date, "fastest": fastest}
    parts = []
    for name, entry in sorted(table.items()):
        lines = ",\n".join(f"    {json.dumps(row)}" for row in entry["fastest"])
        head = {k: v for k, v in entry.items() if k != "fastest"}
        parts.append(
            f'  {json.dumps(name)}: {json.dumps(head)[:-1]},\n   "fastest": [\n{lines}\n   ]}}'
        )
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n")


def run(path: Path, only: str | None = None) -> int:
    """The whole table of this machine's GPU."""
    properties = torch.cuda.get_device_properties(0)
    limits = engines.limits(torch.device("cuda", 0))
    scans = native_scans(torch.ops.fastrnn) | triton_scan()
    chosen = [p for p in points() if not only or only in f"{p.cell}-{p.numbers}-H{p.H}-B{p.B}"]
    found = []
    with torch.no_grad():
        for point in tqdm(chosen, unit="size"):
            found += rows(point, measure(point, scans, "cuda", event_clock))
    write(path, limits.device_class, properties.name, found)
    print(f"{len(found)} rows for {limits.device_class} ({properties.name}): {path}")
    return 0

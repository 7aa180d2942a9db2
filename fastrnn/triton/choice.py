"""The choice among the configurations that `config.candidates` lists, the likely best first.

On a GPU the first call of a size times them and remembers the winner. Nothing is timed while a CUDA
graph is captured, or under torch.use_deterministic_algorithms (another configuration may round
differently): there the first one serves that the device takes. It may lack registers or shared
memory for one, or room for programs that must all run at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from triton.runtime.errors import OutOfResources

from .. import cells
from ..gpu.layer import multiply_of
from .config import Config, Need, candidates

if TYPE_CHECKING:
    from ..gpu.layer import Layer

# What the interpreter stands for: the shared memory of sm_80, but one program at a time.
INTERPRETED = dict(shared=166_912, programs=1)

_chosen: dict[tuple, Config] = {}
# (configuration, two CUDA events to record right before and after the kernel, or none)
# -> (results, compiled kernel; None if interpreted)
Run = Callable[..., tuple[Any, Any]]


def _rounded(B: int) -> int:
    """One choice serves every B up to the next power of two."""
    return 1 << (B - 1).bit_length()


def _candidates(need: Need, B: int, D: int, device: torch.device) -> tuple[Config, ...]:
    shared, programs = INTERPRETED["shared"], INTERPRETED["programs"]
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        shared = properties.shared_memory_per_block_optin
        programs = properties.multi_processor_count
    return candidates(need, _rounded(B), D, programs, shared)


def _key(need: Need, cell: str, B: int, D: int, long: bool, device: torch.device) -> tuple:
    """What a choice is remembered for; long: T > 16."""
    return need, cell, _rounded(B), D, long, device.index


def choose(direction: str, layer: Layer, run: Run) -> Any:
    """Runs a kernel with the best configuration known; finds it first where timing is allowed."""
    B, D, spec, device = layer.B, layer.D, layer.spec, layer.device
    need = Need.of(direction, spec, layer.H, layer.multiply)
    options = _candidates(need, B, D, device)
    if device.type == "cuda" and not torch.are_deterministic_algorithms_enabled():
        key = _key(need, spec.name, B, D, layer.T > 16, device)
        if key not in _chosen and not torch.cuda.is_current_stream_capturing():
            times = {option: _milliseconds(run, option, device) for option in options}
            _chosen[key] = min(options, key=times.get)
        if key in _chosen:
            options = (_chosen[key],)
    for option in options[:-1]:
        try:
            return run(option)[0]
        except (OutOfResources, RuntimeError) as error:
            if not _refused(error):
                raise
    return run(options[-1])[0]


def _refused(error: Exception) -> bool:
    """Whether a device has no room for a kernel, of which nothing has run then."""
    return isinstance(error, OutOfResources) or "cooperative launch" in str(error)


def explain(
    cell: str, B: int, H: int, D: int, dtype: torch.dtype, device: torch.device
) -> list[str]:
    """How the kernels hold a layer's R on a device, and why: a line each, for T > 16."""
    lines = []
    for direction in ("forward", "backward"):
        need = Need.of(direction, cells.get(cell), H, multiply_of(dtype))
        options = _candidates(need, B, D, device)
        timed = _chosen.get(_key(need, cell, B, D, True, device))
        source = f"the likely best of {len(options)}, which the first call times"
        told = (timed or options[0]).told(H)
        lines.append(f"{direction}: {told} ({'the fastest when timed' if timed else source})")
    return lines


def _milliseconds(run: Run, config: Config, device: torch.device) -> float:
    """The least time of the kernel in a few runs; infinite where it spills or is refused."""
    with torch.cuda.device(device):
        try:
            if run(config)[1].n_spills:
                return math.inf
        except (OutOfResources, RuntimeError) as error:
            if not _refused(error):
                raise
            return math.inf
        pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(3)]
        for pair in pairs:
            run(config, pair)
        pairs[-1][1].synchronize()
        return min(before.elapsed_time(after) for before, after in pairs)

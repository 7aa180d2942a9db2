"""`python -m fastrnn`: what is installed and compiled, which backend serves what, and why not."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path

import torch

from .. import backends, cells, ops
from ..version import __version__
from . import cached


def versions() -> list[tuple[str, str]]:
    """What runs here: (name, version and where it matters the place)."""
    try:
        triton = metadata.version("triton")
    except metadata.PackageNotFoundError:
        triton = "not installed"
    cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    return [
        ("fastrnn", f"{__version__}  {Path(__file__).parents[1]}"),
        ("torch", f"{torch.__version__}, {cuda}, {torch.get_num_threads()} threads"),
        ("triton", triton),
        ("python", f"{platform.python_version()}, {platform.system()} {platform.machine()}"),
        ("GPU", gpus()),
    ]


def gpus() -> str:
    """The GPUs that torch can use."""
    if not torch.cuda.is_available():
        return "none that torch can use"
    properties = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    return ", ".join(f"{p.name} (sm_{p.major}{p.minor})" for p in properties)


def native() -> list[tuple[str, str]]:
    """What the native library was built with."""
    if not ops.NATIVE_BUILT:
        return [("native library", "not built (FASTRNN_NATIVE=0, or no build in this source tree)")]
    info = ops.BUILD_INFO
    cuda = ", ".join(f"sm_{arch}" for arch in info["cuda_archs"])
    return [
        ("native library", f"for torch {info['torch_target']} and newer"),
        ("instruction sets", f"{', '.join(info['isas'])}; running {info['isa']}"),
        ("CUDA kernels", cuda or "not built (no CUDA in torch or no nvcc when fastrnn was built)"),
    ]


def backend(name: str, device: str) -> str:
    """Says yes, or why the backend cannot serve cells in float32 on this kind of device."""
    try:
        backends.choose(next(iter(cells.CELLS)), device, torch.float32, name)
    except RuntimeError as error:
        return f"no: {str(error).partition(': ')[2]}"
    if device == "cuda" and not torch.cuda.is_available():
        return "ready, but torch can use no GPU here"
    return "yes"


def report() -> str:
    """The whole answer, one fact a line."""
    lines = versions() + native()
    for device in ("cpu", "cuda"):
        for found in backends.serving(device):
            lines.append((f"{found.name} on {device}", backend(found.name, device)))
    lines += cached.summary()
    width = max(len(name) for name, _ in lines) + 2
    return "\n".join(f"{name:<{width}}{fact}" for name, fact in lines)

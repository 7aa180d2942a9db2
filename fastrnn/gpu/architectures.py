"""Which GPUs the compiled CUDA kernels run on."""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch


def runs_on(arch: str, capability: tuple[int, int]) -> bool:
    """Whether code for "80", "90a", "100f" or "90+PTX" (as nvcc names them) runs on that GPU.

    Machine code runs where the major number is the same and the minor one no smaller; with "a" on
    that GPU alone. PTX is compiled by the driver, for any later GPU; with "a" for that one alone.
    """
    number, special, ptx = re.fullmatch(r"(\d+)([af]?)(\+PTX)?", arch).groups()
    built = divmod(int(number), 10)
    if special == "a":
        return built == capability
    if ptx and not special:
        return built <= capability
    return built[0] == capability[0] and built[1] <= capability[1]


def refusal(archs: Iterable[str]) -> str | None:
    """Why kernels for these architectures cannot serve the GPUs here, or None if they can."""
    archs = list(archs)
    for index in range(torch.cuda.device_count()):
        capability = torch.cuda.get_device_capability(index)
        if not any(runs_on(arch, capability) for arch in archs):
            major, minor = capability
            return (
                f"the native library's CUDA kernels are built for {', '.join(archs)}, not for "
                f"GPU {index} ({torch.cuda.get_device_name(index)}, sm_{major}{minor})"
            )
    return None

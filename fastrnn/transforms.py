"""Which of torch's transforms a call is under: torch.func's, forward mode, functionalization."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .torch_private import any_transform, dual_level, transforms_inside


def active(compiling: bool) -> tuple[bool, bool, bool]:
    """(forward mode, any torch.func transform, functionalization) that is active here."""
    if compiling:
        forward_mode, *rest = _while_tracing()
        # Read in traced code, so that torch.compile guards on it.
        return forward_mode or dual_level() >= 0, *rest
    if not any_transform():
        return dual_level() >= 0, False, False
    forward_mode, functionalized = transforms_inside()
    return forward_mode or dual_level() >= 0, True, functionalized


def refuse_dual_numbers(what: str, tensors: Sequence[object]) -> None:
    """RuntimeError where a tensor has a tangent, which would be lost."""
    if dual_level() < 0:
        return
    for tensor in tensors:
        if isinstance(tensor, (list, tuple)):
            refuse_dual_numbers(what, tensor)
        elif isinstance(tensor, Tensor) and forward_ad.unpack_dual(tensor).tangent is not None:
            raise RuntimeError(f"{what} has no forward mode: call the layer itself under it")


@torch.compiler.assume_constant_result
def _while_tracing() -> tuple[bool, bool, bool]:
    """The same: Dynamo enters the transforms that it traces, and guards on them."""
    return active(False)

"""Which of torch's transforms a call is under: torch.func's, forward mode, functionalization.

The private names of torch that tell it are used here alone.
"""

from __future__ import annotations

import torch
from torch.autograd import forward_ad


def active(compiling: bool) -> tuple[bool, bool, bool]:
    """(forward mode, any torch.func transform, functionalization) that is active here."""
    if compiling:
        return _while_tracing()
    if not torch._C._are_functorch_transforms_active():
        return forward_ad._current_level >= 0, False, False
    kinds = {i.key() for i in torch._C._functorch.get_interpreter_stack()}
    kind = torch._C._functorch.TransformType
    forward_mode = kind.Jvp in kinds or forward_ad._current_level >= 0
    return forward_mode, True, kind.Functionalize in kinds


@torch.compiler.assume_constant_result
def _while_tracing() -> tuple[bool, bool, bool]:
    """The same: Dynamo enters the transforms that it traces, and guards on them."""
    return active(False)

"""What fastrnn uses of torch that is not public, and what stands in where a torch lacks it.

All other files use public names, or these. Without a name, a layer's call is right all the same,
and slower or without the one thing that the name is for, as said beside it. Two have no
stand-in: without `BELOW_AUTOGRAD` compiled and exported graphs have no derivative, without
`DispatchMode` no cell can be declared.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor


def _private(module: str, name: str, instead: Any = None) -> Any:
    """module.name, or `instead` where this torch has none of that name."""
    try:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return instead
    return found


# What sees each operation of ATen that runs under it (torch.utils._python_dispatch).
DispatchMode = _private("torch.utils._python_dispatch", "TorchDispatchMode")


def _any_autocast() -> bool:
    return torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")


def _any_requires_grad(*arguments: Any) -> bool:
    return any(
        _any_requires_grad(*a)
        if isinstance(a, (list, tuple))
        else isinstance(a, Tensor) and a.requires_grad
        for a in arguments
    )


# Whether torch.autocast is on for any device: one call of 30 ns where public names take 0.3 us.
any_autocast = _private("torch._C", "_is_any_autocast_enabled", _any_autocast)
# Not None, or true: torch.jit.trace is tracing.
tracing_state = _private("torch._C", "_get_tracing_state", lambda: torch.jit.is_tracing() or None)
# Keeps the current stream busy for that many cycles.
gpu_sleep = _private("torch.cuda", "_sleep", lambda cycles: None)
# Tells a graph what holds of its sizes, which is checked when it runs.
check = _private("torch", "_check", lambda holds: None)
any_requires_grad = _private("torch._C", "_any_requires_grad", _any_requires_grad)


def plain_apply(function: type[torch.autograd.Function]) -> Any:
    """function.apply without what torch.func needs of it, which takes 2 us a call."""
    plain = super(torch.autograd.Function, function)
    return getattr(plain, "apply", function.apply)


# --- which transforms are active (transforms.py) ---
# Without: any may be, and each call takes the form that torch.func can transform.
any_transform = _private("torch._C", "_are_functorch_transforms_active", lambda: True)
_stack = _private("torch._C._functorch", "get_interpreter_stack", lambda: None)
_kinds = _private("torch._C._functorch", "TransformType")
_forward_ad = _private("torch.autograd", "forward_ad")


def dual_level() -> int:
    """Below 0: no forward mode outside torch.func is active, or this torch does not tell."""
    return getattr(_forward_ad, "_current_level", -1)


def transforms_inside() -> tuple[bool, bool]:
    """(forward mode, functionalization): which of the two torch.func's active ones are."""
    stack = _stack()
    if stack is None or _kinds is None:
        return False, False
    kinds = {interpreter.key() for interpreter in stack}
    return _kinds.Jvp in kinds, _kinds.Functionalize in kinds


# --- an op's own derivative (graph.py) ---
BELOW_AUTOGRAD = _private("torch._C", "_AutoDispatchBelowAutograd")
AFTER_AUTOGRAD = _private("torch._C", "_after_autograd_keyset")
# Lets a Function of an op run under torch.func, which has taken its own level off by then.
one_level = _private(
    "torch._functorch.autograd_function", "enable_single_level_autograd_function", nullcontext
)

# --- what Dynamo traces (face.py). Without: isinstance says fastrnn's class, as while tracing ---
_tracing_context = _private("torch._guards", "TracingContext.try_get", lambda: True)


def dynamo_traces() -> bool:
    return _tracing_context() is not None


# --- FlopCounterMode (flops.py). Without: it counts nothing for fastrnn's ops ---
dispatch_modes: Any = _private(
    "torch.utils._python_dispatch", "_get_current_dispatch_mode_stack", lambda: ()
)

# --- per-sample gradients (per_sample.py). Without: ExpandedWeights have no handler ---
_EXPANDED = "torch.nn.utils._expanded_weights.expanded_weights_"
ExpandedWeight = _private(_EXPANDED + "impl", "ExpandedWeight")
implements_per_sample_grads = _private(_EXPANDED + "impl", "implements_per_sample_grads")
set_grad_sample = _private(_EXPANDED + "utils", "set_grad_sample_if_exists")


# --- scripted modules (convert/scripted.py) ---
def scripted_class(module: torch.jit.ScriptModule) -> str:
    """`__torch__.` and the full name of the class that was scripted, a number in it maybe.

    Without: "", and no scripted module is known as one of torch.nn's.
    """
    try:
        return module._c._type().qualified_name()
    except AttributeError:
        return ""


def expanded(weights: Sequence[Tensor]) -> bool:
    return ExpandedWeight is not None and any(isinstance(w, ExpandedWeight) for w in weights)

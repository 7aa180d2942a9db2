"""What accelerate and restore do with the modules of other libraries."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from torch import nn
from torch.jit import ScriptModule

from ..torch_private import scripted_class


class Change(NamedTuple):
    to_fast: Callable[[nn.Module], str | None]
    back: Callable[[nn.Module], None]


CHANGES: dict[type[nn.Module], Change] = {}


def register(
    kind: type[nn.Module],
    to_fast: Callable[[nn.Module], str | None],
    back: Callable[[nn.Module], None],
) -> None:
    """Tells `accelerate` and `restore` what to do with a library's own modules.

    The layers of torch.nn inside such a module are changed anyway; this is for what the module
    itself does with them: a loop over the steps, say.

    Args:
        kind: the class; its subclasses too, unless one is registered itself
        to_fast: called with each such module: changes it in place and returns None, or changes
            nothing and returns the reason, which `report=True` gives to the user
        back: called by `restore`: undoes it

    Both are called for every such module in a model, changed before or not, and must do no harm
    the second time. A later call for the same class replaces the former. Raises TypeError for a
    kind that is no class of modules or what cannot be called, ValueError for one of torch.nn's
    recurrent classes or fastrnn's.
    """
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise TypeError(f"kind must be a subclass of torch.nn.Module, got {kind!r}")
    if issubclass(kind, (nn.RNNBase, nn.RNNCellBase)) and kind.__module__.startswith(
        ("torch.nn.", "fastrnn.")
    ):
        raise ValueError(f"kind must be a class of another library, got {kind.__name__}")
    for name, function in (("to_fast", to_fast), ("back", back)):
        if not callable(function):
            raise TypeError(f"{name} must be a function of a module, got {function!r}")
    CHANGES[kind] = Change(to_fast, back)


def find(module: nn.Module) -> Change | None:
    """What was registered for the module's class, or the nearest of its bases."""
    return next((CHANGES[base] for base in type(module).__mro__ if base in CHANGES), None)


def find_scripted(module: nn.Module) -> str | None:
    """The full name of the registered class that a scripted module was made of, if of one."""
    if not isinstance(module, ScriptModule):
        return None
    names = {f"{kind.__module__}.{kind.__qualname__}" for kind in CHANGES}
    # torch.jit numbers the classes of a name: __torch__.library.___torch_mangle_7.Class
    name = re.sub(r"^__torch__\.|___torch_mangle_\d+\.", "", scripted_class(module))
    return name if name in names else None

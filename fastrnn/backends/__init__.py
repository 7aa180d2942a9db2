"""The backends there are, and which one serves a call.

A backend is an object (`base.Backend`); a file of its own makes it known by `add`.
"""

from __future__ import annotations

import functools
import os
import warnings

import torch

from .. import cells
from .base import Backend, Size
from .native import Cpu, Cuda
from .reference import Reference
from .triton import Triton

__all__ = ["Backend", "Size", "add", "choose", "is_open", "serving", "words"]

# In the order in which "auto" asks them.
_BACKENDS: dict[str, Backend] = {b.name: b for b in (Cpu(), Cuda(), Triton(), Reference())}


def add(backend: Backend) -> None:
    """Makes a backend known. "auto" asks it before the reference, which serves everything."""
    taken = [word for word in (backend.name, *backend.words) if word in words()]
    if taken:
        raise ValueError(f"a backend's name must be new, got {', '.join(map(repr, taken))}")
    _BACKENDS[backend.name] = backend
    _BACKENDS["reference"] = _BACKENDS.pop("reference")  # the last
    _choose_cached.cache_clear()


def words() -> tuple[str, ...]:
    """What `backend=` and FASTRNN_BACKEND may say: "auto", and the words for backends."""
    named = [word for b in _BACKENDS.values() for word in (*b.words, b.name)]
    return ("auto", *dict.fromkeys(named))


def serving(device: str) -> list[Backend]:
    """The backends that are made for that type of device."""
    return [b for b in _BACKENDS.values() if device in b.devices or not b.devices]


def check_word(word: str) -> None:
    if word not in words():
        raise ValueError(f"backend must be one of {', '.join(words())}, got {word!r}")


def choose(
    cell: str, device: str, dtype: torch.dtype, backend: str = "auto", proj: bool = False
) -> tuple[Backend, str]:
    """(backend, reason): which one serves tensors of that type of device and dtype.

    "auto" is $FASTRNN_BACKEND if set, else the first that can; it warns once where only the slow
    reference is left. "native" is cpu or cuda, as the device says. A backend asked for by name that
    cannot serve raises RuntimeError; an unknown name ValueError.
    """
    if torch.compiler.is_compiling():
        name, reason = _choose_for_graph(cell, device, dtype, backend, proj)
        return _BACKENDS[name], reason
    return _choose_cached(cell, device, dtype, backend, proj, _environment(_BACKEND_KEY))


def is_open(backend: str) -> bool:
    """Does nobody ask for a backend by name?"""
    return backend == "auto" and _environment(_BACKEND_KEY) in _SAYS_NOTHING


def _choose(
    cell: str,
    device: str,
    dtype: torch.dtype,
    word: str,
    proj: bool,
    environment: bytes | str | None,
) -> tuple[Backend, str]:
    asked = f"backend={word!r}"
    if word == "auto" and environment not in _SAYS_NOTHING:
        word = os.fsdecode(environment)
        asked = f"FASTRNN_BACKEND={word}"
    check_word(word)
    cells.get(cell)
    if word == "auto":
        return _first_that_can(cell, device, dtype, proj)
    named = [b for b in _BACKENDS.values() if word == b.name or word in b.words]
    refusals = []
    for backend in [b for b in named if device in b.devices] or named:
        refusal = backend.refusal(cell, device, dtype, proj)
        if refusal is None:
            return backend, f"{asked} was asked for"
        refusals.append(refusal)
    wanted = f"{cells.get(cell).title} on {device} in {dtype}"
    raise RuntimeError(f"{asked} cannot serve {wanted}: {'; '.join(refusals)}")


def _first_that_can(cell: str, device: str, dtype: torch.dtype, proj: bool) -> tuple[Backend, str]:
    refusals = []
    for backend in [b for b in _BACKENDS.values() if b.automatic(device)]:
        refusal = backend.refusal(cell, device, dtype, proj)
        if refusal is None:
            break
        refusals.append(f"not {backend.name}: {refusal}")
    title = cells.get(cell).title
    reason = "; ".join([*refusals, f"{backend.title} serve {title} on {device}"])
    if backend.in_torch:
        warnings.warn(f"fastrnn runs {title} on its slow reference backend: {reason}", stacklevel=3)
    return backend, reason


_choose_cached = functools.cache(_choose)


@torch.compiler.assume_constant_result
def _choose_for_graph(*call) -> tuple[str, str]:
    """The same by name, which torch.compile neither traces nor guards."""
    backend, reason = _choose_cached(*call, _environment(_BACKEND_KEY))
    return backend.name, reason


cells.on_add.append(_choose_cached.cache_clear)
# os.environ takes 1 us to say that it has no such key; the dictionary behind it does not.
_environment = getattr(os.environ, "_data", os.environ).get
_SAYS_NOTHING = (None, b"", "", b"auto", "auto")
_BACKEND_KEY = getattr(os.environ, "encodekey", str)("FASTRNN_BACKEND")

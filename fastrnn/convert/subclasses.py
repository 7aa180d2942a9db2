"""A class for a subclass of torch.nn's layer: its own code, and fastrnn's where it says super().

For `class Sub(nn.LSTM)` it is a class with the bases Sub and FastLSTM, whose method resolution
order leaves nn.LSTM out: `super().forward` in Sub finds FastLSTM's, and torch.compile, which
refuses whatever is an nn.LSTM, can trace it. isinstance says that it is one: see face.py.
"""

from __future__ import annotations

import abc
import functools
import inspect
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Generic

import torch
from torch import nn

from ..cells import CELLS
from ..face import HasFace

# What a subclass may have in its own way: what Python itself puts there, and these three. All other
# names of torch.nn's layer and of fastrnn's are called from inside, and mean something there.
OPEN = {
    "__init__", "forward", "extra_repr", "__module__", "__qualname__", "__doc__", "__dict__",
    "__weakref__", "__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__",
    "__constants__", "__static_attributes__", "__firstlineno__", "__parameters__",
    "__orig_bases__", "__abstractmethods__", "_abc_impl",
}  # fmt: skip
# How objects and classes are made and copied: done here in another way.
MAKING = {"__new__", "__reduce__", "__getnewargs__", "__getnewargs_ex__", "__init_subclass__"}
# Attributes of an object, not of a class, that fastrnn's layers have.
ADDED = (
    "backend", "cell", "recompute_gates", "zoneout", "recurrent_dropout", "recurrent_mask",
)  # fmt: skip
KERNELS = {name for name in (*CELLS, *[f"{cell}_cell" for cell in CELLS]) if hasattr(torch, name)}


def why_not(cls: type[nn.Module], plain: type[nn.Module], fast: type[nn.Module]) -> str | None:
    """Why fastrnn cannot serve cls, a subclass of plain, which is a class of torch.nn."""
    inside = names_inside(plain) | names_inside(fast) | MAKING | {*ADDED}
    for base in _own_bases(cls, plain):
        overridden = sorted(vars(base).keys() & inside - OPEN)
        if overridden:
            return f"its class {base.__name__} has {overridden[0]} of its own, not only a forward"
        for name, function in vars(base).items():
            reason = _why_not_function(name, function)
            if reason:
                return f"{base.__name__}.{name} {reason}"
    if type(cls) not in (type, abc.ABCMeta):
        return f"its class {cls.__name__} has a metaclass, {type(cls).__name__}"
    try:
        served(cls, plain, fast)
    except TypeError as error:
        return f"its class {cls.__name__} and fastrnn's have no common subclass: {error}"
    return None


@functools.cache
def names_inside(cls: type[nn.Module]) -> frozenset[str]:
    """What a recurrent class defines beyond nn.Module."""
    bases = cls.__mro__[: cls.__mro__.index(nn.Module)]
    return frozenset(name for base in bases for name in vars(base))


def _own_bases(cls: type, plain: type) -> list[type]:
    others = (*plain.__mro__, abc.ABC, Generic)
    return [base for base in cls.__mro__ if base not in others]


def _why_not_function(name: str, function: object) -> str | None:
    if isinstance(function, (classmethod, staticmethod)):
        function = function.__func__
    if isinstance(function, property):
        function = function.fget
    function = inspect.unwrap(function) if callable(function) else function
    if not isinstance(function, FunctionType):
        return "is no function of Python" if name == "forward" else None
    names = {name for code in _codes(function.__code__) for name in code.co_names}
    if "_VF" in names or ("torch" in names and names & KERNELS):
        return "calls torch's kernels itself"
    if "_flat_weights" in names:
        return "uses _flat_weights, which fastrnn's layers make anew at each call"
    if name == "forward" and not {"super", "forward"} <= names:
        return "does not call super().forward"
    return None


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code, and that of the functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


@functools.cache
def served(cls: type[nn.Module], plain: type[nn.Module], fast: type[nn.Module]) -> type[nn.Module]:
    """The class that a module of cls gets. Raises TypeError where Python cannot make one."""
    names = {
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        "__reduce_ex__": _reduce,
        "_subclass_of": (cls, plain, fast),
    }
    return _metaclass(type(cls))(cls.__name__, (cls, fast), names)


def original(cls: type[nn.Module]) -> type[nn.Module] | None:
    """The class that cls was made for; None where it was made for none."""
    return vars(cls).get("_subclass_of", (None,))[0]


@functools.cache
def _metaclass(base: type[type]) -> type[type]:
    class Served(base):
        """The type of classes whose order of resolution leaves torch.nn's layer out."""

        def mro(cls) -> list[type]:
            order = super().mro()
            if "_face_of" in vars(cls):  # a face is there to say that it is torch.nn's
                return order
            plain = next(p for p in (vars(each).get("stands_for") for each in order) if p)
            return [each for each in order if each is not plain]

    return Served


def _reduce(self, protocol):
    if original(type(self)) is None:  # of a class made of that, as by parametrizations
        return HasFace.__reduce_ex__(self, protocol)
    # By the subclass that its module has: the class made here has no place of its own.
    return _new, type(self)._subclass_of, self.__getstate__()


def _new(cls: type[nn.Module], plain: type[nn.Module], fast: type[nn.Module]) -> HasFace:
    made = served(cls, plain, fast)
    return made.__new__(made)

"""What isinstance says of a module: it is also the layer of torch.nn that it stands in for.

Code that takes any model branches on `isinstance(module, nn.LSTM)`. A subclass of nn.LSTM would
answer, but torch.compile refuses those. isinstance also asks `module.__class__`, which is a face
here, except to torch.compile: a subclass of both, with the name of the real class, that no object
has as its type.
"""

from __future__ import annotations

import functools
import warnings

from torch import nn

from .torch_private import dynamo_traces


class _Face(type):
    """The type of faces. What is done to a face (torch's parametrizations do) its class gets."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict):
        return type(name, tuple(_real(base) for base in bases), namespace)

    def __call__(cls, *args, **kwargs):
        return _real(cls)(*args, **kwargs)

    # Of a class that is an abc.ABC a face must not share the cache of answers.
    __instancecheck__ = type.__instancecheck__
    __subclasscheck__ = type.__subclasscheck__

    def __setattr__(cls, name: str, value: object) -> None:
        setattr(_real(cls), name, value)

    def __delattr__(cls, name: str) -> None:
        delattr(_real(cls), name)

    @property
    def __bases__(cls) -> tuple[type, ...]:
        return _real(cls).__bases__


def _real(cls: type) -> type:
    return cls.__dict__.get("_face_of", cls)


@functools.cache
def face(cls: type) -> type:
    """The face of a class that has `stands_for`, a class of torch.nn."""
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "_face_of": cls}
    return type.__new__(_face_type(type(cls)), cls.__name__, (cls, cls.stands_for), names)


@functools.cache
def _face_type(base: type[type]) -> type[type]:
    """The type of the faces of classes that have the type base."""
    return _Face if base is type else type("_Face", (_Face, base), {})


def change_class(module: nn.Module, cls: type) -> None:
    """Makes cls, or the class that cls is the face of, the module's type."""
    object.__dict__["__class__"].__set__(module, _real(cls))


class HasFace(nn.Module):
    """Base of the modules that stand in for one of torch.nn's."""

    stands_for: type[nn.Module]

    @property
    def __class__(self) -> type:
        if dynamo_traces():  # Dynamo asks, and refuses torch.nn's layers
            return type(self)
        return face(type(self))

    @__class__.setter
    def __class__(self, cls: type) -> None:
        change_class(self, cls)

    @property
    def qconfig(self):
        """Of torch.ao.quantization, which goes by type(module) and so leaves these in float.

        It sets one on each module of a model, whatever is to be quantized, and says no more.
        """
        try:
            return self.__dict__["qconfig"]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no attribute 'qconfig'") from None

    @qconfig.setter
    def qconfig(self, value: object) -> None:
        name = self.stands_for.__name__
        warnings.warn(
            f"torch.ao.quantization leaves {self} in float: for a quantized nn.{name} call "
            "fastrnn.restore(model) first",
            stacklevel=2,
        )
        self.__dict__["qconfig"] = value

    @qconfig.deleter
    def qconfig(self) -> None:
        del self.__dict__["qconfig"]

    def __reduce_ex__(self, protocol):
        # The default wants type(self) and self.__class__ to be the same.
        return _new, (type(self),), self.__getstate__()

    def __getstate__(self) -> dict:
        return self.__dict__


def _new(cls: type[nn.Module]) -> nn.Module:
    return cls.__new__(cls)

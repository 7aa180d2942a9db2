"""What a step is called with while it is traced: it says in the cell's words what is not there."""

from __future__ import annotations

from torch import Tensor


class Missing(Exception):
    """A step asks for what its cell does not give."""


class Argument(tuple):
    """A tuple of tensors."""

    def __new__(cls, word: str, why: str, tensors: tuple[Tensor, ...]):
        made = super().__new__(cls, tensors)
        made.has = f"{word} has {len(tensors)} tensors ({why})"
        made.word = word
        return made

    def __getitem__(self, place):
        try:
            return super().__getitem__(place)
        except IndexError:
            raise Missing(f"{self.has}, and it reads {self.word}[{place}]") from None


class Product:
    """A step's product with the late slots of W_hh. In a graph these are leaves like the other
    tensors of r: what ties them to the tensor that was asked for is the engines'.
    """

    def __init__(self, slots: tuple[Tensor, ...]):
        self._slots = slots
        self.asked: Tensor | None = None

    def __call__(self, tensor: Tensor) -> tuple[Tensor, ...]:
        if not isinstance(tensor, Tensor):
            raise Missing(f"product takes a tensor [.., H], got {type(tensor).__name__}")
        if self.asked is not None:
            raise Missing("it calls product a second time, and a step has one such product")
        self.asked = tensor
        return self._slots

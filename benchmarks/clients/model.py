"""What the `clients` command needs to know of another library's model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn


class Model(NamedTuple):
    """A model in hand, with random weights and inputs of its own.

    net: what `fastrnn.accelerate` is called on. infer: one call, whose tensors are compared.
    train: the loss of one call, of which backward is then called; or None where it trained by
    itself, and the weights are compared. No train: the library's model is for inference alone.
    recurrent: classes of the library's own, whose time is that of recurrent layers too.
    """

    net: nn.Module
    infer: Callable[[], Any]
    train: Callable[[], Tensor | None] | None = None
    recurrent: tuple[type[nn.Module], ...] = ()


class Client(NamedTuple):
    """package: as pip knows it. make: imports the library; always gives the same model."""

    package: str
    title: str
    shapes: str
    make: Callable[[], Model]


def plain(
    net: nn.Module, *inputs: Any, of: Callable[[Any], Tensor] = lambda result: result
) -> Model:
    """A model whose loss is the mean square of its output; of: that, from what forward returns."""
    return Model(net, lambda: of(net(*inputs)), lambda: of(net(*inputs)).square().mean())

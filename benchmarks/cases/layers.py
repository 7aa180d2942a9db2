"""Which layers have a cell: read from the cell's own table, here alone.

An older fastrnn, which `compare` measures, may not say it yet: `lend` gives it this tree's word.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import nn

import fastrnn

from .lookup import get
from .zoo_cells import HEADS


class Layers(NamedTuple):
    """Class names in fastrnn and torch.nn, "" for none, and what their constructors take."""

    fast: str
    torch: str
    arguments: dict[str, str]


class Form(NamedTuple):
    """What decides the shapes of a cell's weights; heads: those of its product, 1 of a dense one.

    Cells of older revisions know of dense products alone.
    """

    inputs: int
    recurrent: int
    product: str
    params: int
    extra: int

    @property
    def heads(self) -> int:
        return HEADS if self.product == "heads" else 1


def form(cell) -> Form:
    product = getattr(cell, "product", "dense")
    recurrent = 0 if product == "none" else getattr(cell, "recurrent", cell.gates)
    params, extra = getattr(cell, "params", 0), getattr(cell, "extra", 0)
    return Form(cell.gates, recurrent, product, params, extra)


_lent: dict[str, Layers] = {}


def of(cell: str) -> Layers:
    if cell in _lent:
        return _lent[cell]
    spec = get(cell)
    return Layers(spec.layer, spec.torch_layer, dict(spec.arguments))


def lend(cell: str, layers: Layers) -> None:
    _lent[cell] = layers


def fast(cell: str) -> Callable[..., nn.Module]:
    """Makes fastrnn's layer of a cell."""
    name, _, arguments = of(cell)
    if name:
        return partial(getattr(fastrnn, name), **arguments)
    heads = {"heads": HEADS} if form(get(cell)).product == "heads" else {}
    return partial(fastrnn.Recurrent, get(cell).name, **heads)


def plain(cell: str) -> Callable[..., nn.RNNBase]:
    """Makes torch.nn's layer of a cell that torch.nn has."""
    _, name, arguments = of(cell)
    return partial(getattr(nn, name), **arguments)

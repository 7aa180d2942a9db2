"""Which layers have a cell: read from the cell's own table, here alone.

An older fastrnn, which `compare` measures, may not say it yet: `lend` gives it this tree's word.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import nn

import fastrnn
from fastrnn.cells import get


class Layers(NamedTuple):
    """Class names in fastrnn and torch.nn, "" for none, and what their constructors take."""

    fast: str
    torch: str
    arguments: dict[str, str]


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
    return partial(fastrnn.Recurrent, cell)


def plain(cell: str) -> Callable[..., nn.RNNBase]:
    """Makes torch.nn's layer of a cell that torch.nn has."""
    _, name, arguments = of(cell)
    return partial(getattr(nn, name), **arguments)

"""A case's cell by its name: one of fastrnn's table, or the suite's own or its zoo's by title."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastrnn.cells import CELLS
from fastrnn.cells import get as get_known

from . import zoo_cells

if TYPE_CHECKING:  # older revisions, which `compare` measures, have another class
    from fastrnn.cells import Cell


def own(name: str) -> bool:
    """Whether every contestant has to be given the cell: one of the suite's own, or of the zoo."""
    if name in CELLS:
        return False
    if name in zoo_cells.ZOO:
        return True
    from . import custom_cells  # deriving its kernels takes a while, and no other case needs it

    return name in custom_cells.OWN


def get(name: str) -> Cell:
    """ValueError that lists fastrnn's cells for a name that is none."""
    if name in zoo_cells.ZOO:
        return zoo_cells.get(name)
    if own(name):
        from . import custom_cells

        return custom_cells.OWN[name]
    return get_known(name)


def in_order(names) -> list[str]:
    """Each name once: fastrnn's cells as in its table, then others as they come."""
    given = list(dict.fromkeys(names))
    return [n for n in CELLS if n in given] + [n for n in given if n not in CELLS]

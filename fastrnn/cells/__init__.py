"""The recurrent cells: what one unit does at one time step.

spec     Cell: counts, and the step in plain torch
builtin  the five cells whose kernels are written by hand
declare  `fastrnn.cell`: a step becomes a cell with kernels of its own
derive   from a step to the graphs of its kernels (derived), checked by evaluate:
         trace    a step and torch's derivative of it as one graph (graph); lowering and
                  activations say what torch's operations are there
         cut      what of it is kept for backward
passes       a step that looks across the units of a row, as passes over them (across: in a trace)
cpp, cpp_passes, triton_source   the graphs as code, by printing
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from .builtin import BUILTIN
from .spec import Cell

__all__ = ["CELLS", "Cell", "add", "get", "hidden", "measured_as", "on_add"]

CELLS: dict[str, Cell] = {cell.name: cell for cell in BUILTIN}
on_add: list[Callable[[], None]] = []  # called where something known of cells may have changed


def get(name: str) -> Cell:
    """The cell of that name; ValueError that lists the known ones if there is none."""
    cell = CELLS.get(name)
    if cell is None:
        title, _, digest = name.partition("@")
        same = [c for c in CELLS.values() if c.title == title]
        if digest and same:
            raise ValueError(
                f"cell {title!r} has changed: this needs {name}, and here it is {same[-1].name}"
            )
        if digest:
            raise ValueError(f"cell {title!r} is not known: import the module that defines {name}")
        raise ValueError(f"cell must be one of {', '.join(CELLS)}, got {name!r}")
    return cell


def hidden(cell: Cell, input: Tensor, weights: Sequence[Tensor], project: bool) -> int:
    """What the first state has for H: P of a projected LSTM. Arguments as of `fastrnn::forward`."""
    if cell.recurrent:
        w_hh = weights[1 if project else 0]
        return w_hh.shape[0] * w_hh.shape[2] if cell.in_heads else w_hh.shape[1]
    return (weights[0].shape[0] if project else input.shape[-1]) // cell.gates


def units(cell: Cell, input: Tensor, weights: Sequence[Tensor], project: bool) -> int:
    """H, which all states but perhaps the first have. Arguments as of `fastrnn::forward`."""
    rows = weights[0].shape[0] if project or cell.recurrent else input.shape[-1]
    return rows // cell.gates


def measured_as(name: str) -> str:
    """The first cell of the same layer class: it does the same work, and alone is timed."""
    layer = get(name).layer
    return next((other.name for other in CELLS.values() if layer and other.layer == layer), name)


def add(cell: Cell) -> Cell:
    """Makes a cell known by its name. One that is known has the same kernels, and is replaced."""
    CELLS[cell.name] = cell
    for forget in on_add:
        forget()
    return cell

"""A cell with zoneout or recurrent dropout: derived from its own step, masks as extra slots.

    zoneout            state' = z state + (1 - z) new    (Krueger et al., arXiv 1606.01305)
    recurrent dropout  what W_hh multiplies, and the step sees in its place, is m h
                       (Gal and Ghahramani, arXiv 1512.05287; as Keras has it)

z is a mask in training and the rate in evaluation, so that one cell serves both. m h is a state of
its own, the last, since the output is h: the cell `feeds` it. Masks have no gradients.
"""

from __future__ import annotations

import functools

import torch

from . import CELLS, add, get
from .spec import Cell, Tensors


@torch.compiler.assume_constant_result  # torch.compile traces no derivation
def name_of(cell: str, zoned: tuple[bool, ...], dropped: bool) -> str:
    """The name of the cell made of the cell of that name. zoned: for each of its states.

    Its extra slots are the cell's own, a mask for each state that is zoned, and m.
    """
    made = _made(get(cell), zoned, dropped)
    if made.name not in CELLS:
        add(made)
    return made.name


@functools.cache
def _made(cell: Cell, zoned: tuple[bool, ...], dropped: bool) -> Cell:
    from .declare import cell as declare

    own, states, fed = cell.gates + cell.extra, cell.states, cell.feeds

    def step(x: Tensors, r: Tensors, state: Tensors, *rest) -> Tensors:
        masks = [mask.detach() for mask in x[own:]]
        seen = list(state[:states])
        if dropped:
            seen[fed] = state[states]
        after = list(cell.step(x[:own], r, tuple(seen), *rest))
        for k in (k for k in range(states) if zoned[k]):
            z = masks.pop(0)
            after[k] = z * state[k] + (1 - z) * after[k]
        return (*after, masks[0] * after[fed]) if dropped else tuple(after)

    words = [cell.title, *["zoneout"] * any(zoned), *["dropout"] * dropped]
    product = cell.product != "none"
    options = dict(gates=cell.gates)
    if cell.recurrent != cell.gates:
        options = dict(inputs=cell.gates) | (dict(recurrent=cell.recurrent) if product else {})
    return declare(
        **options, product=cell.product, states=states + dropped, params=cell.params,
        extra=cell.extra + sum(zoned) + dropped, feeds=states if dropped and product else fed,
        late=cell.late, name="_".join(words),
    )(step)  # fmt: skip

"""What `torch.utils.flop_counter.FlopCounterMode` counts for fastrnn's ops.

As for a plain loop over torch.nn.functional.linear: 2 m n k for each product, in backward for those
that autograd would compute; where gates are recomputed for backward, their products too. That the
kernels leave out a product with zeros (hx=None) is not subtracted.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable

from torch import Tensor
from torch._ops import OpOverload

from . import cells, ops, torch_private  # names of ops are there when a formula runs


def forward(
    cell, input, weights, state, batch_sizes, resets, directions, project, save, *, out_val=None
) -> int:
    """For each line of input the products with W_ih and W_hh."""
    lines = valid_rows(input, batch_sizes)
    bits = ops.weight_bits(cell, len(weights), directions, project)
    products = [w for w, bit in zip(weights, bits) if bit in _matrices()]
    return sum(2 * lines * w.numel() for w in products)


def backward(
    cell, grad_output, grad_final, input, weights, state, output, saved, batch_sizes, resets,
    directions, project, needs, *, out_val=None,
) -> int:  # fmt: skip
    """A product for each gradient that is wanted, and one from each step to the one before it."""
    lines = valid_rows(input, batch_sizes)
    hops = lines if needs & ops.NEED_STATE else lines - _rows(input, batch_sizes)
    _, w_hh, *_ = ops.WEIGHT_BITS
    inside = ops.NEED_PROJECTION  # whose product lies on every way back
    total = 0
    for weight, bit in zip(weights, ops.weight_bits(cell, len(weights), directions, project)):
        if bit in _matrices():
            through = lines * (bit == inside or bool(needs & ops.NEED_INPUT))
            back = hops if bit == w_hh else through
            total += 2 * weight.numel() * (lines * bool(needs & bit) + back)
    spec = cells.get(cell)
    if saved.dim() == 4 and saved.shape[2] < spec.saved + spec.states - 1:  # SAVE_PARTIAL
        again = forward(
            cell, input, weights, state, batch_sizes, resets, directions, project, ops.SAVE_ALL
        )
        total += again * (spec.gates - spec.kept) // spec.gates
    return total


def _matrices() -> tuple[int, ...]:
    """The bits of the weights of a product: W_ih, W_hh, W_hr."""
    return (*ops.WEIGHT_BITS[:2], ops.NEED_PROJECTION)


def _rows(input: Tensor, batch_sizes: Tensor | None) -> int:
    """The batch rows that have a first step."""
    if batch_sizes is None:
        return input.shape[-2]  # [T, B, I], or a single step's [B, I]
    if input.dim() == 3:
        return int((batch_sizes > 0).sum())
    return int(batch_sizes[0]) if len(batch_sizes) else 0


def valid_rows(input: Tensor, batch_sizes: Tensor | None) -> int:
    """The valid rows of all steps."""
    ragged = batch_sizes is not None and input.dim() == 3
    return int(batch_sizes.sum()) if ragged else input.shape[:-1].numel()


def count_by(formula: Callable, op: OpOverload) -> None:
    """Gives an op its formula without torch's module of them, which takes 0.2 s to import.

    FlopCounterMode asks each op that it meets to decompose itself, before it looks for a formula.
    Then the op adds its own, where the user has given none.
    """
    decompose = op.decompose

    @functools.wraps(decompose)
    def add_formula(*args, **kwargs):
        counters = sys.modules.get("torch.utils.flop_counter")
        for mode in torch_private.dispatch_modes() if counters else ():
            if isinstance(mode, counters._FlopCounterMode):
                mode.counter.flop_registry.setdefault(op._overloadpacket, formula)
        return decompose(*args, **kwargs)

    op.decompose = add_formula

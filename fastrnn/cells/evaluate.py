"""A graph computed by torch: what kernels are compared with, and a check of every trace."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from .graph import Node, order

_TORCH = {
    "neg": torch.neg, "abs": torch.abs, "sqrt": torch.sqrt, "exp": torch.exp,
    "expm1": torch.expm1, "log": torch.log, "log1p": torch.log1p, "sigmoid": torch.sigmoid,
    "tanh": torch.tanh, "sin": torch.sin, "cos": torch.cos, "erf": torch.erf, "add": torch.add,
    "sub": torch.sub, "mul": torch.mul, "div": torch.div, "maximum": torch.maximum,
    "minimum": torch.minimum, "lt": torch.lt, "le": torch.le, "gt": torch.gt, "ge": torch.ge,
    "eq": torch.eq, "ne": torch.ne, "both": torch.logical_and, "either": torch.logical_or,
    "inverse": torch.logical_not, "select": torch.where,
}  # fmt: skip


def evaluate(roots: Iterable[Node], leaves: Mapping[str, Sequence[Tensor]]) -> list[Tensor]:
    """The roots' values, for the values of their leaves: op -> tensors of one shape [.., units]."""
    roots = list(roots)
    like = next(t for ts in leaves.values() for t in ts)
    values: dict[int, Tensor] = {}
    for node in order(roots):
        if node.op == "units":
            value = torch.full_like(like, like.shape[-1])
        elif node.leaf:
            value = leaves[node.op][node.at]
        elif node.op == "const":
            value = torch.full_like(like, node.at)
        elif node.op == "sum":
            value = values[node.args[0].number].sum(-1, keepdim=True).expand_as(like)
        else:
            value = _TORCH[node.op](*(values[a.number] for a in node.args))
        values[node.number] = value
    return [values[r.number] for r in roots]

"""Random steps for hypothesis: expressions over all functions that a cell may use.

Each function takes and gives numbers of moderate size, and none is steep: two right ways to compute
an expression then differ by little more than their rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor


def _small(a: Tensor) -> Tensor:
    return torch.clamp(a, -2.0, 2.0)


ONE = {
    "neg": lambda a: -a,
    "abs": torch.abs,
    "sqrt": lambda a: torch.sqrt(a.abs() + 0.25),
    "rsqrt": lambda a: torch.rsqrt(a * a + 0.5),
    "exp": lambda a: torch.exp(_small(a)),
    "expm1": lambda a: torch.expm1(_small(a)),
    "log": lambda a: torch.log(a.abs() + 0.25),
    "log1p": lambda a: torch.log1p(a.abs()),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "sin": torch.sin,
    "cos": torch.cos,
    "erf": torch.erf,
    "relu": torch.relu,
    "leaky_relu": lambda a: F.leaky_relu(a, 0.1),
    "elu": lambda a: F.elu(a, 0.8),
    "silu": F.silu,
    "softplus": F.softplus,
    "gelu": F.gelu,
    "gelu_tanh": lambda a: F.gelu(a, approximate="tanh"),
    "hardtanh": F.hardtanh,
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "softsign": F.softsign,
    "mish": F.mish,
    "logsigmoid": F.logsigmoid,
    "square": lambda a: _small(a) ** 2,
    "cube": lambda a: _small(a) ** 3,
    "inverse": lambda a: (a.abs() + 0.5) ** -1,
    "detach": lambda a: a.detach(),
    "half": lambda a: a * 0.5,
    "plus": lambda a: 0.75 + a,
}
TWO = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": lambda a, b: _small(a) * b,
    "div": lambda a, b: a / (b * b + 0.5),
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "where": lambda a, b: torch.where(a > b, a, 0.3 * b),
    "masked": lambda a, b: (a <= 0.4).to(a) * b,
    "both": lambda a, b: torch.where((a > 0.1) & ~(b >= 0.7) | (a < -1), a, b),
    "lerp": lambda a, b: torch.lerp(a, b, 0.3),
}
# What looks across the units of a row.
ACROSS = {
    "mean": lambda a: a.mean(-1, keepdim=True).expand_as(a),
    "sum": lambda a: 0.1 * a.sum(-1)[..., None] + a,
    "centred": lambda a: a - a.mean(-1, keepdim=True),
    "scaled": lambda a: a * torch.rsqrt((a * a).mean(-1, keepdim=True) + 0.5),
    "norm": lambda a: F.layer_norm(a, a.shape[-1:], eps=0.5),
}


@dataclass(frozen=True)
class Step:
    """A step made of expression trees, one for each state: ("x", 0) or (function, tree, ..)."""

    gates: int
    states: int
    params: int
    trees: tuple

    def __call__(self, x, r, state, p=()):
        leaves = {"x": x, "r": r, "prev": state, "param": p}

        def value(tree):
            if tree[0] in leaves:
                return leaves[tree[0]][tree[1]]
            return (ONE | TWO | ACROSS)[tree[0]](*map(value, tree[1:]))

        return tuple(map(value, self.trees))


@st.composite
def steps(draw, across: bool = False) -> Step:
    """across: with functions that look across the units of a row, now and then."""
    gates, states, params = (
        draw(st.integers(1, 3)),
        draw(st.integers(1, 3)),
        draw(st.integers(0, 2)),
    )
    places = [("x", g) for g in range(gates)] + [("r", g) for g in range(gates)]
    places += [("prev", k) for k in range(states)] + [("param", k) for k in range(params)]
    trees = st.recursive(
        st.sampled_from(places),
        lambda inner: st.one_of(
            st.tuples(st.sampled_from(list(ONE)), inner),
            *[st.tuples(st.sampled_from(list(ACROSS)), inner)] * across,
            st.tuples(st.sampled_from(list(TWO)), inner, inner),
        ),
        max_leaves=6,
    )
    return Step(gates, states, params, tuple(draw(trees) for _ in range(states)))

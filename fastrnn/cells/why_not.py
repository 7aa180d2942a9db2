"""Why an operation of torch cannot be part of a step, in a cell's author's words."""

from __future__ import annotations

_ACROSS = (
    "var", "var_mean", "std", "softmax", "_softmax", "log_softmax", "_log_softmax", "cumsum",
    "cumprod", "flip", "roll", "sort", "topk", "mm", "bmm", "addmm", "matmul", "dot", "norm",
    "linalg_vector_norm", "native_group_norm", "amax", "amin", "max", "min", "argmax", "argmin",
    "prod", "logsumexp", "any", "all", "gather", "index_select", "cat", "stack",
)  # fmt: skip
_PARTS = ("slice", "select", "index", "narrow", "unbind", "split", "chunk", "diagonal")
_RANDOM = ("rand", "bernoulli", "dropout", "normal", "uniform", "exponential")
ON_VALUES = ("_local_scalar_dense", "is_nonzero", "equal", "nonzero")
ON_VALUE = "what a step does cannot hang on a tensor's values: choose with torch.where"


def why_not(name: str) -> str:
    """name: that of an operation of ATen which no graph has."""
    if name in ON_VALUES:
        return ON_VALUE
    if any(word in name for word in _RANDOM):
        return "it draws random numbers: let the caller bring them (extra=)"
    if name in _ACROSS:
        return "it looks across units or rows, and a step is about each unit alone"
    if name in _PARTS:
        return "it takes a part of a tensor, and a step is about each unit alone"
    return "fastrnn has no kernel for it"

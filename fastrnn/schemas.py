"""The schemas of `fastrnn::forward` and `fastrnn::backward`, which every backend's pair of ops has.

C++ spells them once more (`csrc/op/ops.cpp`), as a library can be without Python and Python without
the library; `check_native` compares.
"""

import torch

_LAYER = "Tensor? batch_sizes, Tensor? resets, int directions, bool project, "
FORWARD = (
    f"(str cell, Tensor input, Tensor[] weights, Tensor[] state, {_LAYER}int save)"
    " -> (Tensor output, Tensor[] final, Tensor saved)"
)
BACKWARD = (
    "(str cell, Tensor? grad_output, Tensor[] grad_final, Tensor input, Tensor[] weights, "
    f"Tensor[] state, Tensor output, Tensor saved, {_LAYER}int needs)"
    " -> (Tensor grad_input, Tensor[] grad_weights, Tensor[] grad_state)"
)


def check_native() -> None:
    """ImportError where the native library was compiled with other schemas than these."""
    for name, schema in (("forward", FORWARD), ("backward", BACKWARD)):
        compiled = str(getattr(torch.ops.fastrnn, name).default._schema)
        if compiled != f"fastrnn::{name}{schema}":
            raise ImportError(
                f"fastrnn::{name} must be {schema} as in fastrnn/schemas.py, got {compiled}: "
                "build the native library again"
            )

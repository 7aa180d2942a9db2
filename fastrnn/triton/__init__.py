"""The Triton backend: `fastrnn::triton_forward` and `fastrnn::triton_backward`.

cells.py has the maths of the cells, scan.py the one kernel pair, tiles.py its parts, engine.py the
host side, config.py the launch configurations, choice.py
the choice among them. Importing this package defines the two ops; their
fakes are those of the native ops (`fastrnn.ops`).
"""

import torch

from .cells import TritonCell, register
from .engine import backward, forward, unavailable

__all__ = ["TritonCell", "backward", "forward", "register", "unavailable"]

_LIBRARY = torch.library.Library("fastrnn", "FRAGMENT")
_LIBRARY.define(
    "triton_forward(str cell, Tensor input, Tensor[] weights, Tensor[] state, Tensor? batch_sizes,"
    " Tensor? resets, int directions, bool project, int save)"
    " -> (Tensor output, Tensor[] final, Tensor saved)"
)
_LIBRARY.define(
    "triton_backward(str cell, Tensor? grad_output, Tensor[] grad_final, Tensor input,"
    " Tensor[] weights, Tensor[] state, Tensor output, Tensor saved, Tensor? batch_sizes,"
    " Tensor? resets, int directions, bool project, int needs)"
    " -> (Tensor grad_input, Tensor[] grad_weights, Tensor[] grad_state)"
)
for _device in ("CPU", "CUDA"):
    _LIBRARY.impl("triton_forward", forward, _device)
    _LIBRARY.impl("triton_backward", backward, _device)

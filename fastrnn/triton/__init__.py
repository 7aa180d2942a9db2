"""The Triton backend: `fastrnn::triton_forward` and `fastrnn::triton_backward`.

cells.py has the maths of the cells, derived.py of those made by `fastrnn.cell`; scan.py the one
kernel pair, whose parts are in tiles.py, resident.py, streamed.py, late.py, exchange.py and
turn.py; engine.py the host side, config.py the launch configurations, choice.py the choice among
them. Importing this package defines the two ops; their fakes are those of the native ops
(`fastrnn.ops`).
"""

import torch

from .. import schemas
from .cells import TritonCell, register
from .engine import backward, forward, unavailable

__all__ = ["TritonCell", "backward", "forward", "register", "unavailable"]

_LIBRARY = torch.library.Library("fastrnn", "FRAGMENT")
_LIBRARY.define("triton_forward" + schemas.FORWARD)
_LIBRARY.define("triton_backward" + schemas.BACKWARD)
for _device in ("CPU", "CUDA"):
    _LIBRARY.impl("triton_forward", forward, _device)
    _LIBRARY.impl("triton_backward", backward, _device)

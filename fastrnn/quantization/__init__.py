"""Inference with weights in few bits.

`swap.py` has `fastrnn.quantize`, `layer.py` what a layer becomes, `panels.py` how its weights lie,
`op.py` the op that runs it: a saved program needs that alone.
"""

from . import op

__all__ = ["op"]

"""What a recurrent layer becomes by `fastrnn.quantize`: inference alone, weights in few bits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .. import ops, signals, transforms
from ..compiled import flags
from ..layer import Layer
from ..recurrent import Recurrent
from ..reference import BOTH, FORWARD
from . import op

# What multiplies and adds, by the instruction set.
_KERNELS = {
    "base": "baseline, widened to 16 bits",
    "avx2": "AVX2, vpmaddubsw with signs moved so that no sum saturates",
    "avx512": "AVX-512, vpmaddubsw with signs moved so that no sum saturates",
    "avx512vnni": "AVX512-VNNI, vpdpbusd",
}


class QuantizedLayer(Layer):
    """A layer with weights in int8 or bfloat16, made by `fastrnn.quantize` of one in float32.

    Arguments and results of a call are those of the layer that it was: hx, `lengths`, `resets`,
    PackedSequence, unbatched input; it runs on a CPU. In int8 each row of W_ih and W_hh has one
    scale, each row of x and of h gets its own at each step (the largest magnitude is 127); sums are
    exact int32, everything else is float32; a row of input that has an infinity or NaN gives NaN.
    Weights in bfloat16 are widened when they are read, and all else is float32. Weights are
    buffers, in an order that all machines share: weight_ih_l0, weight_hh_l0 and scales_l0 (float32:
    a scale, in int8, and a bias for each row).

    Raises RuntimeError in training mode, and where a derivative is asked for.
    """

    stands_for = nn.RNNBase
    weights: torch.dtype

    def _layers(self) -> list[list[Tensor]]:
        """Those of all layers as one, scales first: the inputs' dtype is theirs."""
        buffers = self._buffers
        return [[buffers[name] for names in self._all_weights for name in names]]

    def _run(self, layers, input, state, batch_sizes, resets, lengths, slots, order=None):
        if self.training:
            raise RuntimeError(f"{op.NO_GRADIENT}: call eval()")
        if torch.is_grad_enabled() and (
            input.requires_grad or (state and True in [s.requires_grad for s in state])
        ):
            raise RuntimeError(op.NO_GRADIENT)
        if input.dtype is not torch.float32:  # of torch.autocast
            input, state = input.float(), state and [s.float() for s in state]
        ragged = batch_sizes if lengths is None else lengths
        directions = BOTH if self.bidirectional else FORWARD
        compiling = torch.compiler.is_compiling()
        if compiling or True in transforms.active(compiling):
            stacked = None if state is None else torch.stack([*state])
            output, final = op.QUANTIZED_FLAT(
                self.cell, input, layers[0], stacked, ragged, resets, directions, self.hidden_size
            )
            return output, final.unbind()
        try:
            return op.QUANTIZED(
                self.cell, input, layers[0], state or (), ragged, resets, directions,
                self.hidden_size,
            )  # fmt: skip
        except RuntimeError as error:
            signals.raise_handlers(error)
            raise

    def explain(self) -> Sequence[str]:
        """Lines for `fastrnn.explain`."""
        isa = ops.BUILD_INFO["isa"]
        if self.weights == torch.bfloat16:
            isa = flags.isa_for(isa, "bf16_weights")
            return (
                "  weights: bfloat16, widened when they are read; products and sums in float32",
                f"  instruction set: {isa} (FASTRNN_ISA chooses), "
                f"{torch.get_num_threads()} threads",
                "  cells and states: torch.float32; no derivatives",
            )
        return (
            "  weights: int8, a scale for each row; x and h become int8 row by row, step by step",
            f"  products: {_KERNELS[flags.isa_for(isa, 'int8')]} (FASTRNN_ISA chooses), "
            f"{torch.get_num_threads()} threads; exact int32 sums",
            "  cells and states: torch.float32; no derivatives",
        )

    def extra_repr(self) -> str:
        return (
            f"{self.cell.partition('@')[0]}, {nn.RNNBase.extra_repr(self)}, weights={self.weights}"
        )


class QuantizedRecurrent(QuantizedLayer, Recurrent):
    """The same of a layer that has its cell as `definition`, and is saved with it.

    Raises as `QuantizedLayer`, and as `fastrnn.Recurrent` where the cell has changed.
    """

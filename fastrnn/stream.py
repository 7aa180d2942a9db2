"""Stream: layers that run a step at a time, their weights packed once, their states kept."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from . import ops, stream_file, stream_layers
from .stream_file import layers as file_layers

if ops.NATIVE_BUILT:
    from fastrnn._C import StreamBase
else:
    StreamBase = object

__all__ = ["Stream"]

# Kinds of weights, as csrc/stream/stack.h numbers them.
KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.int8: 2}


class Stream(StreamBase):
    """Layers in use, a step or a chunk of steps at a time: weights packed once, states inside.

        stream = fastrnn.Stream([gru, head])
        for frame in frames:  # [B, I]
            scores = stream(frame)

    `stream(input, out=None)` takes one step `[B, I]` or a chunk `[T, B, I]` through all layers in
    one native call on one thread and returns the last layer's output, `[B, O]` or `[T, B, O]`; the
    next call goes on from there. With `out=`, a Tensor of that shape, it is written there and
    nothing is allocated. Inference on a CPU only: there is no autograd, dropout does not act, and
    input and output are float32 whatever the weights are. Steps one by one and in chunks of any
    length give the same bits, and so do rows whatever rows are beside them.

    The weights are those that the layers had when the stream was made. What becomes of the layers
    afterwards is seen by `stream.refresh()` alone (which keeps the states). A copy, by `copy`,
    `deepcopy` or `pickle`, has the states and packs its layers' weights anew.

    Threads may run separate streams at the same time. One stream in two of them is an error.

    Args:
        layer: a recurrent layer or cell of fastrnn's or torch.nn's, with any number of layers
            inside and proj_size, an nn.Linear, or a list (nn.Sequential, nn.ModuleList) of such
            that follow each other. None may be bidirectional: its second half reads from the end.
            A Recurrent of a cell that torch.nn has not is run by the layer's own kernels, in
            float32, which pack what they want at each call
            batch_first does not matter: a chunk is `[T, B, I]`
        batch_size: B, the rows of every step
        weights: torch.float32, torch.bfloat16 or torch.int8, what matrices are kept in. Sums are
            float32; int8 matrices have a scale for each row, each row of input and of h becomes
            int8 with a scale of its own, and sums are exact, as in `fastrnn.quantize`. None:
            bfloat16 if all of the layers are, else float32

    state: of one layer hx as the layer has it, `[L, B, H]` or a tuple of those, of a cell
    `[B, H]`; of a list the tuple of its recurrent layers' states. It may be set, to None for zeros.

    Raises TypeError for what is no such layer, ValueError for one that has no stream (with the
    reason) and for an input, out or state that does not fit, RuntimeError without native library
    or where another thread is in the stream.
    """

    def __init__(
        self,
        layer: nn.Module | Sequence[nn.Module],
        batch_size: int = 1,
        weights: torch.dtype | None = None,
    ) -> None:
        if not ops.NATIVE_BUILT:
            raise RuntimeError("Stream needs fastrnn's native library, which was not built")
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be a whole number above 0, got {batch_size!r}")
        if weights is not None and weights not in KINDS:
            raise ValueError(
                f"weights must be None or one of {', '.join(map(str, KINDS))}, got {weights!r}"
            )
        self.layer, self.batch_size, self.weights = layer, batch_size, weights
        self._pack_layers()

    def refresh(self) -> None:
        """Takes the layers' weights as they are now. The states stay."""
        state = self.state
        self._pack_layers()
        self.state = state

    def save(self, path: str | os.PathLike) -> None:
        """Writes the layers, with their weights as they are now, to a file for `load` and for C.

        Neither states nor batch_size are in it. See docs/stream_file.md. Raises OSError, ValueError
        where a layer's cell is one's own: a file has no code.
        """
        stream_file.write(path, *file_layers.of_module(self.layer, self.weights))

    @classmethod
    def load(cls, path: str | os.PathLike, batch_size: int = 1) -> Stream:
        """The stream of a file that `save` wrote, from states of zeros.

        Its `layer` is a list of modules of one layer each. Raises ValueError for what is no whole
        stream file (it may come from anybody: no code is in it), OSError where none can be read.
        """
        layers, weights = stream_file.read(path)
        return cls(file_layers.modules(layers), batch_size, weights)

    def reset(self, rows: int | Sequence[int] | Tensor | None = None) -> None:
        """Begins anew, from states of zeros: all rows, or a row, some rows, those of a bool mask.

        rows: an integer, a sequence or Tensor of integers, or a bool Tensor `[B]`. Raises
        ValueError for a row that is not there.
        """
        if rows is None:
            return self._reset(-1)
        if isinstance(rows, int) and not isinstance(rows, bool):
            rows = [rows]
        chosen = torch.as_tensor(rows)
        if chosen.dtype == torch.bool:
            if chosen.shape != (self.batch_size,):
                raise ValueError(
                    f"rows must be a mask [{self.batch_size}] (batch), got {[*chosen.shape]}"
                )
            chosen = chosen.nonzero()
        elif chosen.numel() and chosen.is_floating_point():
            raise ValueError(f"rows must be integers or a bool mask, got {chosen.dtype}")
        chosen = chosen.flatten().tolist()
        for row in chosen:
            if not 0 <= row < self.batch_size:
                raise ValueError(f"rows must lie between 0 and {self.batch_size - 1}, got {row}")
        for row in chosen:
            self._reset(row)

    @property
    def state(self):
        found = []
        for part in self._parts:
            states = tuple(
                self._read_state(part, k, (self.batch_size, size))
                for k, size in enumerate(self._state_sizes[part.first] if part.states else ())
            )
            if states:
                found.append(states[0] if len(states) == 1 else states)
        return tuple(found) if self._is_list else found[0] if found else ()

    def _read_state(self, part: stream_layers.Part, k: int, size: tuple[int, int]) -> Tensor:
        state = torch.empty(part.layers, *size)
        for i in range(part.layers):
            self._copy(part.first + i, k, state[i].data_ptr(), True)
        return state if part.stacked else state[0]

    @state.setter
    def state(self, value) -> None:
        if value is None:
            return self._reset(-1)
        parts = [part for part in self._parts if part.states]
        values = [value] if not self._is_list and parts else value
        if not isinstance(values, (tuple, list)) or len(values) != len(parts):
            raise ValueError(
                f"state must be a tuple of {len(parts)}, one for each recurrent layer, got "
                f"{stream_layers.told(values)}"
            )
        checked = [
            stream_layers.read_state(part, given, self.batch_size, self._state_sizes[part.first])
            for part, given in zip(parts, values)
        ]
        for part, states in zip(parts, checked):
            for k, state in enumerate(states):
                for i in range(part.layers):
                    self._copy(part.first + i, k, state[i].data_ptr(), False)

    def _pack_layers(self) -> None:
        self._is_list = stream_layers.is_list(self.layer)
        parts = stream_layers.read(self.layer)
        weights = self.weights or stream_layers.common_dtype(parts)
        layers = tuple(layer for part in parts for layer in part.specs)
        self._pack(tuple(layer.addresses() for layer in layers), KINDS[weights], self.batch_size)
        self._parts = [part._replace(specs=()) for part in parts]
        self._input_size, self._output_size, self._state_sizes = self._sizes()

    def _other(self, input: Tensor, *, out: Tensor | None = None) -> Tensor:
        """A call that the native one leaves to Python: of another layout, or one that is wrong."""
        b, i, o = self.batch_size, self._input_size, self._output_size
        input = stream_layers.read_input(input, b, i)
        shape = (*input.shape[:-1], o)
        steps = len(input) if input.dim() == 3 else 1
        if out is None:
            out = input.new_empty(shape)
        else:
            stream_layers.check_out(out, shape, input)
        self._run(input.data_ptr(), steps, out.data_ptr())
        return out

    def _explain(self, input: Tensor) -> str:
        """What fastrnn.explain says: which layers keep packed weights."""
        stream_layers.read_input(input, self.batch_size, self._input_size)
        weights = self.weights or stream_layers.common_dtype(self._parts)
        lines = [
            f"Stream of batch_size {self.batch_size} on cpu",
            f"  instruction set: {ops.BUILD_INFO['isa']} (FASTRNN_ISA chooses), one thread, "
            f"weights {weights}",
        ]
        modules = [*self.layer] if self._is_list else [self.layer]
        for part, module in zip(self._parts, modules):
            how = "packed once" if part.packed else "the layer's own kernels, which pack each call"
            lines.append(f"  {module}: {how}")
        return "\n".join(lines)

    def __reduce__(self):
        return type(self), (self.layer, self.batch_size, self.weights), self.state

    def __setstate__(self, state) -> None:
        self.state = state

    def __repr__(self) -> str:
        weights = "" if self.weights is None else f", weights={self.weights}"
        return f"Stream({self.layer!r}, batch_size={self.batch_size}{weights})"

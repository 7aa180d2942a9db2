"""A case: what is measured, as data. One layer call: a cell, a mode and sizes."""

from __future__ import annotations

from dataclasses import dataclass, fields

from . import layers
from .lookup import get

MODES = ("inference", "training", "stream")


@dataclass(frozen=True, order=True)
class Case:
    """mode: inference (forward, no grad), training (forward + backward), stream (T = B = 1).

    dtype: that of the tensors; "tf32" is float32 with TensorFloat-32 products allowed, which in
    "float32" they are not, in cuDNN neither; "int8" is float32 with layers whose weights are int8.
    """

    cell: str
    mode: str
    B: int
    T: int
    I: int  # noqa: E741
    H: int
    layers: int = 1
    directions: int = 1
    dtype: str = "float32"
    ragged: bool = False

    @property
    def id(self) -> str:
        """Readable and unique: CELL-training-B16-T100-I32-H256[-L2][-D2][-bfloat16][-ragged]."""
        parts = [self.cell, self.mode]
        parts += [f"{axis}{getattr(self, axis)}" for axis in "BTIH"]
        parts += [f"L{self.layers}"] * (self.layers > 1) + ["D2"] * (self.directions > 1)
        parts += [self.dtype] * (self.dtype != "float32") + ["ragged"] * self.ragged
        return "-".join(parts)

    @property
    def tensor_dtype(self) -> str:
        return "float32" if self.dtype in ("tf32", "int8") else self.dtype

    @property
    def lengths(self) -> list[int]:
        """Valid steps of each row [B], falling: all T, or spread evenly from T down to T/4."""
        if not self.ragged:
            return [self.T] * self.B
        return [max(1, round(self.T * (1 - 0.75 * b / max(1, self.B - 1)))) for b in range(self.B)]

    @property
    def flops(self) -> float:
        """Multiply-adds of the matrix products, counted twice: forward, or three times that."""
        wide = self.directions * self.H
        inputs = [self.I] + [wide] * (self.layers - 1)
        cell = layers.form(get(self.cell))
        of_state = cell.recurrent * self.H / cell.heads
        per_row = sum(2 * self.directions * self.H * (cell.inputs * i + of_state) for i in inputs)
        return float(per_row * sum(self.lengths)) * (3 if self.mode == "training" else 1)

    @property
    def steps(self) -> int:
        """Dependent steps of one pass: T of each layer and direction."""
        return self.T * self.layers * self.directions


AXES = tuple(f.name for f in fields(Case))

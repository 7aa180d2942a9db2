"""Layer normalisation of several gates together, and a layer whose cell has such."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .layer import ZooLayer

EPS = 1e-5  # torch's


def normalised(gates: Sequence[Tensor], eps: float) -> list[Tensor]:
    """G gates [.., H] as one vector of G*H numbers, less its mean, by its standard deviation."""
    mean = sum(gates).mean(-1, keepdim=True) / len(gates)
    gates = [gate - mean for gate in gates]
    variance = sum(gate * gate for gate in gates).mean(-1, keepdim=True) / len(gates)
    scale = torch.rsqrt(variance + eps)
    return [gate * scale for gate in gates]


class NormLayer(ZooLayer):
    """A `ZooLayer` of a cell whose params are scales and shifts, without other biases by default.

    Scales begin with ones, shifts with zeros. Raises as `fastrnn.Recurrent`.
    """

    shifts: Sequence[int]  # which params are shifts; the others are scales

    def __init__(
        self, input_size, hidden_size, num_layers=1, bias=False, *arguments, **options
    ) -> None:
        super().__init__(input_size, hidden_size, num_layers, bias, *arguments, **options)

    def reset_parameters(self) -> None:
        super().reset_parameters()
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.startswith("params"):
                    parameter.fill_(1)
                    parameter[list(self.shifts)] = 0

"""What the layers of the zoo share: a constructor that knows its cell."""

from __future__ import annotations

from collections.abc import Sequence

from ..cells import Cell
from ..recurrent import Recurrent


class ZooLayer(Recurrent):
    """A `fastrnn.Recurrent` of its class's cell: the same arguments but for that, and results.

    Raises as `fastrnn.Recurrent`.
    """

    definition: Cell  # the class has it too

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device=None,
        dtype=None,
        *,
        backend: str = "auto",
        recompute_gates: bool = False,
        zoneout: float | Sequence[float] = 0.0,
        recurrent_dropout: float = 0.0,
        recurrent_mask: str = "sequence",
    ) -> None:
        super().__init__(
            type(self).definition, input_size, hidden_size, num_layers, bias, batch_first, dropout,
            bidirectional, device, dtype, backend=backend, recompute_gates=recompute_gates,
            zoneout=zoneout, recurrent_dropout=recurrent_dropout, recurrent_mask=recurrent_mask,
        )  # fmt: skip

    def extra_repr(self) -> str:  # the class's name says which cell it is
        return super(Recurrent, self).extra_repr()

"""FastRNN, FastLSTM, FastGRU: torch.nn's recurrent layers over fastrnn's scan."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from . import checks
from .layer import Layer

__all__ = ["FastGRU", "FastLSTM", "FastRNN"]


class FastRNN(Layer):
    """Elman network, `h' = act(W_ih x + b_ih + W_hh h + b_hh)`: torch.nn.RNN, and "identity".

    nonlinearity: "tanh", "relu" or "identity" (a linear hidden state). backend: "auto", "native"
    (C++/CUDA), "triton" or "reference". recompute_gates has nothing to leave out. zoneout,
    recurrent_dropout, recurrent_mask: what units forget in training, see `Layer`. All other
    arguments, weights and results as torch.nn.RNN's. Raises ValueError for any other value.
    """

    stands_for = nn.RNN

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
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
        proj_size: None = None,
    ) -> None:
        checks.no_projection(proj_size)
        cell = f"rnn_{checks.nonlinearity(nonlinearity)}"
        super().__init__(
            cell, cell.upper(), input_size, hidden_size, num_layers, bias, batch_first, dropout,
            bidirectional, device=device, dtype=dtype, backend=backend,
            recompute_gates=recompute_gates, zoneout=zoneout, recurrent_dropout=recurrent_dropout,
            recurrent_mask=recurrent_mask,
        )  # fmt: skip
        self.nonlinearity = nonlinearity


class FastLSTM(Layer):
    """Long short-term memory (Hochreiter and Schmidhuber 1997): torch.nn.LSTM, proj_size too.

    backend: "auto", "native" (C++/CUDA), "triton" or "reference". Raises ValueError for another.
    recompute_gates: less memory, more time. zoneout (a rate, or (of h, of c)), recurrent_dropout,
    recurrent_mask: what units forget in training, see `Layer`. All else is torch.nn.LSTM's.
    """

    cell = "lstm"
    states = 2
    hx_names = ("hx[0] (h_0)", "hx[1] (c_0)"), "(h_0, c_0)"
    stands_for = nn.LSTM
    get_expected_cell_size = nn.LSTM.get_expected_cell_size
    check_forward_args = nn.LSTM.check_forward_args
    permute_hidden = nn.LSTM.permute_hidden

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
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
            self.cell, "LSTM", input_size, hidden_size, num_layers, bias, batch_first, dropout,
            bidirectional, proj_size, device=device, dtype=dtype, backend=backend,
            recompute_gates=recompute_gates, zoneout=zoneout, recurrent_dropout=recurrent_dropout,
            recurrent_mask=recurrent_mask,
        )  # fmt: skip


class FastGRU(Layer):
    """Gated recurrent unit (Cho et al. 2014) in its reset-after form: torch.nn.GRU.

    backend: "auto", "native" (C++/CUDA), "triton" or "reference". Raises ValueError for another, as
    for a proj_size. recompute_gates: less memory, more time. zoneout, recurrent_dropout,
    recurrent_mask: what units forget in training, see `Layer`. All else is torch.nn.GRU's.
    """

    cell = "gru"
    stands_for = nn.GRU

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
        proj_size: None = None,
    ) -> None:
        checks.no_projection(proj_size)
        super().__init__(
            self.cell, "GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout,
            bidirectional, device=device, dtype=dtype, backend=backend,
            recompute_gates=recompute_gates, zoneout=zoneout, recurrent_dropout=recurrent_dropout,
            recurrent_mask=recurrent_mask,
        )  # fmt: skip

"""FastRNNCell, FastLSTMCell, FastGRUCell: one time step, as torch.nn's cell modules."""

from __future__ import annotations

from torch import Tensor, nn

from . import checks, functional

__all__ = ["FastGRUCell", "FastLSTMCell", "FastRNNCell"]


class _FastCellBase(nn.RNNCellBase):
    """One time step with torch.nn's cell parameters: the scan with T = 1."""

    cell: str
    states = 1
    proj_size = 0
    backend: str

    def _weights(self) -> list[Tensor]:
        weights = [self.weight_ih, self.weight_hh]
        if self.bias:
            weights += [self.bias_ih, self.bias_hh]
        return weights

    def __prepare_scriptable__(self):
        checks.no_torchscript()

    def forward(self, input: Tensor, hx=None):
        """input [B, I] or [I], hx [B, H] or [H] (FastLSTMCell: (h, c); None: zeros) -> next hx."""
        checks.cell_input(self, input)
        hidden, h = self.hidden_size, self.proj_size or self.hidden_size
        if hx is None:
            state = None
        elif self.states == 1:
            state = (checks.cell_state("hx", hx, input, h),)
        else:
            if isinstance(hx, Tensor) or len(hx) != 2:
                raise TypeError(f"hx must be a tuple (h_0, c_0), got a {type(hx).__name__}")
            state = (
                checks.cell_state("hx[0] (h_0)", hx[0], input, h),
                checks.cell_state("hx[1] (c_0)", hx[1], input, hidden),
            )
        unbatched = input.dim() == 1
        if unbatched:
            input, state = input.unsqueeze(0), state and [s.unsqueeze(0) for s in state]
        final = functional.step(
            self.cell, input, state, self._weights(), self.proj_size > 0, self.backend
        )
        if unbatched:
            final = [s[0] for s in final]
        return final[0] if self.states == 1 else tuple(final)


class FastRNNCell(_FastCellBase):
    """One step of FastRNN: torch.nn.RNNCell, and nonlinearity="identity"."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device=None,
        dtype=None,
        *,
        backend: str = "auto",
    ) -> None:
        checks.nonlinearity(nonlinearity)
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity
        self.cell = f"rnn_{nonlinearity}"
        self.backend = checks.backend(backend)


class FastLSTMCell(_FastCellBase):
    """One step of FastLSTM: torch.nn.LSTMCell; proj_size adds weight_hr [P, H] as in FastLSTM."""

    cell = "lstm"
    states = 2

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device=None,
        dtype=None,
        *,
        proj_size: int = 0,
        backend: str = "auto",
    ) -> None:
        if not 0 <= proj_size < hidden_size:
            raise ValueError(f"proj_size must lie in [0, {hidden_size}), got {proj_size}")
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)
        self.proj_size = proj_size
        if proj_size:
            empty = self.weight_hh.new_empty
            self.weight_hh = nn.Parameter(empty((4 * hidden_size, proj_size)))
            self.weight_hr = nn.Parameter(empty((proj_size, hidden_size)))
            self.reset_parameters()
        self.backend = checks.backend(backend)

    def _weights(self) -> list[Tensor]:
        weights = super()._weights()
        return [*weights, self.weight_hr] if self.proj_size else weights


class FastGRUCell(_FastCellBase):
    """One step of FastGRU: torch.nn.GRUCell."""

    cell = "gru"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device=None,
        dtype=None,
        *,
        backend: str = "auto",
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)
        self.backend = checks.backend(backend)

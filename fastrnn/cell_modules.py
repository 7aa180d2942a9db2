"""FastRNNCell, FastLSTMCell, FastGRUCell: one time step, as torch.nn's cell modules."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from . import backends, checks, functional, torch_private
from .face import HasFace

__all__ = ["FastGRUCell", "FastLSTMCell", "FastRNNCell"]


class _FastCellBase(HasFace, nn.RNNCellBase):
    """One time step with torch.nn's cell parameters: the scan with T = 1."""

    cell: str
    states = 1
    proj_size = 0
    backend: str

    _names = "weight_ih", "weight_hh", "bias_ih", "bias_hh"

    def _weights(self) -> list[Tensor]:
        names = self._names if self.bias else self._names[:2]
        parameters = self._parameters
        try:
            return [parameters[name] for name in names]
        except KeyError:  # a parametrization, pruning or weight_norm made some plain attributes
            return [getattr(self, name) for name in names]

    def __prepare_scriptable__(self):
        checks.no_torchscript()

    def forward(self, input: Tensor, hx=None):
        """One step, in the weights' dtype (or autocast's), on their device.

        Args:
            input: `[B, I]`, or `[I]` unbatched
            hx: `[B, H]` (`[H]` unbatched); FastLSTMCell: (h, c), h `[B, P]` with proj_size; None:
                zeros

        Returns the next hx, in the form of hx.

        Raises ValueError or RuntimeError as torch.nn's cells, TypeError for what is no Tensor: the
        name, what was expected and what was given. RuntimeError where `backend` cannot serve.
        """
        if torch_private.tracing_state() is not None:
            checks.no_torchscript()
        weights = self._weights()
        if not isinstance(input, Tensor):
            return checks.no_tensor(self, input, (input, hx), {})
        checks.cell_input(self, input, weights[0])
        if hx is None:
            state = None
        elif self.states == 1:
            state = (checks.cell_state("hx", hx, input, self.hidden_size),)
        else:
            state = checks.cell_states(self, hx, input)
        unbatched = input.dim() == 1
        if unbatched:
            input, state = input.unsqueeze(0), state and [s.unsqueeze(0) for s in state]
        final = functional.step(self.cell, input, state, weights, self.proj_size > 0, self.backend)
        if unbatched:
            final = [s[0] for s in final]
        return final[0] if self.states == 1 else tuple(final)


class FastRNNCell(_FastCellBase):
    """One step of FastRNN: torch.nn.RNNCell, and nonlinearity="identity".

    A step to be differentiated on a CPU is torch's own operator, where nobody asks for a backend by
    name: it is one product and one activation, and Python's share of a backward costs more.

    backend as FastRNN's. Raises ValueError for an unknown nonlinearity or backend.
    """

    stands_for = nn.RNNCell

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

    def forward(self, input: Tensor, hx=None):
        # Written for speed: a step in training is mostly the Python around it.
        weights = self._weights() if torch.is_grad_enabled() else None
        if weights and self._is_trained_by_torch(input, hx, weights):
            operator = _OPERATORS[self.cell]
            h = input.new_zeros((*input.shape[:-1], self.hidden_size)) if hx is None else hx
            try:
                if input.ndim == h.ndim == 2:
                    return operator(input, h, *weights)
                if input.ndim == h.ndim == 1:
                    return operator(input.unsqueeze(0), h.unsqueeze(0), *weights).squeeze(0)
            except (AttributeError, RuntimeError, TypeError):
                return super().forward(input, hx)  # the checks know what is wrong
        return super().forward(input, hx)

    forward.__doc__ = _FastCellBase.forward.__doc__

    def _is_trained_by_torch(self, input: Tensor, hx: Tensor | None, weights) -> bool:
        return (
            isinstance(input, Tensor)
            and torch_private.any_requires_grad(input, hx, weights)
            and torch_private.tracing_state() is None
            and not torch_private.any_autocast()
            and self.trained_by_torch("cpu" if input.is_cpu else "", input.dtype)
            and not torch.compiler.is_compiling()
        )

    def trained_by_torch(self, device: str, dtype: torch.dtype) -> bool:
        """Is a step that is to be differentiated torch's own operator?"""
        return (
            device == "cpu"
            and (dtype is torch.float32 or dtype is torch.float64)
            and self.cell in _OPERATORS
            and backends.is_open(self.backend)
        )


_OPERATORS = {"rnn_tanh": torch.rnn_tanh_cell, "rnn_relu": torch.rnn_relu_cell}


class FastLSTMCell(_FastCellBase):
    """One step of FastLSTM: torch.nn.LSTMCell; proj_size adds weight_hr `[P, H]`, as FastLSTM's.

    backend as FastLSTM's. Raises ValueError for an unknown one, or a proj_size not below H.
    """

    cell = "lstm"
    states = 2
    stands_for = nn.LSTMCell

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
        if proj_size and not 0 < proj_size < hidden_size:
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
    """One step of FastGRU: torch.nn.GRUCell.

    backend as FastGRU's. Raises ValueError for an unknown one.
    """

    cell = "gru"
    stands_for = nn.GRUCell

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

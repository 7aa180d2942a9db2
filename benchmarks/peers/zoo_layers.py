"""Cells of the zoo as other packages compute them, with the weights of `fastrnn.Recurrent`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..cases.problem import Problem


class _Given(nn.Module):
    """A layer with a problem's weights; x [T, B, I] -> (y [T, B, H], finals [1, B, H])."""

    def __init__(self, problem: Problem):
        super().__init__()
        for name, weight in problem.weights.items():
            self.register_parameter(name, nn.Parameter(weight.clone()))

    def projected(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight_ih_l0, self.bias_ih_l0)


class XLSTM(_Given):
    """The xlstm package's sLSTM cell with its backend "vanilla", the one that a CPU has."""

    def __init__(self, problem: Problem):
        from xlstm.blocks.slstm.cell import sLSTMCell, sLSTMCellConfig

        super().__init__(problem)
        self.cell = sLSTMCell(
            sLSTMCellConfig(
                hidden_size=problem.case.H,
                num_heads=len(self.weight_hh_l0),
                backend="vanilla",
                dtype="float32",
                enable_automatic_mixed_precision=False,
                input_shape="SBGNH",
                output_shape="SBH",
            )
        )
        self.cell._recurrent_kernel_ = self.weight_hh_l0  # laid out as ours, gates i f z o too
        self.cell._bias_ = self.bias_hh_l0

    def forward(self, x: Tensor, hx=None):
        output, states = self.cell(self.projected(x))
        return output, tuple(states.unsqueeze(1))


class _Projection(nn.Module):
    """Candidate and gate of x, in the package's order, with our biases."""

    def __init__(self, owner: LucidMinGRU):
        super().__init__()
        self._weights = owner.weight_ih_l0, owner.bias_ih_l0  # a tuple: registered by the owner

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, *(w.view(2, -1, *w.shape[1:]).flip(0).flatten(0, 1)
                             for w in self._weights))  # fmt: skip


class LucidMinGRU(_Given):
    """minGRU-pytorch's layer, batch first as it is."""

    def __init__(self, problem: Problem):
        from minGRU_pytorch import minGRU

        super().__init__(problem)
        self.layer = minGRU(problem.case.H)
        self.layer.to_hidden_and_gate = _Projection(self)

    def forward(self, x: Tensor, hx=None):
        output, last = self.layer(x.transpose(0, 1), return_next_prev_hidden=True)
        return output.transpose(0, 1), (last.transpose(0, 1),)


class LogSpaceMinGRU(_Given):
    """The paper's parallel form in plain torch (Feng et al. 2024, appendix B), time first."""

    def forward(self, x: Tensor, hx=None):
        z, n = self.projected(x).chunk(2, -1)
        log_n = torch.where(n >= 0, (F.relu(n) + 0.5).log(), -F.softplus(-n))
        kept = -F.softplus(z).cumsum(0)
        output = (kept + (log_n - F.softplus(-z) - kept).logcumsumexp(0)).exp()
        return output, (output[-1:],)

"""An LSTM with nothing but its forget gate.

J. van der Westhuizen and J. Lasenby 2018, "The unreasonable effectiveness of the forget gate",
arXiv 1804.04849:

    s_t = U_f h_{t-1} + W_f x_t + b_f
    c_t = sigmoid(s_t) * c_{t-1} + (1 - sigmoid(s_t - beta)) * tanh(U_c h_{t-1} + W_c x_t + b_c)
    h_t = c_t

beta, which lets more in than is forgotten, is 1 as in the paper.
"""

from __future__ import annotations

import torch

from ..cells.declare import cell
from .layer import ZooLayer

BETA = 1.0


@cell(gates=2)
def janet(x, r, state):
    """Gates f c."""
    s = x[0] + r[0]
    new = torch.tanh(x[1] + r[1])
    return (torch.sigmoid(s) * state[0] + torch.sigmoid(BETA - s) * new,)


class JANET(ZooLayer):
    """JANET, "just another network" (van der Westhuizen and Lasenby 2018): gates f c.

    Args:
        longest: the paper's T_max, from 3 on: the biases of the forget gate are drawn for memories
            of up to so many steps, b_f = log(u) with u uniform in [1, T_max - 1] ("chrono
            initialisation", Tallec and Ollivier 2018, arXiv 1804.11188), other biases are zeros;
            None: all as torch.nn's
        others: as `fastrnn.Recurrent`'s, without its cell

    Raises ValueError for another `longest`; else as `fastrnn.Recurrent`.
    """

    definition = janet

    def __init__(self, *arguments, longest: int | None = None, **options) -> None:
        if longest is not None and not longest >= 3:
            raise ValueError(f"longest must be a number of steps from 3 on, got {longest!r}")
        self.longest = longest
        super().__init__(*arguments, **options)

    def extra_repr(self) -> str:
        extra = super().extra_repr()
        return extra if self.longest is None else f"{extra}, longest={self.longest}"

    def reset_parameters(self) -> None:
        super().reset_parameters()
        if self.longest is None:
            return
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.startswith("bias"):
                    parameter.zero_()
                if name.startswith("bias_ih"):
                    parameter[: self.hidden_size].uniform_(1, self.longest - 1).log_()

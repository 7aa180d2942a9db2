"""xLSTM's scalar LSTM: exponential gates, kept in range by a normaliser, and units in heads.

M. Beck, K. Pöppel, M. Spanring, A. Auer, O. Prudnikova, M. Kopp, G. Klambauer, J. Brandstetter and
S. Hochreiter 2024, "xLSTM: Extended Long Short-Term Memory", arXiv 2405.04517:

    i_t = exp(W_i x_t + R_i h_{t-1} + b_i)        z_t = tanh(W_z x_t + R_z h_{t-1} + b_z)
    f_t = sigmoid(W_f x_t + R_f h_{t-1} + b_f)    o_t = sigmoid(W_o x_t + R_o h_{t-1} + b_o)
    c_t = f_t c_{t-1} + i_t z_t                   n_t = f_t n_{t-1} + i_t
    h_t = o_t c_t / n_t

or f_t = exp(..), and R_i .. R_o are block-diagonal: a head of units sees that head alone. c and n
are carried over exp(m), and the exponential gates with them, which changes nothing in h:

    m_t = max(log f_t + m_{t-1}, log i_t)
    i'_t = exp(log i_t - m_t)                     f'_t = exp(log f_t + m_{t-1} - m_t)

Where n is 0 nothing is remembered, and m_t is log i_t, as in the authors' code: so states of zeros,
with which a sequence or an episode begins, are empty whatever the gates are. From there on one of
i' and f' is 1 at each step, and n never less than 1.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from ..cells.declare import cell
from ..recurrent import Recurrent
from .layer import ZooLayer

NOTHING = -1e30  # the logarithm of how much is remembered of a state of zeros


def _step(i, log_f, z, o, c, n, m):
    """h c n m from what comes before the gates, and log f."""
    log_f = torch.where(n == 0, NOTHING, log_f + m)
    m = torch.maximum(log_f, i)
    i, f = torch.exp(i - m), torch.exp(log_f - m)
    c, n = f * c + i * torch.tanh(z), f * n + i
    return torch.sigmoid(o) * (c / n), c, n, m


@cell(gates=4, states=4, product="heads")
def slstm(x, r, state):
    """Gates i f z o, states h c n m."""
    i, f, z, o = (x[k] + r[k] for k in range(4))
    return _step(i, F.logsigmoid(f), z, o, *state[1:])


@cell(gates=4, states=4, product="heads")
def slstm_exp(x, r, state):
    """The same with an exponential forget gate."""
    i, f, z, o = (x[k] + r[k] for k in range(4))
    return _step(i, f, z, o, *state[1:])


_CELLS = {"sigmoid": slstm, "exp": slstm_exp}


class SLSTM(ZooLayer):
    """sLSTM (Beck et al. 2024), the recurrence of its block: gates i f z o, states (h, c, n, m).

    weight_hh_l0 is `[N, 4*H/N, H/N]`: a block for each of N heads, gate by gate. hx of zeros, or
    none, is an empty memory; c and n are what the paper has over exp(m). Weights are drawn as
    torch.nn's; what stands around the recurrence in the paper's block (convolution, normalisation,
    projections) is the caller's.

    Args:
        heads: N, which divides hidden_size
        forget_gate: "sigmoid" or "exp"
        others: as `fastrnn.Recurrent`'s, without its cell

    Raises ValueError for another `forget_gate`; else as `fastrnn.Recurrent`.
    """

    definition = slstm

    def __init__(self, *arguments, heads: int = 4, forget_gate: str = "sigmoid", **options) -> None:
        if forget_gate not in _CELLS:
            raise ValueError(f"forget_gate must be one of {', '.join(_CELLS)}, got {forget_gate!r}")
        self.forget_gate = forget_gate
        Recurrent.__init__(self, _CELLS[forget_gate], *arguments, heads=heads, **options)

    def extra_repr(self) -> str:
        extra = f"{super().extra_repr()}, heads={self.heads}"
        return extra if self.forget_gate == "sigmoid" else f"{extra}, forget_gate='exp'"

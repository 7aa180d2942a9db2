"""`fastrnn.zoo.LayerNormLSTM` is torchaudio's: its formulas, and its weights both ways."""

import pytest
import torch
from helpers import DEVICE, assert_same, randn
from torch import nn

from fastrnn import cell, zoo
from fastrnn.zoo.layer_norm_lstm import layer_norm_lstm as layer_norm_lstm_cell

F64 = torch.float64
T, B, I, H = 5, 3, 4, 6  # noqa: E741


class CustomLSTM(nn.Module):
    """What torchaudio.models.rnnt._CustomLSTM computes with layer_norm=True."""

    def __init__(self, input_dim, hidden_dim, eps):
        super().__init__()
        self.x2g = nn.Linear(input_dim, 4 * hidden_dim, bias=False)
        self.p2g = nn.Linear(hidden_dim, 4 * hidden_dim, bias=False)
        self.g_norm, self.c_norm = (nn.LayerNorm(n * hidden_dim, eps) for n in (4, 1))

    def forward(self, x, state):
        (h, c), outputs = state, []
        for step in self.x2g(x):
            i, f, g, o = self.g_norm(step + self.p2g(h)).chunk(4, 1)
            c = self.c_norm(f.sigmoid() * c + i.sigmoid() * g.tanh())
            h = o.sigmoid() * c.tanh()
            outputs.append(h)
        return torch.stack(outputs), (h, c)


NAMES = {"weight_ih_l0": "x2g.weight", "weight_hh_l0": "p2g.weight"}
NORMS = ("g_norm.weight", "g_norm.bias", "c_norm.weight", "c_norm.bias")


def from_torchaudio(weights):
    ours = {name: weights[theirs] for name, theirs in NAMES.items()}
    return ours | {"params_l0": torch.cat([weights[n] for n in NORMS]).view(10, -1)}


def to_torchaudio(weights):
    theirs = {name: weights[ours] for ours, name in NAMES.items()}
    sizes = [n * weights["params_l0"].shape[1] for n in (4, 4, 1, 1)]
    return theirs | dict(zip(NORMS, weights["params_l0"].flatten().split(sizes)))


@cell(gates=4, states=2, params=10)
def of_rnnt(x, r, state, p):
    return layer_norm_lstm_cell.step(x, r, state, p, eps=1e-3)


class OfRNNT(zoo.LayerNormLSTM):
    definition = of_rnnt


@pytest.mark.parametrize("eps", [1e-5, 1e-3])
def test_weights_of_torchaudio(eps):
    """Both ways, and what they compute."""
    theirs = CustomLSTM(I, H, eps).to(DEVICE, F64)
    for p in theirs.parameters():
        nn.init.normal_(p)
    layer = (zoo.LayerNormLSTM if eps == 1e-5 else OfRNNT)(
        I, H, dtype=F64, device=DEVICE, backend="reference"
    )
    layer.load_state_dict(from_torchaudio(theirs.state_dict()))
    x, state = randn(T, B, I, dtype=F64), [randn(1, B, H, dtype=F64) for _ in range(2)]
    output, (h, c) = layer(x, tuple(state))
    exact, (h_n, c_n) = theirs(x, [s[0] for s in state])
    assert_same([output, h[0], c[0]], [exact, h_n, c_n], 1e-13)
    back = to_torchaudio(layer.state_dict())
    assert back.keys() == theirs.state_dict().keys()
    assert all(torch.equal(back[n], w) for n, w in theirs.state_dict().items())

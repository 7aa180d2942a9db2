"""LSTM with proj_size (https://arxiv.org/abs/1402.1128) against torch.nn, states and all."""

import pytest
import torch
from helpers import DEVICE, assert_same, flat, gradients, randn
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import fastrnn
from fastrnn import backends

CONFIGURATIONS = {
    "plain": {},
    "no_bias": dict(bias=False),
    "two_layers": dict(num_layers=2),
    "both_directions": dict(num_layers=2, bidirectional=True, batch_first=True),
}
quiet = pytest.mark.filterwarnings("ignore:LSTM with projections", "ignore:fastrnn runs lstm")


def layers(**options):
    theirs = nn.LSTM(4, 9, proj_size=3, device=DEVICE, dtype=torch.float64, **options)
    ours = fastrnn.FastLSTM(4, 9, proj_size=3, device=DEVICE, dtype=torch.float64, **options)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def states(rows: int, b: int):
    """(h_0 [rows, B, P], c_0 [rows, B, H])"""
    return tuple(randn(rows, b, size, dtype=torch.float64, grad=True) for size in (3, 9))


@quiet
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
@pytest.mark.parametrize("ragged", [False, True], ids=["dense", "ragged"])
def test_values_and_gradients(configuration, ragged):
    """Gradients flow from output, h_n and c_n into the input, h_0, c_0 and every weight."""
    ours, theirs = layers(**CONFIGURATIONS[configuration])
    x = randn(5, 5, 4, dtype=torch.float64, grad=True)
    state = states(ours.num_layers * (2 if ours.bidirectional else 1), 5)

    def call(layer):
        data = x
        if ragged:
            data = pack_padded_sequence(x, [2, 5, 1, 3, 3], layer.batch_first, enforce_sorted=False)
        return layer(data, state)

    a, b = call(ours), call(theirs)
    assert_same(a, b, 1e-12)
    assert_same(
        gradients(a, [x, *state, *ours.parameters()]),
        gradients(b, [x, *state, *theirs.parameters()]),
        1e-11,
    )
    assert [t.shape[-1] for t in flat(a)[1:]] == [3, 9]


@quiet
def test_lengths_and_resets():
    ours, _ = layers()
    x, resets = randn(6, 2, 4, dtype=torch.float64), torch.zeros(6, 2, dtype=torch.bool)
    resets[3, 0] = True
    output, (h, c) = ours(x, lengths=[5, 0], resets=resets.to(DEVICE))
    tail, (h1, c1) = ours(x[3:5, :1])
    assert_same([output[3:5, :1], h[:, :1], c[:, :1]], [tail, h1, c1], 1e-12)
    assert (output[:, 1] == 0).all() and (h[:, 1] == 0).all()


@quiet
def test_derivatives():
    ours, _ = layers()
    x = randn(3, 2, 4, dtype=torch.float64, grad=True)
    state = states(1, 2)
    call = lambda x, h, c: tuple(flat(ours(x, (h, c))))  # noqa: E731
    assert torch.autograd.gradcheck(call, (x, *state))
    assert torch.autograd.gradgradcheck(call, (x, *state))


def test_explain_says_who_serves():
    layer = fastrnn.FastLSTM(4, 9, proj_size=3, device=DEVICE)
    with pytest.warns(UserWarning, match="slow reference backend"):
        backends._choose_cached.cache_clear()
        text = fastrnn.explain(layer, randn(5, 2, 4))
    assert "backend: reference" in text and "proj_size" in text

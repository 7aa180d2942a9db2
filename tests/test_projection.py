"""LSTM with proj_size (https://arxiv.org/abs/1402.1128) against torch.nn, states and all."""

import copy

import pytest
import torch
from helpers import DEVICE, assert_as_exact, assert_same, flat, gradients, randn
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import fastrnn
from fastrnn import backends

F64 = torch.float64
CONFIGURATIONS = {
    "plain": {},
    "no_bias": dict(bias=False),
    "two_layers": dict(num_layers=2),
    "both_directions": dict(num_layers=2, bidirectional=True, batch_first=True),
}
SIZES = {  # T, B, I, H, P
    "P1": (6, 3, 4, 17, 1),
    "one_less": (6, 5, 3, 18, 17),
    "several_panels": (7, 50, 5, 70, 66),
    "T1": (1, 7, 5, 33, 12),
    "T1_B1": (1, 1, 5, 20, 17),
    "T2": (2, 3, 4, 19, 9),
    "T4_B50": (4, 50, 4, 19, 18),
    "B1": (9, 1, 4, 150, 133),
    "blocks": (40, 30, 2, 9, 4),  # more rows than backward takes at once
    "rows_in_chunks": (5, 400, 2, 5, 3),
}
quiet = pytest.mark.filterwarnings("ignore:LSTM with projections", "ignore:fastrnn runs lstm")
pytestmark = quiet


def layers(i=4, h=9, p=3, dtype=F64, **options):
    theirs = nn.LSTM(i, h, proj_size=p, device=DEVICE, dtype=dtype, **options)
    ours = fastrnn.FastLSTM(i, h, proj_size=p, device=DEVICE, dtype=dtype, **options)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def states(rows: int, b: int, h=9, p=3, dtype=F64):
    """(h_0 [rows, B, P], c_0 [rows, B, H])"""
    return tuple(randn(rows, b, size, dtype=dtype, grad=True) for size in (p, h))


def everything(layer, x, state):
    """Results and all gradients."""
    result = layer(x, state)
    return flat(result) + gradients(result, [x, *(state or ()), *layer.parameters()])


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
@pytest.mark.parametrize("ragged", [False, True], ids=["dense", "ragged"])
def test_values_and_gradients(configuration, ragged, poisoned):
    """Gradients flow from output, h_n and c_n into the input, h_0, c_0 and every weight."""
    ours, theirs = layers(**CONFIGURATIONS[configuration])
    x = randn(5, 5, 4, dtype=F64, grad=True)
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


@pytest.mark.parametrize("given", [False, True], ids=["zeros", "hx"])
@pytest.mark.parametrize("size", SIZES)
def test_sizes(size, given, poisoned):
    t, b, i, h, p = SIZES[size]
    ours, theirs = layers(i, h, p)
    x, state = randn(t, b, i, dtype=F64, grad=True), states(1, b, h, p) if given else None
    assert_same(everything(ours, x, state), everything(theirs, x, state), 1e-10)
    with torch.no_grad():  # nothing is saved then
        assert_same(ours(x, state), theirs(x, state), 1e-12)


@pytest.mark.parametrize("size", ["several_panels", "T4_B50", "B1", "blocks"])
def test_float32_rounds_as_torch_nn(size):
    t, b, i, h, p = SIZES[size]
    ours, theirs = layers(i, h, p, torch.float32)
    x, state = randn(t, b, i, grad=True), states(1, b, h, p, torch.float32)
    exact = copy.deepcopy(theirs).double()
    wide = [s.detach().double().requires_grad_() for s in (x, *state)]
    assert_as_exact(
        everything(ours, x, state), everything(theirs, x, state),
        everything(exact, wide[0], tuple(wide[1:])), 2e-6,
    )  # fmt: skip


@pytest.mark.parametrize("bidirectional", [False, True])
def test_lengths_and_resets(bidirectional, poisoned):
    """As the reference, which takes rows and steps one after another."""
    ours, _ = layers(num_layers=2, bidirectional=bidirectional)
    slow = copy.deepcopy(ours)
    slow.backend = "reference"
    x, resets = randn(6, 4, 4, dtype=F64, grad=True), torch.rand(6, 4, device=DEVICE) < 0.3
    rows = ours.num_layers * (2 if bidirectional else 1)
    state = states(rows, 4)
    calls = [
        lambda m: m(x, state, lengths=[5, 0, 6, 2]),
        lambda m: m(x, state, lengths=[5, 0, 6, 2], resets=resets),
        lambda m: m(pack_padded_sequence(x, [6, 5, 3, 1]), state, resets=resets),
    ]
    for call in calls:
        results = [call(m) for m in (ours, slow)]
        assert_same(*results, 1e-11)
        grads = [gradients(r, [x, *state, *m.parameters()]) for r, m in zip(results, (ours, slow))]
        assert_same(*grads, 1e-11)


def test_a_row_that_is_reset_starts_anew():
    ours, _ = layers()
    x, resets = randn(6, 2, 4, dtype=F64), torch.zeros(6, 2, dtype=torch.bool)
    resets[3, 0] = True
    output, (h, c) = ours(x, lengths=[5, 0], resets=resets.to(DEVICE))
    tail, (h1, c1) = ours(x[3:5, :1])
    assert_same([output[3:5, :1], h[:, :1], c[:, :1]], [tail, h1, c1], 1e-12)
    assert (output[:, 1] == 0).all() and (h[:, 1] == 0).all()


@pytest.mark.parametrize("used", [0, 1, 2], ids=["output", "h_n", "c_n"])
def test_one_result_alone_is_used(used):
    """Nobody asks for gradients of the other results, nor of the states."""
    ours, theirs = layers(num_layers=2, bidirectional=True)
    x = randn(5, 3, 4, dtype=F64, grad=True)
    grads = [
        gradients([flat(m(x))[used]], [x, *m._flat_weights[: 10 if used else 20]])
        for m in (ours, theirs)
    ]
    assert_same(*grads, 1e-11)


def test_unbatched_and_dropout():
    ours, theirs = layers(num_layers=2, dropout=0.5)
    x, state = randn(5, 4, dtype=F64), [s[:, 0] for s in states(2, 1)]
    ours.eval(), theirs.eval()
    assert_same(ours(x, state), theirs(x, state), 1e-12)
    ours.train(), theirs.train()
    results = []
    for layer in (ours, theirs):
        torch.manual_seed(3)
        results.append(layer(x, state))
    assert_same(*results, 1e-12)


def test_recomputed_gates():
    ours, _ = layers(5, 35, 18, num_layers=2, bidirectional=True)
    thrifty = copy.deepcopy(ours)
    thrifty.recompute_gates = True
    x, state = randn(9, 4, 5, dtype=F64, grad=True), states(4, 4, 35, 18)
    assert_same(everything(thrifty, x, state), everything(ours, x, state), 1e-10)


def test_derivatives():
    ours, _ = layers(2, 4, 2)
    x = randn(2, 2, 2, dtype=F64, grad=True)
    state = states(1, 2, 4, 2)
    call = lambda x, h, c: tuple(flat(ours(x, (h, c))))  # noqa: E731
    assert torch.autograd.gradcheck(call, (x, *state))
    assert torch.autograd.gradgradcheck(call, (x, *state))


def test_torch_func():
    """Per-sample gradients by vmap, and a directional derivative."""
    ours, _ = layers()
    weights = dict(ours.named_parameters())
    x = randn(3, 5, 1, 4, dtype=F64)

    def loss(weights, x):
        output, (h, c) = torch.func.functional_call(ours, weights, (x,))
        return output.pow(2).sum() + c.sum()

    grads = torch.func.vmap(torch.func.grad(loss), (None, 0))(weights, x)
    for row in range(3):
        alone = torch.func.grad(loss)(weights, x[row])
        assert_same([g[row] for g in grads.values()], [*alone.values()], 1e-10)
    values, tangent = torch.func.jvp(lambda x: loss(weights, x), (x[0],), (x[1],))
    expected = (torch.func.grad(loss, 1)(weights, x[0]) * x[1]).sum()
    assert_same([tangent], [expected], 1e-9)


def test_explain_says_who_serves():
    """The backend that serves LSTM; one without projections of its own says what it does."""
    layer = fastrnn.FastLSTM(4, 9, proj_size=3, device=DEVICE)
    backend = backends.choose("lstm", DEVICE, torch.float32)[0]
    text = fastrnn.explain(layer, randn(5, 2, 4))
    assert f"backend: {backend.name}" in text
    assert ("weight_hh @ weight_hr" in text) is not backend.projects

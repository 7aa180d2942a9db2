"""proj_size on backends whose kernels have none: W_hh W_hr is the recurrent matrix there."""

import copy

import loop_backend
import pytest
import torch
from helpers import DEVICE, assert_same, flat, gradients, randn, slow_but
from torch import nn
from torch.nn.utils._per_sample_grad import call_for_per_sample_grads
from torch.nn.utils.rnn import pack_padded_sequence

import fastrnn
from fastrnn import backends, ops

F64 = torch.float64
SIZE, H, P = 3, 7, 4  # input features, units, projected units
CONFIGURATIONS = {
    "plain": {},
    "no_bias": dict(bias=False),
    "both_directions": dict(num_layers=2, bidirectional=True),
}
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections", "ignore:fastrnn runs lstm")


@pytest.fixture(autouse=True)
def loop():
    """A backend without projections of its own, in float64."""
    loop_backend.add()
    yield
    loop_backend.remove()


def pair(dtype=F64, backend="loop", **options):
    """(a layer on that backend, the same on the reference)"""
    ours = fastrnn.FastLSTM(
        SIZE, H, proj_size=P, dtype=dtype, device=DEVICE, backend=backend, **options
    )
    other = copy.deepcopy(ours)
    other.backend = "reference"
    return ours, other


def states(layer, b, dtype=F64):
    rows = layer.num_layers * (2 if layer.bidirectional else 1)
    return tuple(randn(rows, b, n, dtype=dtype, grad=True) for n in (P, H))


def compare(pair, x, state, call, tolerance=1e-11):
    results = [call(m) for m in pair]
    assert_same(*results, tolerance)
    leaves = [x, *(state or ())]
    grads = [gradients(r, [*leaves, *m.parameters()]) for r, m in zip(results, pair)]
    assert_same(*grads, tolerance)


@pytest.mark.parametrize("configuration", slow_but(["both_directions"], CONFIGURATIONS))
@pytest.mark.parametrize("given", [False, True], ids=["zeros", "hx"])
def test_every_form_of_rows(configuration, given):
    layers = pair(**CONFIGURATIONS[configuration])
    x, resets = randn(5, 4, SIZE, dtype=F64, grad=True), torch.rand(5, 4, device=DEVICE) < 0.3
    resets[0, 0] = resets[4, 1] = True
    state = states(layers[0], 4) if given else None
    lengths = [3, 0, 5, 2]
    calls = [
        lambda m: m(x, state),
        lambda m: m(x, state, resets=resets),
        lambda m: m(x, state, lengths=lengths),
        lambda m: m(x, state, lengths=lengths, resets=resets),
        lambda m: m(pack_padded_sequence(x, [5, 4, 2, 2]), state, resets=resets),
    ]
    for call in calls:
        compare(layers, x, state, call)


def test_as_torch_nn():
    theirs = nn.LSTM(SIZE, H, proj_size=P, dtype=F64, bidirectional=True, device=DEVICE)
    ours, _ = pair(bidirectional=True)
    ours.load_state_dict(theirs.state_dict())
    x, state = randn(4, 2, SIZE, dtype=F64, grad=True), states(ours, 2)
    compare((ours, theirs), x, state, lambda m: m(x, state))


def test_single_step():
    cells = [
        fastrnn.FastLSTMCell(SIZE, H, proj_size=P, dtype=F64, device=DEVICE, backend=b)
        for b in ("loop", "reference")
    ]
    cells[1].load_state_dict(cells[0].state_dict())
    x, state = (
        randn(3, SIZE, dtype=F64, grad=True),
        tuple(randn(3, n, dtype=F64, grad=True) for n in (P, H)),
    )
    compare(cells, x, state, lambda m: m(x, state))
    compare(cells, x, None, lambda m: m(x))


@pytest.mark.slow
def test_derivatives_of_second_order():
    layer, _ = pair()
    x, state = randn(2, 1, SIZE, dtype=F64, grad=True), states(layer, 1)
    call = lambda x, h, c: tuple(flat(layer(x, (h, c))))  # noqa: E731
    assert torch.autograd.gradgradcheck(call, (x, *state))


def test_per_sample_gradients():
    layers = pair(batch_first=True)
    x = randn(2, 3, SIZE, dtype=F64)
    samples = []
    for layer in layers:
        output, (h, c) = call_for_per_sample_grads(layer)(x)
        (output.pow(2).sum() + h.sum() + c.sum()).backward()
        samples.append([p.grad_sample for p in layer.parameters()])
    assert_same(*samples, 1e-11)


@pytest.mark.parametrize("bidirectional", slow_but([True], [False, True]))
def test_lengths_in_one_graph(bidirectional):
    layers = pair(bidirectional=bidirectional)
    x, state = randn(5, 3, SIZE, dtype=F64, grad=True), states(layers[0], 3)
    compiled = torch.compile(layers[0], fullgraph=True, backend="aot_eager")
    lengths = torch.tensor([2, 0, 5])
    result = compiled(x, state, lengths=lengths)
    expected = layers[1](x, state, lengths=lengths)
    assert_same(result, expected, 1e-11)
    grads = [gradients(r, [x, *state, *m.parameters()]) for r, m in zip((result, expected), layers)]
    assert_same(*grads, 1e-11)


def test_explained_and_not_swapped(monkeypatch):
    layer, _ = pair()
    assert "weight_hh @ weight_hr" in fastrnn.explain(layer, randn(2, 2, SIZE, dtype=F64))
    monkeypatch.setattr(backends.Cpu, "projects", False)
    model = nn.ModuleDict({"projected": nn.LSTM(SIZE, H, proj_size=P, device=DEVICE)})
    _, left = fastrnn.accelerate(model, report=True)
    assert "proj_size of their own" in left["projected"] or not ops.NATIVE_BUILT


def test_triton():
    try:
        backends.choose("lstm", DEVICE, torch.float32, "triton", True)
    except RuntimeError as refusal:
        pytest.skip(str(refusal))
    layers = pair(torch.float32, "triton", bidirectional=True)
    x, state = randn(3, 2, SIZE, grad=True), states(layers[0], 2, torch.float32)
    compare(layers, x, state, lambda m: m(x, state), 1e-5)

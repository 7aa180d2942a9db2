"""bfloat16 on the native CPU kernels: stored in it, with float32 sums, cells and carried states.

Rounding errors: at most twice torch.nn's (or plain torch operations'), RMS of several runs.
"""

import copy
import functools

import pytest
import torch
from helpers import (
    CELLS,
    DEVICE,
    TORCH_CELLS,
    backend_of,
    each_cell,
    fast,
    flat,
    gradients,
    hx,
    oracle,
    problem,
    randn,
    twins,
)

import fastrnn
from fastrnn import functional, ops
from fastrnn.autograd import recurrent_scan

BF16 = torch.bfloat16
pytestmark = [
    pytest.mark.skipif(not ops.NATIVE_BUILT, reason="the native library is not built"),
    pytest.mark.skipif(DEVICE != "cpu", reason="about the CPU kernels"),
]

SIZES = {
    "H1_I1": dict(t=5, b=20, i=1, h=1),
    "H17": dict(t=9, b=2, i=3, h=17),
    "H33_I65": dict(t=6, b=7, i=65, h=33),
    "H130": dict(t=12, b=5, i=40, h=130),
    "H257_I255": dict(t=7, b=3, i=255, h=257),  # a block of sums and one number
    "T1": dict(t=1, b=4, i=7, h=33),
    "T1_B1": dict(t=1, b=1, i=130, h=66),
    "T2_B70": dict(t=2, b=70, i=5, h=17),
    "B1": dict(t=20, b=1, i=6, h=70),
    "B60": dict(t=9, b=60, i=6, h=40),
}
KINDS = {
    "dense": {},
    "ragged": dict(ragged=True),
    "resets": dict(resets=True),
    "ragged_resets": dict(ragged=True, resets=True),
    "ready_gx": dict(project=False),
    "no_bias": dict(bias=False),
}
CONFIGURATIONS = {
    "no_bias": dict(bias=False),
    "two_directions": dict(bidirectional=True),
    "three_layers": dict(num_layers=3),
    "batch_first": dict(num_layers=2, bidirectional=True, batch_first=True),
}
RUNS = 4


def double(tensors):
    return [t.detach().double().requires_grad_() for t in tensors]


@torch.no_grad()
def settle(cell, input, weights, state):
    """Keeps a ReLU away from its kink, where any rounding may turn a slope from 0 to 1."""
    if cell == "rnn_relu":
        for t in (input, *state):
            t.abs_()
        for w in weights:
            w.abs_().mul_(0.3 if w.dim() > 1 else 1)
            w[1::2] *= -1


def assert_rounds_as_well(run):
    """run(seed) -> (ours, theirs, exact): lists of tensors."""
    totals = None
    for seed in range(RUNS):
        torch.manual_seed(seed)
        runs = [[t.detach().double() for t in result] for result in run(seed)]
        squares = [
            torch.stack([(a - e).square().sum(), (b - e).square().sum(), e.square().sum()])
            for a, b, e in zip(*runs, strict=True)
        ]
        totals = squares if totals is None else [p + q for p, q in zip(totals, squares)]
    for index, (ours, theirs, size) in enumerate(torch.stack(totals).sqrt().tolist()):
        assert ours <= 2 * theirs + 2e-3 * size, f"tensor {index}: {ours} of {size}, not {theirs}"


def compare_layers(cell, t, b, i, h, **configuration):
    def run(seed):
        layers = twins(cell, i, h, backend="native", dtype=BF16, **configuration)
        first = layers[0]
        shape = (b, t, i) if first.batch_first else (t, b, i)
        rows = first.num_layers * (2 if first.bidirectional else 1)
        x, state = randn(*shape, dtype=BF16), flat(hx(cell, rows, b, h, dtype=BF16))
        for layer in layers:
            settle(cell, x, layer.parameters(), state)
        results = []
        for layer in (*layers, copy.deepcopy(first).double()):
            dtype = next(layer.parameters()).dtype
            leaves = [p.to(dtype, copy=True).requires_grad_() for p in (x, *state)]
            result = layer(leaves[0], tuple(leaves[1:]) if len(state) > 1 else leaves[1])
            grads = gradients(result, [*leaves, *layer.parameters()])
            assert all(p.dtype == dtype for p in flat(result) + grads)
            results.append(flat(result) + grads)
        return results

    assert_rounds_as_well(run)


@each_cell(TORCH_CELLS)
@pytest.mark.parametrize("size", SIZES)
def test_sizes_against_torch_nn(cell, size):
    compare_layers(cell, **SIZES[size])


@each_cell(TORCH_CELLS)
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_configurations_against_torch_nn(cell, configuration):
    compare_layers(cell, t=6, b=3, i=5, h=17, **CONFIGURATIONS[configuration])


@each_cell()
@pytest.mark.parametrize("directions", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_kinds_against_plain_torch(cell, kind, directions):
    options = dict(KINDS[kind])
    ragged, reset = options.pop("ragged", False), options.pop("resets", False)
    project = options.get("project", True)
    if not project and directions == 3:
        pytest.skip("a ready projection has one direction")

    def run(seed):
        input, weights, state = problem(cell, 9, 5, 7, 33, directions, dtype=BF16, **options)
        settle(cell, input, weights, state)
        batch_sizes = torch.tensor([4, 4, 4, 3, 3, 2, 1, 1, 1]) if ragged else None
        if ragged:
            input = input.detach().flatten(0, 1)[:23].clone().requires_grad_()
        resets = torch.rand(input.shape[:-1]) < 0.2 if reset else None
        rest = batch_sizes, resets, directions, project
        leaves, exact = [input, *weights, *state], double([input, *weights, *state])
        n = 1 + len(weights)
        output, final = recurrent_scan(cell, input, weights, state, *rest, backend_of("native"))
        ours, theirs = [output, *final], oracle(cell, input, weights, state, *rest)
        right = oracle(cell, exact[0], exact[1:n], exact[n:], *rest)
        return (
            ours + gradients(ours, leaves),
            theirs + gradients(theirs, leaves),
            right + gradients(right, exact),
        )

    assert_rounds_as_well(run)


@each_cell()
@pytest.mark.parametrize("rows", [110, 400])
def test_gradients_over_blocks_of_rows(cell, rows):
    """More rows than a block of the backward pass: sums over blocks are kept in float32."""
    input, weights, state = problem(cell, rows, 4, 3, 17, directions=3, dtype=BF16)
    settle(cell, input, weights, state)
    if cell == "rnn_identity":
        with torch.no_grad():
            [w.mul_(0.3) for w in weights]  # a linear state may grow without bound
    native = backend_of("native")
    output, final = recurrent_scan(cell, input, weights, state, None, None, 3, True, native)
    exact = double([input]), double(weights), double(state)
    expected = oracle(cell, exact[0][0], exact[1], exact[2], directions=3)
    ours = gradients([output, *final], weights)
    for a, e in zip(ours, gradients(expected, exact[1])):
        assert (a.double() - e).abs().max() <= 0.02 * e.abs().max()


def test_reading_and_rounding_are_torchs():
    """Every bfloat16 number comes back as it was; sums round to nearest, ties to even."""
    every = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(BF16)
    usual = every[every.isfinite() & (every.abs() > 1e-30) & (every.abs() < 1e30)]
    usual = usual[: len(usual) // 16 * 16].view(-1, 1, 16)
    zeros, bias = torch.zeros(16, 16, dtype=BF16), torch.randn(16).to(BF16)
    for scale in (1e-20, 1e-3, 1.0, 1e3):
        b = (bias * scale).to(BF16)
        resets = torch.ones(usual.shape[:2], dtype=torch.bool)
        output, _ = functional.scan(
            "rnn_identity", usual, zeros, b, torch.zeros(1, 16, dtype=BF16), resets=resets
        )
        assert torch.equal(output, (usual.float() + b.float()).to(BF16))
    special = torch.tensor([torch.nan, torch.inf, -torch.inf, 3.38e38], dtype=BF16).view(1, 1, 4)
    state = torch.zeros(1, 4, dtype=BF16)
    output, _ = functional.scan("rnn_identity", special, zeros[:4, :4], None, state)
    assert output[0, 0, 0].isnan() and torch.equal(output[..., 1:], special[..., 1:])


def test_a_slow_state_is_carried_in_float32():
    """A GRU that hardly moves would stand still if its state were rounded to bfloat16 each step."""
    h = 16
    gx = torch.zeros(12, 1, 3 * h)
    gx[..., h : 2 * h], gx[..., 2 * h :] = 6.5, 3.0  # z near 1, n near 1
    state = [torch.full((1, 1, h), 0.5)]
    weights = [torch.zeros(3 * h, h)]
    low = [[t.to(BF16) for t in ts] for ts in ([gx], weights, state)]
    native = backend_of("native")
    _, (final,) = recurrent_scan("gru", low[0][0], *low[1:], None, None, 1, False, native)
    expected = oracle("gru", gx, weights, state, project=False)[1]
    assert (expected - 0.5).abs().min() > 8e-3  # each step less than half a bfloat16 unit
    assert (final.float() - expected).abs().max() < 2e-3


@each_cell()
@pytest.mark.parametrize("sizes", [(3, 5), (65, 33), (129, 17)], ids=str)
@pytest.mark.parametrize("steps", [1, 9])
def test_nan_stays_in_its_row(cell, sizes, steps):
    """A row of odd length shares no pair of numbers with the next one."""
    i, h = sizes
    layer = fast(cell, i, h, dtype=BF16, backend="native")
    x, state = randn(steps, 5, i, dtype=BF16), flat(hx(cell, 1, 5, h, dtype=BF16))
    x[:, 1::2] = torch.nan
    for s in state:
        s[:, 3] = torch.nan
    with torch.no_grad():
        output = layer(x, tuple(state) if cell == "lstm" else state[0])[0]
    assert output[:, 1::2].isnan().all() and output[:, ::2].isfinite().all()


@each_cell()
@pytest.mark.parametrize("t", [1, 2, 7])
def test_results_are_written_whole(cell, t, poisoned):
    layer = fast(cell, 5, 17, num_layers=2, bidirectional=True, dtype=BF16, backend="native")
    x = randn(t, 3, 5, dtype=BF16, grad=True)
    for options in ({}, {"lengths": [1, t, 0]}, {"resets": torch.rand(t, 3) < 0.3}):
        result = layer(x, **options)
        grads = gradients(result, [x, *layer.parameters()])
        assert all(t.isfinite().all() for t in flat(result) + grads)


@each_cell()
@pytest.mark.parametrize("steps", [1, 5, 40], ids="T{}".format)
def test_batch_invariance_and_threads(cell, steps):
    """A row's bits are the same alone and among others, on any number of threads, with and without
    gradients; gradients are the same each time."""
    layer = fast(cell, 19, 301, bidirectional=True, dtype=BF16, backend="native")
    x = randn(steps, 60, 19, dtype=BF16, grad=True)
    with torch.no_grad():
        whole = layer(x)[0]
        for threads in (1, 3):
            torch.set_num_threads(threads)
            assert torch.equal(layer(x)[0], whole)
            for row in (0, 59):
                assert torch.equal(layer(x[:, row : row + 1])[0], whole[:, row : row + 1])
    runs = []
    for _ in range(2):
        result = layer(x)
        assert torch.equal(result[0], whole)
        runs.append(gradients(result, [x, *layer.parameters()]))
    assert all(torch.equal(a, b) for a, b in zip(*runs))


@each_cell()
def test_recomputed_gates_give_the_same_gradients(cell):
    layer = fast(cell, 5, 17, num_layers=2, dtype=BF16, backend="native")
    x = randn(9, 3, 5, dtype=BF16, grad=True)
    kept = gradients(layer(x), [x, *layer.parameters()])
    layer.recompute_gates = True
    again = gradients(layer(x), [x, *layer.parameters()])
    for a, b in zip(kept, again):
        torch.testing.assert_close(a, b, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("cell", CELLS)
def test_second_derivatives_and_forward_mode(cell):
    """They run on the reference, in float32 inside."""
    layer = fast(cell, 3, 5, dtype=BF16, backend="native")
    exact = fast(cell, 3, 5, dtype=torch.float64)
    exact.load_state_dict(layer.state_dict())
    results, values = [], torch.randn(4, 2, 3).to(BF16)
    for module, dtype in ((layer, BF16), (exact, torch.float64)):
        x = values.to(dtype, copy=True).requires_grad_()
        (grad,) = torch.autograd.grad(module(x)[0].square().sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(grad.sum(), x)
        run = functools.partial(lambda module, x: flat(module(x)), module)
        _, (tangent, *_) = torch.func.jvp(run, (x.detach(),), (torch.ones_like(x),))
        results.append((second, tangent))
        assert second.dtype == tangent.dtype == dtype
    for a, e in zip(*results):
        assert (a - e).abs().max() <= 0.03 * max(1.0, e.abs().max())


def test_bfloat16_needs_no_conversion():
    """Which engine runs: no float32 copy of weights or results is made on the way."""
    layer = fastrnn.FastLSTM(8, 16, dtype=BF16)
    text = fastrnn.explain(layer, torch.zeros(2, 3, 8, dtype=BF16))
    assert "native" in text and "computes in" not in text
    with torch.no_grad(), torch.profiler.profile() as profile:
        layer(torch.zeros(2, 3, 8, dtype=BF16))
    assert not any("aten::to" in event.name or "copy" in event.name for event in profile.events())

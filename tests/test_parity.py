"""fastrnn against torch.nn: values and gradients, by the 2x rule where rounding differs.

In float32 and below each error is taken against torch.nn in float64 and may be at most twice
torch.nn's own, plus a floor of FLOOR[dtype] of the tensor's largest value.
"""

import copy

import pytest
import torch
from helpers import (
    TORCH_CELLS,
    assert_as_exact,
    assert_same,
    backends,
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

FLOOR = {torch.float32: 2e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}

SIZES = {
    "typical": dict(t=11, b=5, i=7, h=33),
    "H1": dict(t=5, b=3, i=4, h=1),
    "H17_I1": dict(t=6, b=2, i=1, h=17),
    "H64_B16": dict(t=9, b=16, i=16, h=64),
    "T1": dict(t=1, b=4, i=5, h=9),
    "B1": dict(t=12, b=1, i=6, h=40),
    "all_one": dict(t=1, b=1, i=1, h=1),
}
CONFIGURATIONS = {
    "plain": {},
    "no_bias": dict(bias=False),
    "two_directions": dict(bidirectional=True),
    "three_layers": dict(num_layers=3),
    "layers_directions_batch_first": dict(num_layers=2, bidirectional=True, batch_first=True),
}


def double(state):
    return (
        tuple(s.detach().double() for s in state)
        if isinstance(state, tuple)
        else state.detach().double()
    )


def compare(cell, backend, dtype, t, b, i, h, **configuration):
    ours, theirs = twins(cell, i, h, backend=backend, dtype=dtype, **configuration)
    exact = copy.deepcopy(theirs).double()
    x = randn(*((b, t) if ours.batch_first else (t, b)), i, dtype=dtype, grad=True)
    rows = ours.num_layers * (2 if ours.bidirectional else 1)
    state = hx(cell, rows, b, h, dtype=dtype, grad=True)
    results = []
    for layer in (ours, theirs, exact):
        arguments = (x, state)
        if layer is exact:
            arguments = (x.detach().double().requires_grad_(), double(state))
            [s.requires_grad_() for s in flat(arguments[1])]
        result = layer(*arguments)
        results.append(
            flat(result)
            + gradients(result, [arguments[0], *flat(arguments[1]), *layer.parameters()])
        )
    assert all(t.dtype == dtype for t in results[0])
    assert_as_exact(*results, FLOOR[dtype])


@backends(interpreted=True)
@each_cell(TORCH_CELLS)
@pytest.mark.parametrize("size", SIZES)
def test_float32_sizes(cell, backend, size):
    compare(cell, backend, torch.float32, **SIZES[size])


@backends()
@each_cell(TORCH_CELLS)
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_float32_configurations(cell, backend, configuration):
    sizes = dict(t=6, b=3, i=5, h=17)
    compare(cell, backend, torch.float32, **sizes, **CONFIGURATIONS[configuration])


@backends(interpreted=True)
@each_cell(TORCH_CELLS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_low_precision(cell, backend, dtype):
    compare(cell, backend, dtype, t=6, b=3, i=5, h=17)


@backends(torch.float64)
@each_cell(TORCH_CELLS)
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_float64(cell, backend, configuration):
    ours, theirs = twins(
        cell, 5, 17, backend=backend, dtype=torch.float64, **CONFIGURATIONS[configuration]
    )
    x = randn(6, 3, 5, dtype=torch.float64, grad=True)
    a, b = ours(x), theirs(x)
    assert_same(a, b, 1e-13)
    assert_same(
        gradients(a, [x, *ours.parameters()]), gradients(b, [x, *theirs.parameters()]), 1e-12
    )


@backends()
def test_identity_against_the_reference(backend):
    """torch.nn has no linear hidden state: the reference in float64 is the oracle."""
    input, weights, state = problem("rnn_identity", t=6, b=3, i=5, h=17, directions=3)
    exact = oracle("rnn_identity", input, weights, state, directions=3)
    layer = fast("rnn_identity", 5, 17, bidirectional=True, backend=backend)
    with torch.no_grad():
        for parameter, weight in zip(layer.parameters(), weights):
            parameter.copy_(weight)
    ours = layer(input.float(), state[0].float())
    assert_same(ours, exact, 1e-5)


@backends(interpreted=True)
@each_cell(TORCH_CELLS)
def test_non_contiguous_input_and_hx(cell, backend):
    ours, theirs = twins(cell, 6, 10, backend=backend)
    x = randn(5, 12, 4).transpose(1, 2)[..., ::2]  # [5, 4, 6] with odd strides
    state = hx(cell, 10, 4, 1)
    state = tuple(s.permute(2, 1, 0) for s in flat(state))
    state = state if cell == "lstm" else state[0]
    assert not x.is_contiguous()
    assert_same(ours(x, state), theirs(x, state), 1e-5)


@backends(interpreted=True)
@each_cell()
def test_results_are_written_whole(cell, backend, poisoned):
    """No result, gradient or saved value keeps memory that no kernel wrote: it would be NaN."""
    layer = fast(cell, 5, 17, num_layers=2, bidirectional=True, backend=backend)
    x = randn(6, 3, 5, grad=True)
    for options in ({}, {"lengths": [2, 6, 0]}, {"resets": torch.rand(6, 3) < 0.3}):
        result = layer(x, **options)
        grads = gradients(result, [x, *layer.parameters()])
        assert all(t.isfinite().all() for t in flat(result) + grads)
    with torch.no_grad():
        assert all(t.isfinite().all() for t in flat(layer(x)))


@backends()
@each_cell()
def test_inference_equals_training_forward(cell, backend):
    layer = fast(cell, 5, 17, num_layers=2, backend=backend)
    x = randn(6, 3, 5)
    training = layer(x)
    with torch.no_grad():
        assert_same(layer(x), training, 0.0)


@backends()
@each_cell()
def test_same_bits_every_time(cell, backend):
    layer = fast(cell, 9, 33, num_layers=2, bidirectional=True, backend=backend)
    x = randn(15, 6, 9, grad=True)
    runs = []
    for _ in range(3):
        result = layer(x)
        runs.append(flat(result) + gradients(result, [x, *layer.parameters()]))
    assert all(torch.equal(a, b) for run in runs[1:] for a, b in zip(run, runs[0]))


@backends()
@each_cell()
def test_a_row_does_not_depend_on_its_batch(cell, backend):
    """Inference aims at batch invariance; float32 rounding of the vendor's GEMM is allowed for."""
    layer = fast(cell, 9, 33, backend=backend)
    x = randn(15, 7, 9)
    with torch.no_grad():
        whole = layer(x)[0]
        for row in range(7):
            assert_same(layer(x[:, row : row + 1])[0], whole[:, row : row + 1], 1e-6)

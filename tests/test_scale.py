"""Sizes far from the usual, and rows of many threads: long, wide, many, and 64-bit indices."""

import pytest
import torch
from helpers import (
    assert_same,
    backends,
    each_cell,
    fast,
    flat,
    gradients,
    kernels,
    oracle,
    problem,
    randn,
)

from fastrnn import ops


@backends(kernels=True)
@each_cell()
def test_a_hundred_thousand_steps(cell, backend):
    """cuDNN stops at 65,535. The last steps equal a short run from the state before them."""
    if backend == "triton":
        pytest.skip("the interpreter needs minutes for this many steps")
    layer = fast(cell, 2, 3, backend=backend)
    if cell == "rnn_identity":
        with torch.no_grad():
            layer.weight_hh_l0.mul_(0.5)
    x = randn(100_000, 1, 2, grad=True)
    output, final = layer(x)
    _, before = layer(x[:99_990])
    tail, last = layer(x[99_990:], before)
    assert_same([output[99_990:], *flat(final)], [tail, *flat(last)], 1e-6)
    (gradient,) = torch.autograd.grad(output[-1].sum(), x)
    assert gradient.isfinite().all()
    assert cell == "rnn_relu" or gradient[-1].abs().sum() > 0, "no gradient at the last step"


@backends(kernels=True)
@each_cell()
def test_ten_thousand_rows(cell, backend):
    layer = fast(cell, 2, 3, backend=backend)
    x = randn(3, 10_000, 2, grad=True)
    result = layer(x)
    some = [0, 1, 4999, 9999]
    assert_same(result[0][:, some], layer(x[:, some])[0], 1e-6)
    grads = gradients(result, [x, *layer.parameters()])
    assert all(g.isfinite().all() for g in grads)


@backends(kernels=True)
@each_cell()
def test_four_thousand_units(cell, backend):
    if backend == "triton":
        pytest.skip("the interpreter needs minutes for this many units")
    input, weights, state = problem(cell, t=2, b=1, i=3, h=4096, dtype=torch.float32)
    with torch.no_grad():
        exact = oracle(cell, input, weights, state)
        output, final, _ = kernels(backend)[0](
            cell, input, weights, state, None, None, 1, True, False
        )
    assert_same([output, *final], exact, 1e-4)


@pytest.mark.parametrize("t, b, h", [(70_000, 1000, 64), (2**31, 1, 1), (1, 2**31, 2)], ids=str)
def test_shapes_beyond_two_to_the_31_elements(t, b, h):
    """The fakes' arithmetic, on the meta device, where no memory is needed."""
    weights = [torch.empty(s, device="meta") for s in ((4 * h, 1), (4 * h, h), (4 * h,), (4 * h,))]
    input = torch.empty(t, b, 1, device="meta")
    state = [torch.empty(1, b, h, device="meta") for _ in range(2)]
    if not ops.NATIVE_BUILT:
        pytest.skip("the native ops are not built")
    output, final, saved = kernels("native")[0](
        "lstm", input, weights, state, None, None, 1, True, True
    )
    assert output.shape == (t, b, h) and output.numel() == t * b * h
    assert saved.shape == (1, t * b, 5, h) and saved.numel() > 2**31


@backends(kernels=True)
@each_cell()
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_any_number_of_threads(cell, backend, threads):
    """torch.set_num_threads is honoured and changes rounding at most."""
    layer = fast(cell, 40, 136, bidirectional=True, backend=backend)
    x = randn(40, 13, 40, grad=True)  # work enough for five threads
    torch.set_num_threads(1)
    one = layer(x)
    expected = flat(one) + gradients(one, [x, *layer.parameters()])
    torch.set_num_threads(threads)
    many = layer(x)
    assert_same(flat(many) + gradients(many, [x, *layer.parameters()]), expected, 1e-4)

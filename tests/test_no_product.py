"""Cells without a recurrent product: declarations, weights, what is refused, threads, precision."""

import pytest
import torch
from helpers import DEVICE, assert_same, backends, flat, gradients, problem, randn
from new_cells import ind_rnn, light_gru, min_gru
from torch.utils.flop_counter import FlopCounterMode

import fastrnn
from fastrnn import backends as all_backends
from fastrnn import functional, ops


def step(x, r, state):
    return (torch.tanh(x[0] + r[0]),)


DECLARATIONS = {
    "word": (
        dict(gates=1, product="sparse"),
        "product must be one of dense, heads, none, got 'sparse'",
    ),
    "mixed": (dict(gates=1, inputs=1), "gates must not be given with inputs and recurrent, got 1"),
    "gates": (dict(gates=1, product="none"), 'gates must not be given with product="none", got 1'),
    "neither": (dict(), "gates must be a whole number from 1 on, got None"),
    "no_inputs": (dict(product="none"), "inputs must be a whole number from 1 on, got None"),
    "reads_r": (
        dict(inputs=1, product="none"),
        r"test_no_product.py:\d+\): r has 0 tensors \(product='none'\), and it reads r\[0\]",
    ),
    "reads_x": (
        dict(inputs=1, product="none"),
        r"x has 1 tensors \(inputs=1\), and it reads x\[1\]",
    ),
}


@pytest.mark.parametrize("name", DECLARATIONS)
def test_declarations(name):
    options, words = DECLARATIONS[name]
    with pytest.raises(ValueError, match=words):
        fastrnn.cell(**options)((lambda x, r, s: (x[1],)) if name == "reads_x" else step)


def test_a_cell_says_what_it_is():
    assert repr(min_gru) == "<fastrnn cell min_gru: inputs=2, product='none', states=1>"
    assert "inputs=1, product='none', states=1, params=1" in repr(ind_rnn)
    assert (min_gru.gates, min_gru.recurrent, light_gru.recurrent) == (2, 0, 2)

    def leaky(x, r, state):
        return (0.5 * state[0] + torch.tanh(x[0]),)

    dense, none = fastrnn.cell(gates=1)(leaky), fastrnn.cell(inputs=1, product="none")(leaky)
    assert dense.name != none.name and none.derived.dr == () and not none.derived.split
    assert ops.weight_bits(min_gru.name, 2, 1, True) == (4, 16)
    assert ops.weight_bits(ind_rnn.name, 4, 3, True) == (4, 64) * 2
    assert ops.weight_bits(ind_rnn.name, 1, 1, False) == (64,)
    assert ops.weight_bits(min_gru.name, 0, 1, False) == ()


def test_scan_takes_no_recurrent_weights():
    gx, state, w = randn(4, 2, 12), randn(2, 6), randn(12, 6)
    for arguments, words in (
        (
            (min_gru, gx, w, None, state),
            "weight_hh must be None: the cell min_gru has no",
        ),
        ((min_gru, gx, None, w[:, 0], state), "bias_hh must be None: the cell min_gru has no"),
        ((light_gru, gx, None, None, state), r"weight_hh must have shape \[G\*H, H\] .* NoneType"),
        ((min_gru, gx[..., 1:], None, None, state), r"gx must have shape \[T, B, 10\], got"),
        ((min_gru, gx, None, None, state[:, 1:]), r"state must have tensors of shape \[B, 6\]"),
    ):
        with pytest.raises(ValueError, match=words):
            functional.scan(*arguments)


@backends(kernels=True)
def test_the_op_counts_weights(backend):
    input, weights, state = problem(min_gru.name, dtype=torch.float32)
    forward = all_backends.choose(min_gru.name, DEVICE, torch.float32, backend)[0].forward
    rest = None, None, 1, True, 1
    with pytest.raises(RuntimeError, match="weights must be 1 or 2 tensors .*, got 3"):
        forward(min_gru.name, input, [*weights, weights[0]], state, *rest)
    with pytest.raises(RuntimeError, match=r"weight_ih must be \[12, 4\], got \[13, 4\]"):
        forward(min_gru.name, input, [randn(13, 4)], state, *rest)


def test_cuda_says_why_not():
    with pytest.raises(RuntimeError, match="CUDA kernels have no cell without a recurrent product"):
        all_backends.choose(min_gru.name, "cuda", torch.float32, "cuda")


@backends(kernels=True)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("b", [1, 3])
def test_threads_share_units_without_a_barrier(b, dtype, backend):
    """Long enough for several threads; their number does not show in a bit."""
    layer = fastrnn.Recurrent(min_gru, 16, 64, bidirectional=True, dtype=dtype, backend=backend)
    layer, x = layer.to(DEVICE), randn(1500 // b, b, 16, dtype=dtype, grad=True)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            result = flat(layer(x))
            results.append([*result, *gradients(result, [x, *layer.parameters()])])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, results[0]))


@backends(kernels=True)
@pytest.mark.parametrize("t", [1, 3, 40])
@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recompute"])
def test_bfloat16(recompute, t, backend):
    """Few steps and many, against float64 on the rounded numbers."""
    layer = fastrnn.Recurrent(
        min_gru, 20, 33, 2, bidirectional=True, dtype=torch.bfloat16, recompute_gates=recompute,
        backend=backend, device=DEVICE,
    )  # fmt: skip
    exact = fastrnn.Recurrent(min_gru, 20, 33, 2, bidirectional=True, backend="reference")
    exact = exact.to(DEVICE, torch.float64)
    exact.load_state_dict(layer.state_dict())
    x = randn(t, 5, 20, dtype=torch.bfloat16, grad=True)
    wide = x.detach().double().requires_grad_()
    ours, theirs = layer(x), exact(wide)
    assert_same(ours, theirs, 0.03)
    pairs = zip(
        gradients(ours, [x, *layer.parameters()]), gradients(theirs, [wide, *exact.parameters()])
    )
    for a, b in pairs:
        assert (a.double() - b).norm() <= 0.05 * b.norm()


@backends()
def test_products_that_are_counted(backend):
    layer = fastrnn.Recurrent(ind_rnn, 8, 16, device=DEVICE, backend=backend)
    x = randn(10, 3, 8)
    with FlopCounterMode(display=False) as counter:
        layer(x)[0].sum().backward()
    assert counter.get_total_flops() == 2 * 2 * 10 * 3 * 8 * 16  # forward, and dW


def test_meta_device():
    layer = fastrnn.Recurrent(min_gru, 8, 16, bidirectional=True, device="meta")
    output, h_n = layer(torch.empty(5, 3, 8, device="meta"))
    assert output.shape == (5, 3, 32) and h_n.shape == (2, 3, 16)

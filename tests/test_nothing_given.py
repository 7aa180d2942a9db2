"""Calls that leave out what is zeros: initial states, or gradients of results nobody used.

Expected values come from the reference scan, which is given the zeros.
"""

import pytest
import torch
from helpers import (
    DEVICE,
    assert_same,
    backends,
    each_cell,
    fast,
    flat,
    gradients,
    hx,
    randn,
    slow_but,
)
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from fastrnn import FastGRUCell, FastLSTMCell, FastRNNCell, ops

F64 = torch.float64

# What of (output, h_n[, c_n]) a loss is made of.
USED = {"output": slice(0, 1), "h_n": slice(1, 2), "last": slice(-1, None), "all": slice(None)}


def zeros_of(states):
    zeros = [torch.zeros_like(s, requires_grad=False) for s in flat(states)]
    return zeros[0] if torch.is_tensor(states) else tuple(zeros)


def kinds_of_hx(cell, *shape, dtype=F64):
    """Name -> hx."""
    leaf = hx(cell, *shape, dtype=dtype, grad=True)
    constant = hx(cell, *shape, dtype=dtype)
    kinds = {"none": None, "constant": constant, "leaf": leaf}
    if cell == "lstm":
        kinds["only_c"] = (constant[0], leaf[1])
    return kinds


def leaves_of(state) -> list:
    return [] if state is None else [s for s in flat(state) if s.requires_grad]


def calls(t, b):
    """Name -> keyword arguments of a call."""
    first = torch.zeros(t, b, dtype=torch.bool, device=DEVICE)
    first[0] = True
    last = first.flip(0)
    lengths = [t, 0, *[1 + k % t for k in range(b - 2)]][:b]
    return {
        "dense": {},
        "ragged": dict(lengths=lengths),
        "all_reset_at_first": dict(resets=first),
        "all_reset_at_both_ends": dict(resets=first | last),
        "ragged_reset_at_first": dict(lengths=lengths, resets=first),
    }


@backends(F64)
@each_cell()
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one_way", "both_ways"])
@pytest.mark.parametrize("t", slow_but([1, 7], [1, 2, 7]))
@pytest.mark.parametrize("recompute", slow_but([False], [False, True]), ids=["saved", "recomputed"])
def test_gradients(cell, backend, bidirectional, t, recompute, poisoned):
    options = dict(dtype=F64, bidirectional=bidirectional)
    layer = fast(cell, 3, 5, backend=backend, recompute_gates=recompute, **options)
    exact = fast(cell, 3, 5, backend="reference", **options)
    exact.load_state_dict(layer.state_dict())
    x, rows = randn(t, 4, 3, dtype=F64, grad=True), 2 if bidirectional else 1
    for call in calls(t, 4).values():
        for state in kinds_of_hx(cell, rows, 4, 5).values():
            given = hx(cell, rows, 4, 5, dtype=F64) if state is None else state
            given = zeros_of(given) if state is None else given
            leaves = leaves_of(given)
            a, b = flat(layer(x, state, **call)), flat(exact(x, given, **call))
            assert_same(a, b, 1e-12)
            for used in USED.values():
                grads = [
                    torch.autograd.grad(
                        [r.pow(2).sum() for r in results[used]],
                        [x, *leaves, *of.parameters()],
                        retain_graph=True,
                        materialize_grads=True,
                    )
                    for results, of in ((a, layer), (b, exact))
                ]
                assert_same(*grads, 1e-12)


@backends(kernels=True)
@each_cell()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("size", [(1, 1, 48), (1, 70, 9), (9, 3, 33)], ids=str)
def test_the_same_bits_as_for_zeros(cell, backend, dtype, size, poisoned):
    t, b, h = size
    layer = fast(cell, 6, h, dtype=dtype, bidirectional=True, backend=backend)
    x = randn(t, b, 6, dtype=dtype, grad=True)
    zeros = zeros_of(hx(cell, 2, b, h, dtype=dtype))
    leaf = zeros_of(zeros)
    for s in flat(leaf):
        s.requires_grad_()
    inputs = [x, *layer.parameters()]
    for call in calls(t, b).values():
        results = [layer(x, state, **call) for state in (None, zeros, leaf)]
        grads = [gradients(r, inputs) for r in results]
        for other in (1, 2):
            assert_same(results[0], results[other], 0.0)
            assert_same(grads[0], grads[other], 0.0)


class Calls(TorchDispatchMode):
    """The ops that torch calls."""

    def __init__(self):
        super().__init__()
        self.names, self.arguments = [], []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.name())
        self.arguments.append(args)
        return func(*args, **(kwargs or {}))


@pytest.mark.skipif(not ops.NATIVE_BUILT or DEVICE != "cpu", reason="about the CPU kernels")
@each_cell()
def test_no_zeros_are_made(cell):
    """Training without hx is two ops; what is not given or not wanted is no tensor."""
    layer, x = fast(cell, 4, 6), randn(5, 3, 4, grad=True)
    with Calls() as seen:
        output, _ = layer(x)
        torch.autograd.grad(output, [x, *layer.parameters()], torch.ones(5, 3, 6))
    forward, backward = (seen.names.index(f"fastrnn::{op}") for op in ("forward", "backward"))
    rest = set(seen.names) - {"fastrnn::forward", "fastrnn::backward"}
    assert rest <= {"aten::ones", "aten::detach"}  # of the test, of autograd
    assert seen.arguments[forward][3] == []
    _, _, grad_final, _, _, state, *_, needs = seen.arguments[backward]
    assert grad_final == [] == state and needs == ops.NEED_INPUT | ops.NEED_WEIGHTS


@pytest.mark.skipif(not ops.NATIVE_BUILT or DEVICE != "cpu", reason="about the CPU kernels")
@each_cell()
def test_gradients_of_hx_are_computed_where_wanted(cell):
    layer, x = fast(cell, 4, 6), randn(5, 3, 4)
    for state in kinds_of_hx(cell, 1, 3, 6, dtype=torch.float32).values():
        with Calls() as seen:
            layer(x, state)[0].sum().backward()
        wanted = seen.arguments[seen.names.index("fastrnn::backward")][-1]
        assert bool(wanted & ops.NEED_STATE) == bool(leaves_of(state))


@backends(F64)
@each_cell()
@pytest.mark.parametrize("used", slow_but(["all"], USED))
def test_second_derivatives(cell, backend, used):
    layer = fast(cell, 2, 2, dtype=F64, backend=backend)
    x = randn(2, 2, 2, dtype=F64, grad=True)
    names = [name for name, _ in layer.named_parameters()]
    weights = [p.detach().clone().requires_grad_() for p in layer.parameters()]
    for state in kinds_of_hx(cell, 1, 2, 2).values():
        leaves = leaves_of(state)

        def call(x, *tensors, state=state):
            parameters = dict(zip(names, tensors))
            results = torch.func.functional_call(layer, parameters, (x, state))
            return tuple(flat(results))[USED[used]]

        inputs = (x, *weights, *leaves)
        assert gradcheck(call, inputs, raise_exception=True)
        assert gradgradcheck(call, inputs)
        assert gradgradcheck(lambda *w, call=call: call(x.detach(), *w), inputs[1:])


@backends(kernels=True)
@each_cell()
def test_compiled(cell, backend):
    torch._dynamo.reset()
    layer = fast(cell, 4, 6, bidirectional=True, backend=backend)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for state in kinds_of_hx(cell, 2, 3, 6, dtype=torch.float32).values():
        x = randn(5, 3, 4, grad=True)
        inputs = [x, *layer.parameters(), *leaves_of(state)]
        for used in USED.values():
            a, b = flat(compiled(x, state))[used], flat(layer(x, state))[used]
            assert_same(a, b, 0.0)
            assert_same(gradients(a, inputs), gradients(b, inputs), 1e-6)
    torch._dynamo.reset()


@backends(F64)
@pytest.mark.parametrize("cell", [FastRNNCell, FastLSTMCell, FastGRUCell])
@pytest.mark.parametrize("shape", [(3, 4), (4,)], ids=str)
def test_cells(cell, backend, shape):
    step = cell(4, 5, dtype=F64, device=DEVICE, backend=backend)
    x = randn(*shape, dtype=F64, grad=True)
    inputs = [x, *step.parameters()]
    a, b = step(x), step(x, zeros_of(step(x)))
    assert_same(a, b, 0.0)
    grads = [
        torch.autograd.grad([r.sum() for r in flat(results)[:1]], inputs) for results in (a, b)
    ]
    assert_same(*grads, 0.0)


@backends(F64)
def test_a_tensor_that_outlived_its_transform(backend):
    """torch.func leaves wrappers around tensors that a function has let escape."""
    layer, escaped = fast("lstm", 4, 6, dtype=F64, backend=backend), []

    def loss(x):
        escaped.append(x)
        return layer(x)[0].pow(2).sum()

    x = randn(5, 3, 4, dtype=F64)
    torch.func.grad(loss)(x)
    inputs = list(layer.parameters())
    assert_same(gradients(layer(escaped[0]), inputs), gradients(layer(x), inputs), 0.0)


@pytest.mark.skipif(not ops.NATIVE_BUILT or DEVICE != "cpu", reason="about the CPU kernels")
@each_cell()
def test_gradients_of_frozen_weights_are_not_asked_for(cell):
    layer, x = fast(cell, 4, 6, bidirectional=True), randn(5, 3, 4)
    for suffix in ("", "_reverse"):
        getattr(layer, f"weight_hh_l0{suffix}").requires_grad_(False)
        getattr(layer, f"bias_ih_l0{suffix}").requires_grad_(False)
    with Calls() as seen:
        layer(x)[0].sum().backward()
    w_ih, _, _, b_hh = ops.WEIGHT_BITS
    at = seen.names.index("fastrnn::backward")
    assert seen.arguments[at][-1] == w_ih | b_hh
    _, grad_weights, _ = torch.ops.fastrnn.backward(*seen.arguments[at])
    sizes = layer.weight_ih_l0.numel(), 0, 0, layer.bias_hh_l0.numel()
    assert tuple(g.numel() for g in grad_weights) == sizes * 2

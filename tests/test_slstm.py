"""zoo.SLSTM: the paper's own equations without a stabiliser, gates of any size, forms of calls."""

import copy
import pickle

import pytest
import torch
from helpers import DEVICE, assert_same, backends, flat, gradients, randn, slow_but
from recurrent_cells import F64, dense
from torch.nn import functional as F

from fastrnn import zoo

T, B, I, H = 9, 3, 4, 8  # noqa: E741


def layer_of(*sizes, **options):
    return zoo.SLSTM(*sizes, **{"device": DEVICE, "dtype": F64, **options})


def plain(layer, x, h, c, n):
    """Equations 8 to 14 of the paper: (output, h, c, n), with gates that may overflow."""
    gate = {"exp": torch.exp, "sigmoid": torch.sigmoid}[layer.forget_gate]
    w_hh, outputs = dense(layer.weight_hh_l0), []
    for x_t in x:
        sums = F.linear(x_t, layer.weight_ih_l0, layer.bias_ih_l0)
        i, f, z, o = (sums + F.linear(h, w_hh, layer.bias_hh_l0)).chunk(4, -1)
        c = gate(f) * c + torch.exp(i) * torch.tanh(z)
        n = gate(f) * n + torch.exp(i)
        h = torch.sigmoid(o) * (c / n)
        outputs.append(h)
    return [torch.stack(outputs), h, c, n]


@backends(F64)
@pytest.mark.parametrize("given", [False, True], ids=["zeros", "hx"])
@pytest.mark.parametrize("forget_gate", slow_but(["sigmoid"], ["sigmoid", "exp"]))
def test_against_the_paper(forget_gate, given, backend, poisoned):
    """c and n are what the paper has over exp(m), and so are their gradients."""
    layer = layer_of(I, H, heads=2, forget_gate=forget_gate, backend=backend)
    x, inputs, hx = randn(T, B, I, dtype=F64, grad=True), [], None
    start = [x.new_zeros(B, H)] * 3
    if given:
        hx = [randn(1, B, H, dtype=F64) for _ in range(4)]
        hx[2] = hx[2].abs()
        inputs = [s.requires_grad_() for s in hx]
        scale = hx[3][0].exp()
        start = [hx[0][0], hx[1][0] * scale, hx[2][0] * scale]
    output, (h, c, n, m) = layer(x, hx and tuple(hx))
    exact = plain(layer, x, *start)
    scale = m[0].exp()
    ours = [output, h[0], c[0] * scale, n[0] * scale]
    assert_same([a / e for a, e in zip(ours, exact)], [torch.ones_like(e) for e in exact], 1e-9)
    inputs += [x, *layer.parameters()]
    assert_same(gradients(ours, inputs), gradients(exact, inputs), 1e-8)


@backends()
def test_gates_that_no_number_holds(backend):
    """exp(i) and exp(f) are 0 or infinite in float32: results and gradients are float64's."""
    layer = layer_of(I, H, heads=2, dtype=torch.float32, backend=backend)
    exact = copy.deepcopy(layer).double()
    exact.backend = "reference"
    x = randn(T, B, I)
    for i, f in ((-400.0, 50.0), (400.0, -400.0), (-400.0, -400.0), (0.0, -1e4)):
        for each in (layer, exact):
            with torch.no_grad():
                each.bias_ih_l0[:H], each.bias_ih_l0[H : 2 * H] = i, f
        ours, theirs = layer(x), exact(x.double())
        assert_same(ours[0], theirs[0], 1e-4)
        assert (flat(ours)[3] >= 1).all() and (ours[0].abs() <= 1).all()
        mine = gradients(ours[0], layer.parameters())
        assert_same(mine, gradients(theirs[0], exact.parameters()), 2e-3)


@backends(kernels=True)
def test_resets_and_lengths_begin_anew(backend):
    layer = layer_of(
        I, H, 2, bidirectional=True, dtype=torch.float32, backend=backend, batch_first=True
    )
    x, resets = randn(B, T, I), torch.zeros(B, T, dtype=torch.bool, device=DEVICE)
    resets[1, 4] = True
    output, final = layer(x, lengths=[9, 9, 5], resets=resets)
    assert_same(output[2, :5], layer(x[2:, :5])[0][0], 1e-5)
    assert not output[2, 5:].any()
    exact = copy.deepcopy(layer).double()
    exact.backend = "reference"
    theirs = exact(x.double(), lengths=[9, 9, 5], resets=resets)
    assert_same([output, *final], flat(theirs), 1e-4)


@backends(kernels=True)
def test_in_one_graph(backend):
    torch._dynamo.reset()
    layer = layer_of(I, H, 2, bidirectional=True, dtype=torch.float32, backend=backend)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for t in (T, 4):
        x = randn(t, B, I, grad=True)
        inputs = [x, *layer.parameters()]
        ours, eager = flat(compiled(x)), flat(layer(x))
        assert_same(ours, eager, 0.0)
        assert_same(gradients(ours, inputs), gradients(eager, inputs), 1e-5)


@pytest.mark.slow
@backends(kernels=True)
@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recompute"])
def test_bfloat16(recompute, backend):
    layer = layer_of(
        20, 48, 2, dtype=torch.bfloat16, backend=backend, bidirectional=True,
        recompute_gates=recompute,
    )  # fmt: skip
    exact = copy.deepcopy(layer).double()
    exact.backend = "reference"
    x = randn(200, 5, 20, dtype=torch.bfloat16)
    ours, theirs = layer(x)[0], exact(x.double())[0]
    assert_same(ours, theirs, 0.03)
    mine, true = gradients(ours, layer.parameters()), gradients(theirs, exact.parameters())
    for a, b in zip(mine, true):
        assert (a.double() - b).norm() <= 0.03 * b.norm()


def test_a_module_as_others():
    layer = layer_of(I, 16, 2, backend="reference", forget_gate="exp", dtype=torch.float32)
    told = "SLSTM(4, 16, num_layers=2, backend='reference', heads=4, forget_gate='exp')"
    x = randn(T, B, I)
    for twin in (layer, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert repr(twin) == told and twin.weight_hh_l1.shape == (4, 16, 4)
        assert_same(twin(x), layer(x), 0.0)
    with pytest.raises(ValueError, match="forget_gate must be one of sigmoid, exp, got 'relu'"):
        layer_of(I, H, forget_gate="relu")
    with pytest.raises(ValueError, match="heads must be a whole number that divides hidden_size"):
        layer_of(I, 6)
    with pytest.raises(TypeError, match=r"hx must be a tuple of 4 Tensors, got a Tensor"):
        layer(x, x.new_zeros(2, B, 16))

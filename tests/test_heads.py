"""Cells in heads: a block-diagonal W_hh against the same matrix with its zeros."""

from itertools import product

import pytest
import torch
from helpers import DEVICE, assert_same, backends, flat, gradients, randn, slow_but
from new_cells import block_gru, light_gru
from recurrent_cells import F64, dense
from torch.utils.flop_counter import FlopCounterMode

import fastrnn
from fastrnn import backends as all_backends
from fastrnn import functional, ops
from fastrnn.zoo.slstm import slstm

# H, heads (of one unit, of less than a register, of registers and a rest, of whole panels), T
SIZES = list(product([(6, 6), (6, 2), (15, 3), (34, 2), (64, 4), (130, 2)], [1, 2, 4, 7]))
QUICK = [((6, 6), 7), ((15, 3), 2), ((34, 2), 1), ((34, 2), 7), ((64, 4), 4), ((130, 2), 7)]
DENSE = {
    cell: fastrnn.cell(gates=cell.gates, states=cell.states, params=cell.params)(cell.step)
    for cell in (block_gru, slstm)
}
each_cell = pytest.mark.parametrize("cell", DENSE, ids=lambda cell: cell.title)


def layer_of(cell, *sizes, **options):
    return fastrnn.Recurrent(cell, *sizes, device=DEVICE, **options)


def with_zeros(layer):
    """The layer's twin without heads, on the reference in float64; and its weights, leaves."""
    twin = fastrnn.Recurrent(
        DENSE[layer.definition], layer.input_size, layer.hidden_size, layer.num_layers, layer.bias,
        bidirectional=layer.bidirectional, device=DEVICE, dtype=F64, backend="reference",
    )  # fmt: skip
    weights = {n: p.detach().double() for n, p in layer.named_parameters()}
    twin.load_state_dict({n: dense(w) if w.dim() == 3 else w for n, w in weights.items()})
    return twin


def blocks(gradient, like):
    """Of a gradient [G*H, H] what is one of blocks [N, G*H/N, H/N]."""
    n, rows, own = like.shape
    split = gradient.view(rows // own, n, own, n, own)
    return torch.stack([split[:, i, :, i].reshape(rows, own) for i in range(n)])


def compare(layer, x, state=None, tolerance=1e-11, **options):
    """Results and all gradients, relative to the largest number."""
    twin = with_zeros(layer)
    wide = [t.detach().double().requires_grad_() for t in (x, *(state or ()))]
    call = lambda s: None if not s else tuple(s) if len(s) > 1 else s[0]  # noqa: E731
    ours = flat(layer(x, call(state), **options))
    exact = flat(twin(wide[0], call(wide[1:]), **options))
    found = gradients(ours, [x, *(state or ()), *layer.parameters()])
    theirs = gradients(exact, [*wide, *twin.parameters()])
    theirs = [blocks(e, g) if g.dim() == 3 and e.dim() == 2 else e for g, e in zip(found, theirs)]
    for a, e in zip([*ours, *found], [*exact, *theirs]):
        assert a.shape == e.shape and not a.isnan().any()
        gap = (a.double() - e).abs().max().item()
        assert gap <= tolerance * max(1.0, e.abs().max().item()), gap


@backends(F64, kernels=True)
@each_cell
@pytest.mark.parametrize("size", slow_but(QUICK, SIZES), ids=str)
def test_against_a_matrix_with_zeros(cell, size, backend, poisoned):
    """Few steps and many, one row and several, alone and both ways."""
    (h, heads), t = size
    for b, ways in ((1, False), (5, True)):
        layer = layer_of(cell, 3, h, heads=heads, bidirectional=ways, dtype=F64, backend=backend)
        x = randn(t, b, 3, dtype=F64, grad=True)
        state = [randn(1 + ways, b, h, dtype=F64) for _ in range(cell.states)]
        state = [s.abs().requires_grad_() for s in state]
        compare(layer, x, state)


FORMS = {
    "layers": dict(num_layers=2, bidirectional=True),
    "no_bias": dict(bias=False),
    "recompute": dict(recompute_gates=True, bidirectional=True),
}


@backends(F64)
@each_cell
@pytest.mark.parametrize("form", FORMS)
def test_forms(cell, form, backend, poisoned):
    layer = layer_of(cell, 3, 22, heads=2, dtype=F64, backend=backend, **FORMS[form])
    x = randn(6, 4, 3, dtype=F64, grad=True)
    compare(layer, x)
    resets = (torch.rand(6, 4) < 0.3).to(DEVICE)
    compare(layer, x, lengths=[6, 0, 3, 5], resets=resets)


@backends(F64, kernels=True)
@each_cell
@pytest.mark.parametrize("shape", [(700, 1), (40, 13), (3, 400)], ids=str)
def test_blocks_of_steps_and_threads(cell, shape, backend):
    """Rows or whole heads to a thread, or heads that threads share: the same bits."""
    layer = layer_of(cell, 5, 48, heads=3, dtype=F64, backend=backend)
    x = randn(*shape, 5, dtype=F64, grad=True)
    results = []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        result = flat(layer(x))
        results.append([*result, *gradients(result, [x, *layer.parameters()])])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, results[0]))
    if shape[0] < 100:
        compare(layer, x, tolerance=1e-10)


@backends(kernels=True, interpreted=True)
@pytest.mark.parametrize("size", slow_but([(34, 2)], [(6, 3), (34, 2), (64, 4)]), ids=str)
def test_float32(size, backend):
    h, heads = size
    layer = layer_of(block_gru, 3, h, 2, heads=heads, bidirectional=True, backend=backend)
    x = randn(3, 3, 3, grad=True)
    compare(layer, x, [randn(4, 3, h, grad=True)], 2e-5)
    resets = (torch.rand(3, 3) < 0.4).to(DEVICE)
    compare(layer, x, None, 2e-5, lengths=[3, 1, 2], resets=resets)


@backends(kernels=True)
@pytest.mark.parametrize("t", [1, 3, 40])
@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recompute"])
def test_bfloat16(recompute, t, backend):
    layer = layer_of(
        block_gru, 20, 34, 2, heads=2, bidirectional=True, dtype=torch.bfloat16,
        recompute_gates=recompute, backend=backend,
    )  # fmt: skip
    x = randn(t, 5, 20, dtype=torch.bfloat16, grad=True)
    compare(layer, x, tolerance=0.05)


@backends(F64, kernels=True)
def test_frozen_weights(backend):
    layer = layer_of(block_gru, 3, 6, heads=2, dtype=F64, backend=backend)
    x = randn(5, 2, 3, dtype=F64)
    named = dict(layer.named_parameters())
    every = dict(zip(named, gradients(layer(x), named.values())))
    for name, weight in named.items():
        for other in named.values():
            other.requires_grad_(other is weight)
        assert_same(gradients(layer(x), [weight]), [every[name]], 0.0)


def test_a_ready_projection_by_triton():
    """Gates of a head come together: the gradient of gx finds back."""
    try:
        all_backends.choose(block_gru.name, DEVICE, torch.float32, "triton")
    except RuntimeError as refusal:
        pytest.skip(str(refusal))
    gx, h0, params = randn(3, 2, 18, grad=True), randn(2, 6, grad=True), randn(1, 6, grad=True)
    w, b = randn(2, 9, 3, grad=True), randn(18, grad=True)
    results = []
    for backend in ("triton", "reference"):
        result = functional.scan(block_gru, gx, w, b, h0, params=params, backend=backend)
        results.append([*result, *gradients(result, [gx, w, b, h0, params])])
    assert_same(*results, 1e-5)


def step(x, r, state):
    return (torch.tanh(x[0] + r[0]),)


def test_a_cell_says_what_it_is():
    heads, plain = fastrnn.cell(gates=1, product="heads")(step), fastrnn.cell(gates=1)(step)
    assert repr(heads) == "<fastrnn cell step: gates=1, product='heads', states=1>"
    assert heads.name != plain.name and heads.in_heads and not plain.in_heads
    assert heads.recurrent == 1 and len(heads.derived.dr) == 1
    with pytest.raises(ValueError, match="recurrent must be a whole number from 1 on, got None"):
        fastrnn.cell(inputs=1, product="heads")
    with pytest.raises(ValueError, match="is in heads: it must have as many tensors in r as in x"):
        fastrnn.cell(inputs=1, recurrent=2, product="heads")(step)
    layer = layer_of(block_gru, 4, 6, heads=3)
    assert layer.weight_hh_l0.shape == (3, 6, 2) and layer.bias_hh_l0.shape == (18,)
    assert repr(layer) == "Recurrent(block_gru, 4, 6, heads=3)"


@pytest.mark.parametrize("heads", [None, 4, 0, True, 2.0])
def test_heads_divide_the_units(heads):
    words = f"heads must be a whole number that divides hidden_size = 6, got {heads}"
    with pytest.raises(ValueError, match=words):
        layer_of(block_gru, 4, 6, heads=heads)


def test_no_heads_but_for_cells_in_heads():
    words = 'heads must be None but for a cell with product="heads", got 2 for the cell light_gru'
    with pytest.raises(ValueError, match=words):
        layer_of(light_gru, 4, 6, heads=2)
    gx, state = randn(4, 2, 18), randn(2, 6)
    words = r"weight_hh must have shape \[N, G\*H/N, H/N\] with G = 3, got "
    for w in (randn(18, 6), randn(3, 5, 2), randn(0, 6, 2), None):
        with pytest.raises(ValueError, match=words):
            functional.scan(block_gru, gx, w, None, state, params=randn(1, 6))
    with pytest.raises(ValueError, match=r"bias_hh must have shape \[18\], got \[6\]"):
        functional.scan(block_gru, gx, randn(3, 6, 2), randn(6), state, params=randn(1, 6))


@backends(kernels=True)
def test_the_op_looks_at_the_blocks(backend):
    forward = all_backends.choose(block_gru.name, DEVICE, torch.float32, backend)[0].forward
    x, p, state = randn(4, 2, 18), randn(1, 6), [randn(1, 2, 6)]
    rest = state, None, None, 1, False, 1
    with pytest.raises(RuntimeError, match=r"weight_hh must be \[3, 6, 2\], got \[3, 5, 2\]"):
        forward(block_gru.name, x, [randn(3, 5, 2), p], *rest)
    with pytest.raises(RuntimeError, match=r"weight_hh must be \[heads, .*\], got \[18, 6\]"):
        forward(block_gru.name, x, [randn(18, 6), p], *rest)


def test_cuda_says_why_not():
    with pytest.raises(RuntimeError, match="CUDA kernels have no recurrent product in heads"):
        all_backends.choose(block_gru.name, "cuda", torch.float32, "cuda")


@backends()
def test_products_that_are_counted(backend):
    layer, x = layer_of(block_gru, 8, 12, heads=3, backend=backend), randn(10, 2, 8)
    with FlopCounterMode(display=False) as counter:
        layer(x)[0].sum().backward()
    w_ih, w_hh, lines, hops = 3 * 12 * 8, 3 * 12 * 4, 10 * 2, 9 * 2  # nobody asks for dx, dhx
    assert counter.get_total_flops() == 2 * (lines * 2 * (w_ih + w_hh) + hops * w_hh)


def test_meta_device():
    layer = fastrnn.Recurrent(block_gru, 8, 12, heads=3, bidirectional=True, device="meta")
    output, h_n = layer(torch.empty(5, 3, 8, device="meta"))
    assert output.shape == (5, 3, 24) and h_n.shape == (2, 3, 12)
    assert ops.weight_bits(block_gru.name, 5, 1, True) == (4, 8, 16, 32, 64)

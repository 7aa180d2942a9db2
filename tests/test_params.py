"""Cells with parameters and many states through the ops: lists, flat ones, derivatives, counts."""

import loop_backend
import pytest
import torch
from helpers import DEVICE, assert_same, flat, gradients, hx, randn
from recurrent_cells import F64, NEW, TITLES, by_hand
from torch.autograd import gradgradcheck
from torch.nn.utils._per_sample_grad import call_for_per_sample_grads
from torch.utils.flop_counter import FlopCounterMode

import fastrnn
from fastrnn import functional, ops

each_new_cell = pytest.mark.parametrize("cell", NEW, ids=TITLES)
T, B, I, H = 4, 3, 5, 6  # noqa: E741
SIZES = I, H


@pytest.fixture(scope="module", autouse=True)
def cells_and_backend():
    loop_backend.add()
    yield
    loop_backend.remove()


def layer_of(cell, *sizes, **options):
    return fastrnn.Recurrent(cell, *sizes, backend="loop", dtype=F64, device=DEVICE, **options)


def test_bits():
    light, peephole = NEW[0].name, NEW[1].name
    assert ops.weight_bits(light, 8, 3, True) == (4, 8, 16, 32) * 2
    assert ops.weight_bits(peephole, 5, 1, True) == (4, 8, 16, 32, 64)
    assert ops.weight_bits(peephole, 6, 3, True) == (4, 8, 64) * 2
    assert ops.weight_bits(peephole, 3, 1, False) == (8, 32, 64)
    assert ops.weight_bits(peephole, 2, 2, False) == (8, 64)
    assert ops.weight_bits(light, 2, 1, False) == (8, 32)


@each_new_cell
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
def test_layer(cell, bias):
    layer = layer_of(cell, *SIZES, num_layers=2, bidirectional=True, bias=bias)
    x, state = randn(T, B, I, dtype=F64, grad=True), hx(cell.name, 4, B, H, dtype=F64, grad=True)
    inputs = [x, *flat(state), *layer.parameters()]
    exact = by_hand(layer, x, flat(state))
    ours = flat(layer(x, state))
    assert_same(ours, exact, 1e-11)
    assert_same(gradients(ours, inputs), gradients(exact, inputs), 1e-9)


def test_parameters_alone_are_asked_for():
    layer, x = layer_of(NEW[1], *SIZES, num_layers=2, bidirectional=True), randn(T, B, I, dtype=F64)
    for name, weight in layer.named_parameters():
        weight.requires_grad_("params" in name)
    loop_backend.SEEN.clear()
    layer(x)[0].sum().backward()
    assert loop_backend.SEEN == [ops.NEED_PARAMS | ops.NEED_INPUT, ops.NEED_PARAMS]


@each_new_cell
@pytest.mark.parametrize("project", [True, False], ids=["input", "ready_gx"])
def test_opcheck(cell, project):
    layer = layer_of(cell, *SIZES, bidirectional=project)
    d = len(layer.all_weights)
    weights = [p.detach() for p in layer.parameters()]
    if not project:
        weights = [p.detach() for n, p in layer.named_parameters() if "_ih_" not in n]
    input = randn(T, B, I if project else cell.gates * H, dtype=F64)
    state = list(flat(hx(cell.name, d, B, H, dtype=F64)))
    rest = None, None, 3 if project else 1, project
    backend = fastrnn.backends._BACKENDS["loop"]
    ours = torch.ops.fastrnn.loop_forward_flat, torch.ops.fastrnn.loop_backward_flat
    stacked = torch.stack(state)
    checks = "test_schema", "test_faketensor"  # derivatives: test_compiled
    for save in (ops.SAVE_NOTHING, ops.SAVE_ALL):
        torch.library.opcheck(backend.forward, (cell.name, input, weights, state, *rest, save))
        call = cell.name, input, weights, stacked, *rest, save
        torch.library.opcheck(ours[0], call, test_utils=checks)
    output, final, saved = backend.forward(cell.name, input, weights, state, *rest, save)
    for needs in (ops.NEED_ALL, ops.NEED_PARAMS, ops.NEED_ALL - ops.NEED_PARAMS):
        call = cell.name, output, final, input, weights, state, output, saved, *rest, needs
        torch.library.opcheck(backend.backward, call)
        lists = flat(backend.backward(*call))
        call = (cell.name, output, torch.stack(final), input, weights, stacked, output, saved,
                *rest, needs)  # fmt: skip
        torch.library.opcheck(ours[1], call, test_utils=checks)
        results = ours[1](*call)
        grad_input, *kinds, grad_state = results
        assert len(kinds) == len(ops.KIND_BITS)
        params = kinds[ops.KIND_BITS.index(ops.NEED_PARAMS)]
        wanted = bool(cell.params) and bool(needs & ops.NEED_PARAMS)
        assert params.shape == ((d, cell.params, H) if wanted else (0,))
        assert_same(grad_input, lists[0], 0.0)
        if wanted:
            per = len(weights) // d
            assert_same(list(params), lists[1 : 1 + len(weights)][per - 1 :: per], 0.0)
        if needs & ops.NEED_STATE:
            assert_same(list(grad_state), lists[1 + len(weights) :], 0.0)


@each_new_cell
def test_second_derivatives(cell):
    layer = layer_of(cell, 2, 2)
    x, state = randn(2, 2, 2, dtype=F64, grad=True), hx(cell.name, 1, 2, 2, dtype=F64, grad=True)
    names = [name for name, _ in layer.named_parameters()]
    weights = [p.detach().clone().requires_grad_() for p in layer.parameters()]

    def call(x, *weights):
        parameters = dict(zip(names, weights))
        return tuple(flat(torch.func.functional_call(layer, parameters, (x, state))))

    assert gradgradcheck(call, (x, *weights), fast_mode=True)


@each_new_cell
def test_compiled(cell):
    torch._dynamo.reset()
    layer = layer_of(cell, *SIZES, num_layers=2, bidirectional=True)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x, state = randn(T, B, I, dtype=F64, grad=True), hx(cell.name, 4, B, H, dtype=F64, grad=True)
    for given in (None, state):
        inputs = [x, *layer.parameters(), *(() if given is None else flat(state))]
        a, b = flat(compiled(x, given)), flat(layer(x, given))
        assert_same(a, b, 1e-12)
        assert_same(gradients(a, inputs), gradients(b, inputs), 1e-11)
    torch._dynamo.reset()


@each_new_cell
def test_per_sample_gradients(cell):
    x = randn(T, B, I, dtype=F64)
    for backend in ("loop", "reference"):
        layer = layer_of(cell, *SIZES, bidirectional=True)
        layer.backend = backend
        called = call_for_per_sample_grads(layer, batch_first=False)(x)
        sum(t.pow(2).sum() for t in flat(called)).backward()
        for row in range(B):
            loss = sum(t.pow(2).sum() for t in by_hand(layer, x[:, row : row + 1]))
            alone = torch.autograd.grad(loss, list(layer.parameters()))
            assert_same([p.grad_sample[row] for p in layer.parameters()], alone, 1e-10)


@each_new_cell
def test_flops(cell):
    """Of the matrices alone, as for any other cell."""
    layer, x = layer_of(cell, *SIZES), randn(T, B, I, dtype=F64, grad=True)
    with FlopCounterMode(display=False) as counter:
        result = layer(x)[0]
    product, h = 2 * T * B * cell.gates * H, H * (cell.recurrent > 0)
    assert counter.get_total_flops() == product * (I + h)
    with FlopCounterMode(display=False) as counter:
        result.sum().backward()
    back = 2 * product * I + product * h + 2 * B * (T - 1) * cell.gates * H * h
    assert counter.get_flop_counts()["Global"][torch.ops.fastrnn.loop_backward] == back


def test_scan():
    cell = NEW[1]
    gx, w, b = randn(T, B, 4 * H, dtype=F64), randn(4 * H, H, dtype=F64), None
    p, state = randn(3, H, dtype=F64), hx(cell.name, B, H, dtype=F64)
    for t in (gx, w, p):
        t.requires_grad_()
    results = [
        flat(functional.scan(cell, gx, w, b, state, params=p, reverse=True, backend=backend))
        for backend in ("loop", "reference")
    ]
    assert_same(*results, 1e-12)
    assert_same(*(gradients(r, [gx, w, p]) for r in results), 1e-11)

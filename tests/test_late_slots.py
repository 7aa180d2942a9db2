"""Cells with late slots: a second product in a step, of what the step makes."""

import itertools

import pytest
import torch
from helpers import DEVICE, assert_same, backends, flat, gradients, randn, slow_but
from late_cells import LATE, everything
from recurrent_cells import by_hand
from torch import nn

import fastrnn
from fastrnn import backends as all_backends
from fastrnn import functional, zoo
from fastrnn.cells import get

F64 = torch.float64
TITLES = [cell.title for cell in LATE]


def problem(cell, t, b, h, d=1, dtype=F64, resets=True):
    """(x, hx, options of a call), all of which may have gradients."""
    x = randn(t, b, 4, dtype=dtype, grad=True)
    state = tuple(randn(d, b, h, dtype=dtype, grad=True) for _ in range(cell.states))
    options = {"lengths": [(3 * k + t) % (t + 1) for k in range(b)]}
    if resets:
        options["resets"] = (torch.rand(t, b) < 0.2).to(DEVICE)
    if cell.extra:
        options["extra"] = tuple(randn(t, b, h, dtype=dtype, grad=True) for _ in range(cell.extra))
    return x, state if len(state) > 1 else state[0], options


def twin_of(layer, **options):
    """A layer with the same weights, on the reference in float64."""
    named = dict(num_layers=layer.num_layers, bidirectional=layer.bidirectional, bias=layer.bias)
    sizes = layer.input_size, layer.hidden_size
    twin = fastrnn.Recurrent(
        layer.definition, *sizes, **named, dtype=F64, device=DEVICE, backend="reference"
    )
    twin.load_state_dict({name: p.double() for name, p in layer.state_dict().items()})
    return twin


def results(layer, x, state, options):
    """(output and final states, gradients of all that has some)."""
    given = [x, *(state if isinstance(state, tuple) else (state,)), *options.get("extra", ())]
    ours = flat(layer(x, state, **options))
    return ours, gradients(ours, [*given, *layer.parameters()])


def widened(given):
    if isinstance(given, torch.Tensor):
        wide = given.is_floating_point()
        return given.detach().double().requires_grad_() if wide else given
    if isinstance(given, dict):
        return {name: widened(value) for name, value in given.items()}
    tensors = isinstance(given, tuple)
    return tuple(widened(value) for value in given) if tensors else given


def compare(layer, given, limit):
    """With the reference in float64, and forward alone, which saves nothing, with forward."""
    ours, grads = results(layer, *given)
    exact, exact_grads = results(twin_of(layer), *(widened(part) for part in given))
    x, state, options = given
    with torch.no_grad():
        alone = flat(layer(x, state, **options))
    for a, b in [*zip(ours, exact), *zip(alone, exact), *zip(grads, exact_grads)]:
        assert (a.double() - b).norm() <= limit * (b.norm() + 1e-3)


@pytest.mark.parametrize("cell", LATE, ids=TITLES)
def test_the_reference_is_a_plain_loop(cell):
    layer = fastrnn.Recurrent(
        cell, 4, 5, 2, bidirectional=True, dtype=F64, device=DEVICE, backend="reference"
    )
    x, state, options = problem(cell, 6, 3, 5, d=4)
    ours = flat(layer(x, state, **options))
    exact = by_hand(layer, x, flat(state), **options)
    assert_same(ours, exact, 1e-12)
    inputs = [x, *flat(state), *options.get("extra", ()), *layer.parameters()]
    assert_same(gradients(ours, inputs), gradients(exact, inputs), 1e-11)


@backends(F64, kernels=True)
@pytest.mark.parametrize("cell", slow_but([everything], LATE), ids=lambda cell: cell.title)
def test_kernels(cell, backend, poisoned):
    for (b, h), bias in itertools.product(((3, 17), (1, 33)), (True, False)):
        layer = fastrnn.Recurrent(
            cell, 4, h, 2, bias, bidirectional=b > 1, dtype=F64, device=DEVICE, backend=backend
        )
        compare(layer, problem(cell, 7, b, h, d=4 if b > 1 else 2), 1e-12)


@backends(F64, kernels=True)
@pytest.mark.parametrize("cell", slow_but([everything], LATE), ids=lambda cell: cell.title)
def test_steps_rows_and_threads(cell, backend, poisoned):
    """Few steps, whose weights are not packed; more rows than go together; shared units."""
    few, long = ((1, 2, 20), (3, 1, 20), (4, 40, 140)), ((75, 1, 140), (75, 2, 140))
    for t, b, h in (*few, *long, (10, 100, 60)):
        layer = fastrnn.Recurrent(cell, 4, h, dtype=F64, device=DEVICE, backend=backend)
        for threads in (1, 2):
            torch.set_num_threads(threads)
            compare(layer, problem(cell, t, b, h), 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("cell", LATE, ids=TITLES)
@backends(kernels=True)
def test_dtypes(backend, cell, dtype, poisoned):
    limit = 0.05 if dtype == torch.bfloat16 else 2e-5
    for t, b, h in ((7, 3, 33), (2, 4, 20), (60, 40, 24)):
        layer = fastrnn.Recurrent(cell, 4, h, dtype=dtype, device=DEVICE, backend=backend)
        compare(layer, problem(cell, t, b, h, dtype=dtype), limit)


@backends(F64)
@pytest.mark.slow
@pytest.mark.parametrize("option", ["zoneout", "recurrent_dropout"])
def test_masks(option, backend):
    """A mask is an extra slot, and what is dropped the state that W_hh multiplies."""
    layer = zoo.ResetBeforeGRU(
        4, 6, dtype=F64, device=DEVICE, backend=backend, **{option: 0.3, "num_layers": 2}
    )
    assert get(layer.scanned).late == 1
    twin = zoo.ResetBeforeGRU(
        4, 6, dtype=F64, device=DEVICE, backend="reference", **{option: 0.3, "num_layers": 2}
    )
    twin.load_state_dict(layer.state_dict())
    x = randn(5, 3, 4, dtype=F64)
    outputs = []
    for each in (layer, twin):
        torch.manual_seed(1)
        outputs.append(each(x)[0])
    assert_same(*outputs, 1e-12)
    assert (layer.eval()(x)[0] - outputs[0]).abs().max() > 1e-3


def test_derivatives_and_transforms():
    layer = zoo.ResetBeforeGRU(2, 3, dtype=F64, backend="reference")
    x = randn(2, 2, 2, dtype=F64, grad=True)
    assert torch.autograd.gradgradcheck(lambda x: layer(x)[0], (x,))
    rows = torch.func.vmap(lambda row: layer(row)[0], in_dims=1, out_dims=1)(x)
    assert_same(rows, layer(x)[0], 1e-12)


def test_scan():
    """The recurrence alone, where the third gate of torch.nn.GRU's weights does another thing."""
    layer = zoo.ResetBeforeGRU(4, 6, dtype=F64, backend="reference")
    x, h = randn(5, 3, 4, dtype=F64), randn(3, 6, dtype=F64)
    gx = nn.functional.linear(x, layer.weight_ih_l0, layer.bias_ih_l0)
    weights = layer.weight_hh_l0, layer.bias_hh_l0
    ours = functional.scan(layer.definition, gx, *weights, h, backend="reference")
    exact, h_n = layer(x, h[None])
    assert_same(ours, (exact, h_n[0]), 1e-12)


def declare(step, **counts):
    return fastrnn.cell(**{"gates": 2, "late": 1, **counts})(step)


REFUSED = {
    "not called": (lambda x, r, s, product: (x[0],), "must call product, its last argument"),
    "no argument": (lambda x, r, s: (x[0],), "must take 4 arguments: x, r, state, product"),
    "twice": (lambda x, r, s, m: (m(x[0])[0] + m(x[1])[0],), "it calls product a second time"),
    "a number": (lambda x, r, s, m: (m(1.0)[0],), "product takes a tensor .*, got float"),
    "a mask": (lambda x, r, s, m: (m(x[0] > 0)[0],), "gives product a comparison"),
    "r": (lambda x, r, s, m: (m(x[0])[0] + r[1],), r"r has 1 tensors \(gates=2, late=1\)"),
    "mean": (lambda x, r, s, m: (m(x[0])[0] + x[1].mean(-1, True),), "across .* no late slots"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_steps(name):
    step, words = REFUSED[name]
    with pytest.raises(ValueError, match=words):
        declare(step)


def test_refused_counts():
    step = REFUSED["not called"][0]
    for counts, words in (
        (dict(late=2), "late must be below the 2 slots of W_hh, got 2"),
        (dict(late=-1), "late must be a whole number from 0 on, got -1"),
        (dict(product="heads"), "late must be 0 with product='heads', got 1"),
        (dict(gates=None, inputs=2, product="none"), "late must be 0 with product='none', got 1"),
    ):
        with pytest.raises(ValueError, match=words):
            declare(step, **counts)


def test_refused_by_the_cuda_kernels():
    with pytest.raises(RuntimeError, match="CUDA kernels have no cell with a second product"):
        all_backends.choose(LATE[0].name, "cuda", torch.float32, "cuda")


def test_what_a_cell_says_of_itself():
    assert repr(LATE[0]) == "<fastrnn cell reset_before_gru: gates=3, late=1, states=1>"
    assert (LATE[0].recurrent, LATE[0].early, LATE[0].late) == (3, 2, 1)

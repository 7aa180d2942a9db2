"""Derived cells in Triton: the text of their functions, and the kernels with it, in every way."""

import math
import re
import sys
from pathlib import Path

import pytest
import torch
from helpers import CELLS, each_cell, problem, slow_but

pytest.importorskip("triton")

import triton  # noqa: E402
import triton.language as tl  # noqa: E402
from triton_new_cells import DERIVED, NEW, TITLES, every_function, named  # noqa: E402
from triton_ways import WAYS, assert_close, run_both, use, zones  # noqa: E402, F401

import fastrnn  # noqa: E402
from fastrnn import backends, cells, ops  # noqa: E402
from fastrnn import triton as backend  # noqa: E402
from fastrnn.cells import graph, triton_source  # noqa: E402
from fastrnn.triton import cells as pairs  # noqa: E402
from fastrnn.triton import config, derived  # noqa: E402

interpreted = pytest.mark.skipif(not pairs.INTERPRET, reason="needs TRITON_INTERPRET=1")
each_new = pytest.mark.parametrize("title", TITLES)


FORMS = {
    "ragged_both": dict(directions=3, sizes=[4, 3, 1], resets=True),
    "dense_reverse": dict(directions=2, resets=True),
    "ready": dict(directions=1, project=False),
    "no_bias": dict(directions=3, bias=False, sizes=[3, 3, 2]),
}
EVERY = [(way, "ragged_both") for way in ("alone", "sharing", "streamed")]
EVERY += [("alone", form) for form in FORMS if form != "ragged_both"]
EVERY += [("sharing_narrow", "dense_reverse"), ("streamed_wide", "no_bias")]
EVERY += [("sharing_two_gates", "ragged_both"), ("streamed_deep", "dense_reverse")]


def run(cell: str, form: str, h: int = 19, dtype=torch.float32):
    """([output, *final, *gradients] of the Triton ops, the same of the reference in float64)."""
    changes = dict(FORMS[form])
    sizes, resets = changes.pop("sizes", None), changes.pop("resets", False)
    input, weights, state = problem(cell, t=3, b=5, i=3, h=h, dtype=dtype, **changes)
    if sizes is not None:  # the last row of the first form has no step at all
        sizes = torch.tensor(sizes)
        input = input.reshape(15, -1)[: int(sizes.sum())]
    drop = torch.rand(input.shape[:-1]) < 0.3 if resets else None
    project = changes.get("project", True)
    return run_both(cell, input, weights, state, sizes, drop, changes["directions"], project)


@interpreted
@pytest.mark.parametrize("way_and_form", slow_but(EVERY[:4:3] + EVERY[1:3], EVERY), ids="-".join)
@each_new
@pytest.mark.usefixtures("zones")
def test_values_and_gradients(title, way_and_form, monkeypatch):
    """Gradients of the parameters too, which rows that take no part in a step do not reach."""
    way, form = way_and_form
    use(way, monkeypatch)
    ours, exact = run(named(title), form)
    assert_close(ours, exact, 4e-6)


@interpreted
@each_new
@pytest.mark.usefixtures("zones")
def test_low_precision(title):
    ours, exact = run(named(title), "ragged_both", dtype=torch.bfloat16)
    # next to a jump another side of it is no rounding error
    tolerance = 12 * torch.finfo(torch.bfloat16).eps
    if title != "every_function":
        assert_close(ours, exact, tolerance)
    assert all(t.dtype == torch.bfloat16 and t.isfinite().all() for t in ours)


@interpreted
@pytest.mark.parametrize("way", ["alone", "streamed"])
@each_cell()
def test_a_derived_pair_is_the_one_written_by_hand(cell, way, monkeypatch):
    use(way, monkeypatch)
    results = []
    for name in (cell, DERIVED[cell].name):
        torch.manual_seed(3)
        results.append(run(name, "ragged_both")[0])
    assert_close(results[0], [t.double() for t in results[1]], 1e-6)
    assert derived.pair(DERIVED[cell].name).split == derived.pair(cell).split


@interpreted
@pytest.mark.parametrize("way", ["alone", "sharing", "streamed"])
def test_a_row_that_is_done_reaches_no_parameter(way, monkeypatch):
    """A NaN in padding, or in the past before a reset, would be a NaN in every sum."""
    use(way, monkeypatch)

    @fastrnn.cell(gates=1, states=2, params=1)
    def divided(x, r, state, p):  # by 0 where there is no state
        return torch.tanh(x[0] + r[0]) * p[0] / state[1], state[1]

    cell = divided.name
    input, weights, state = problem(cell, t=2, b=5, i=3, h=19, dtype=torch.float32)
    given = [t.detach() for t in (input.reshape(10, 3)[:6], *weights)]
    state = [s.detach().abs() + 0.5 for s in state]
    sizes = torch.tensor([4, 2])
    state[1][:, 4] = torch.nan  # the row of no step
    arguments = given[0], given[1:], state, sizes, None, 1, True
    output, final, saved = backend.forward(cell, *arguments, 1)
    grads = torch.randn_like(output), [torch.randn_like(f) for f in final]
    back = *arguments[:3], output, saved, sizes, None, 1, True
    _, grad_weights, _ = backend.backward(cell, *grads, *back, ops.NEED_ALL)
    assert len(grad_weights) == 5 and grad_weights[-1].shape == (1, 19)
    assert all(g.isfinite().all() for g in grad_weights) and grad_weights[-1].abs().min() > 0
    kept = backend.backward(cell, *grads, *back, ops.NEED_ALL & ~ops.NEED_PARAMS)[1]
    assert kept[-1].shape == (0,) and torch.equal(kept[0], grad_weights[0])


@interpreted
def test_gradients_of_parameters_are_the_same_every_time(monkeypatch):
    use("streamed", monkeypatch)
    first, second = [], []
    for results in (first, second):
        torch.manual_seed(5)
        results += run(named("peephole_lstm"), "ragged_both")[0]
    assert all(map(torch.equal, first, second))


def test_the_test_cell_has_every_operation():
    made = every_function.derived
    nodes = graph.order((*made.next, *made.saved, *made.dx, *made.dr, *made.dprev, *made.dparam))
    known = {*graph.UNARY, *graph.BINARY, *graph.COMPARISONS, *graph.MASKS, "select"}
    assert known - {node.op for node in nodes} == set()


@triton.jit
def apply(x, y, result, F: tl.constexpr, N: tl.constexpr, TWO: tl.constexpr):
    at = tl.arange(0, N)
    if TWO:
        tl.store(result + at, F(tl.load(x + at), tl.load(y + at)))
    else:
        tl.store(result + at, F(tl.load(x + at)))


def applied(function, x, y=None):
    result = torch.full_like(x, torch.nan)
    apply[(1,)](x, x if y is None else y, result, function, len(x), y is not None)
    return result


@interpreted
@pytest.mark.parametrize("name", ["expm1", "log1p", "tanh", "sin"])
def test_functions_near_zero_and_far_away(name):
    """tanh's error near 0 is a rounding of 1, as cells.py says; the others' one of the result."""
    edges = [0.0, -0.0, math.inf, -math.inf, math.nan, -1.0, 1.0, 88.0, -20.0, 0.5, -0.5, 1e-40]
    small = torch.logspace(-30, -0.1, 250, dtype=torch.float64).float()
    x = torch.cat([torch.tensor(edges), small, -small])
    exact = getattr(torch, name)(x.double())
    ours = applied(getattr(pairs, name), torch.cat([x, x.new_zeros(512 - len(x))]))[: len(x)]
    assert torch.equal(ours.isnan(), exact.isnan())
    assert torch.equal(ours.isinf(), exact.float().isinf())
    finite = exact.float().isfinite() & (exact.abs() > 1e-37)
    scale = torch.ones_like(exact) if name == "tanh" else exact.abs()
    assert ((ours - exact).abs()[finite] <= 4e-7 * scale[finite]).all()


@interpreted
@pytest.mark.parametrize("name", ["sin", "cos"])
def test_sines_up_to_ten_thousand(name):
    x = torch.cat([torch.linspace(-8, 8, 2048), torch.linspace(-1e4, 1e4, 2048)])
    gap = applied(getattr(pairs, name), x).double() - getattr(torch, name)(x.double())
    assert gap.abs().max() <= 1.5e-7
    edges = torch.tensor([math.inf, -math.inf, math.nan, 0.0])
    assert applied(getattr(pairs, name), edges).isnan()[:3].all()


@interpreted
@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_nan_passes(name):
    x, y = torch.tensor([1.0, math.nan, 2.0, 0.0]), torch.tensor([math.nan, 1.0, 3.0, -1.0])
    assert torch.equal(
        applied(getattr(pairs, name), x, y).nan_to_num(99),
        getattr(torch, name)(x, y).nan_to_num(99),
    )


@interpreted
def test_numbers_that_float32_has_not():
    @fastrnn.cell(gates=1)
    def extremes(x, r, state):
        most = torch.abs(x[0])
        inside = torch.minimum(torch.maximum(r[0], most * -1e300), most * 1e300)
        return (torch.where(x[0] > 2, float("nan"), inside),)

    text = triton_source.module(extremes)
    assert 'float("inf")' in text and 'float("-inf")' in text and 'float("nan")' in text
    x, state = torch.tensor([[[1.0, 3.0, -1.0]]]), [torch.zeros(1, 1, 3)]
    output = backend.forward(extremes.name, x, [torch.zeros(3, 3)], state, None, None, 1, False, 0)
    assert output[0].nan_to_num(7).tolist() == [[[0.0, 7.0, 0.0]]]


def test_the_text_has_the_names_of_the_step():
    @fastrnn.cell(gates=2, states=2, params=1)
    def spoken(x, r, state, p):  # no other cell's formula, whose words would be there already
        held = state[1] * torch.sigmoid(x[0] + r[0]) + p[0] * torch.tanh(x[1] + r[1])
        out = torch.tanh(held)
        return out, held

    text = triton_source.module(spoken)
    assert re.search(r"^    held = .*state\[1\]", text, re.M)
    assert "return (tanh(held), held), (" in text
    assert "from fastrnn.triton.cells import tanh\n" in text
    assert "return dx, dx, dprev, dp" in text
    text = triton_source.module(DERIVED["gru"])
    assert "def gru_backward(saved, prev, next, grad):" in text and "return dx, dr, dprev" in text


@interpreted
@pytest.mark.parametrize("name", ["grad", "lambda", "tl", "2 fast", 'a"""b', "été", "v1"])
def test_any_name_will_do(name):
    """Of a cell, and of its values: those that Triton's functions have for their own ends."""

    @fastrnn.cell(gates=2, name=name)
    def step(x, r, state):
        tl = x[0] + r[0]
        grad = torch.tanh(tl) * tl
        saved = torch.sigmoid(grad) + grad * x[1]
        v1 = torch.exp(-saved * saved) + saved
        return (v1 * v1 + state[0],)

    ours, exact = run(step.name, "dense_reverse", h=3)
    assert_close(ours, exact, 2e-6)


def test_every_cell_has_a_module_of_its_own():
    """A kernel in memory is known by the module and the name of its cell's functions."""

    def two(scale):
        @fastrnn.cell(gates=1)
        def leaky(x, r, state):
            return (scale * state[0] + x[0] + r[0],)

        return leaky

    one, other = (derived.pair(two(scale).name) for scale in (0.5, 0.25))
    one_step, other_step = one.forward.fn, other.forward.fn
    assert one_step.__name__ == other_step.__name__ == "leaky_forward"
    assert one_step.__module__ != other_step.__module__
    assert "0.5" in Path(sys.modules[one_step.__module__].__file__).read_text()
    assert derived.pair(two(0.5).name) is one


def test_refusals():
    name = named("slstm")
    assert backend.unavailable(name, "cuda", torch.bfloat16) is None
    assert "float64" in backend.unavailable(name, "cuda", torch.float64)
    assert "no Triton functions" in backend.unavailable("slstm@0123", "cuda", torch.float32)

    @fastrnn.cell(gates=33)
    def wide(x, r, state):
        return (sum(x) + sum(r),)

    assert "at most 32 gates" in backend.unavailable(wide.name, "cuda", torch.float32)


def test_auto_takes_triton_where_cuda_has_no_such_cell(monkeypatch):
    name = named("light_gru")
    chosen, reason = backends.choose(name, "cuda", torch.bfloat16)
    assert chosen.name == "triton"
    assert "not cuda" in reason and "the Triton kernels serve light_gru" in reason
    on_cpu, reason = backends.choose(name, "cpu", torch.float32, "triton")
    assert on_cpu.name == "triton" and pairs.INTERPRET


@interpreted
def test_through_the_backend_and_autograd():
    """As a layer calls it: the ops of the backend, their rules and autograd."""
    from fastrnn.functional import scan

    cell = cells.get(named("light_gru"))
    gx = torch.randn(3, 2, 2 * 5, requires_grad=True)
    w = torch.randn(2 * 5, 5, requires_grad=True)
    results = []
    for word in ("triton", "reference"):
        output, _ = scan(cell.name, gx, w, None, torch.zeros(2, 5), backend=word)
        results.append([output, *torch.autograd.grad(output.square().sum(), (gx, w))])
    assert_close(results[0], [t.double() for t in results[1]], 1e-6)


@pytest.mark.parametrize("cell", NEW, ids=TITLES)
def test_room_for_what_a_cell_holds(cell):
    """Registers for its states, saved values and parameters count; for the others as before."""
    for name in CELLS:
        need = config.Need.of("backward", cells.get(name), 64, "bfloat16")
        assert need == config.Need("backward", cells.get(name).gates, 64, "bfloat16")
    forward, backward = (config.Need.of(d, cell, 64, "ieee") for d in ("forward", "backward"))
    assert backward.values - forward.values == pytest.approx(4 * 2.5 * cell.params)
    assert forward.values >= 4 * (cell.states * 2 + cell.saved + 1)

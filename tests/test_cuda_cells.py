"""CUDA kernels of cells that the package lacks: with parameters of their own, with many states.

As tests/test_cuda_kernels.py, in a second library of the simulator that has no other cells.
"""

import math
from pathlib import Path

import cuda_more_cells
import pytest
import torch
from cuda_more_cells import CASCADE4, CASCADE8, MORE, PEEPHOLE
from cuda_simulation import ENGINES, KINDS, SMALL, assert_bits, case, check, on_kernels
from devices import H100
from helpers import assert_same, slow_but

from fastrnn import cells, ops
from fastrnn.gpu import host
from fastrnn.gpu.scan import CudaScan

pytestmark = pytest.mark.usefixtures("poisoned")

every_engine = pytest.mark.parametrize("engine", ENGINES)
each_more = pytest.mark.parametrize("cell", MORE)


@pytest.fixture(scope="module")
def library():
    before = dict(cells.CELLS)
    yield cuda_more_cells.load(cuda_more_cells.build(Path(__file__).resolve().parents[1]))
    cells.CELLS.clear()
    cells.CELLS.update(before)


@pytest.fixture
def more(library):
    library.configure(seed=0, limits=SMALL)
    return library


EVERY = [(e, k) for e in ENGINES for k in KINDS if e == "stepwise" or k != "float64"]
QUICK = [*((engine, "ieee") for engine in ENGINES), ("block", "bfloat16")]


@each_more
@pytest.mark.parametrize("engine_kind", slow_but(QUICK, EVERY), ids="-".join)
def test_everything_at_once(more, cell, engine_kind):
    """Ragged rows, both directions, resets, more rows than a group has; values and gradients."""
    engine, kind = engine_kind
    sizes = [19, 19, 11, 3, 1]  # two of the 21 rows have no step
    check(
        more, engine, kind,
        case(cell, kind, h=33, b=21, t=6, sizes=sizes, directions=3, resets=True),
    )  # fmt: skip


FORMS = {
    "dense": dict(),
    "reverse": dict(directions=2, resets=True),
    "ragged_reverse": dict(directions=2, sizes=[5, 4, 4, 2]),
    "both": dict(directions=3),
    "no_bias": dict(bias=False, directions=3),
    "no_bias_ready": dict(bias=False, project=False),
    "ready_reverse": dict(project=False, directions=2, resets=True),
    "all_rows_empty_but_one": dict(sizes=[1, 1]),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("engine", slow_but(["block", "stepwise"], ENGINES))
@each_more
def test_forms(more, cell, engine, form):
    check(more, engine, "ieee", case(cell, "ieee", h=20, b=5, t=4, **FORMS[form]))


LARGE = [("block", PEEPHOLE, 60), ("cluster", PEEPHOLE, 250), ("cluster", CASCADE4, 200),
         ("grid", PEEPHOLE, 300), ("grid", CASCADE8, 200)]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "cell", "h"), LARGE)
def test_large(more, engine, cell, h):
    """As laid out on an H100, with rows for two groups."""
    more.configure(limits=H100)
    for kind in ("bfloat16", "ieee") if engine != "block" else ("bfloat16",):
        check(more, engine, kind, case(cell, kind, h=h, b=9, t=2, resets=True))


@every_engine
@pytest.mark.parametrize("cell", [PEEPHOLE, CASCADE8])
def test_any_order_of_threads_gives_the_same_bits(more, cell, engine):
    arguments = case(cell, "bfloat16", h=40, b=10, t=3, directions=3, resets=True)
    first = on_kernels(more, engine, "bfloat16", arguments)
    for seed in range(1, 4):
        more.configure(seed)
        assert_bits(on_kernels(more, engine, "bfloat16", arguments), first)


def gradients(library, engine, arguments, needs):
    scan = CudaScan(library.ops, engine)
    cell, input, weights, state, *rest = arguments
    with torch.no_grad():
        output, final, saved = host.forward(scan, *arguments, True)
        ones = torch.ones_like(output), [torch.ones_like(f) for f in final]
        return host.backward(scan, cell, *ones, input, weights, state, output, saved, *rest, needs)


@pytest.mark.parametrize("engine", ["stepwise", "block"])
def test_the_gradient_of_parameters_is_summed_in_float32(more, engine):
    """600 equal shares of 0.19 in bfloat16: a sum in that precision would not pass 64."""
    h, steps = 4, 600
    gx, state = torch.zeros(steps, 1, 4 * h), [torch.zeros(1, 1, h), torch.ones(1, 1, h)]
    gx[..., h : 2 * h] = 90.0  # f = 1, g = 0: c stays 1; o = 1/2
    tensors = [gx, torch.zeros(4 * h, h), torch.zeros(3, h), *state]
    gx, w_hh, params, *state = (t.bfloat16() for t in tensors)
    arguments = PEEPHOLE, gx, [w_hh, params], state, None, None, 1, False
    found = gradients(more, engine, arguments, ops.NEED_PARAMS)[1][-1]
    share = math.tanh(1.0) / 4
    right = torch.tensor([0.0, 0.0, steps * share])[:, None].expand(3, h)
    assert_same([found], [right], 0.6)


@pytest.mark.parametrize("cell", [PEEPHOLE, CASCADE4])
def test_only_gradients_that_are_wanted(more, cell):
    arguments = case(cell, "ieee", h=20, b=3, t=3, directions=3)
    every = gradients(more, "block", arguments, ops.NEED_ALL)[1]
    count = len(every) // 2
    assert [g.shape for g in every] == [w.shape for w in arguments[2]]
    for needs in (ops.NEED_PARAMS, ops.NEED_ALL & ~ops.NEED_PARAMS):
        found = gradients(more, "block", arguments, needs)[1]
        for i, (gradient, right) in enumerate(zip(found, every)):
            own = cell == PEEPHOLE and i % count == count - 1
            wanted = bool(needs & ops.NEED_PARAMS) == own
            assert gradient.numel() == (right.numel() if wanted else 0)
            assert not wanted or torch.equal(gradient, right)


def test_parameters_where_there_should_be_none(more):
    scan = CudaScan(more.ops, "block")
    cell, input, weights, *rest = case(PEEPHOLE, "ieee", h=6, b=2, t=2)
    for wrong in (weights[-1][:2], weights[-1][:, :5], weights[-1].double()):
        with pytest.raises(RuntimeError, match="params"):
            host.forward(scan, cell, input, [*weights[:-1], wrong], *rest, False)
    gx = torch.zeros(2, 12)
    state = [torch.zeros(1, 1, 6)] * 4
    nothing = None, None, None, None
    for own, match in ((torch.zeros(1, 1, 6), "params must be None"), (None, None)):
        arguments = CASCADE4, gx, torch.zeros(1, 12, 6), None, own, state, *nothing, 1, False
        if match is None:
            assert more.ops.scan_forward(*arguments, False, "block")[0].shape == (2, 6)
            continue
        with pytest.raises(RuntimeError, match=match):
            more.ops.scan_forward(*arguments, False, "block")


def test_the_library_has_these_cells_and_no_others(more):
    with pytest.raises(RuntimeError, match=f"cell must be one of {', '.join(MORE)}, got lstm"):
        more.ops.scan_plan("lstm", False, 1, 8, 1, "float32", False, "auto", *H100)


def test_rows_share_nothing(more):
    """A row's parameters' gradient is its own: those of the rows alone add up to the batch's."""
    cell, input, weights, state, *rest = case(PEEPHOLE, "float64", h=7, b=3, t=4)
    whole = gradients(more, "stepwise", (cell, input, weights, state, *rest), ops.NEED_PARAMS)[1]
    parts = [
        gradients(
            more, "stepwise",
            (cell, input[:, b : b + 1], weights, [s[:, b : b + 1] for s in state], *rest),
            ops.NEED_PARAMS,
        )[1][-1]
        for b in range(3)
    ]  # fmt: skip
    assert_same([sum(parts)], [whole[-1]], 1e-13)

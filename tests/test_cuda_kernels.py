"""The CUDA kernels, run on a CPU by the simulator of tests/cuda/sim: a check of logic and of races.

Everything but the device's instructions is the code that a GPU runs. Memory that kernels get for
results is NaN until they write it. What a GPU alone can show is in tests/gpu/.
"""

import pytest
import torch
from cuda_simulation import (
    ENGINES,
    KINDS,
    SMALL,
    assert_bits,
    case,
    check,
    numbers,
    on_kernels,
    on_reference,
)
from devices import A100, H100
from helpers import CELLS, each_cell, worst

from fastrnn.gpu import host
from fastrnn.gpu.scan import CudaScan

pytestmark = pytest.mark.usefixtures("poisoned")

EVERY = [
    (engine, kind)
    for engine in ENGINES
    for kind in KINDS
    if engine == "stepwise" or kind != "float64"
]
every_engine_and_kind = pytest.mark.parametrize(("engine", "kind"), EVERY)
every_engine = pytest.mark.parametrize("engine", ENGINES)


@pytest.fixture(autouse=True)
def small(simulator):
    simulator.configure(seed=0, limits=SMALL)


@every_engine_and_kind
@each_cell()
def test_everything_at_once(simulator, cell, engine, kind):
    """Ragged rows, both directions, resets, more rows than a group has; values and gradients."""
    sizes = [19, 19, 11, 3, 1]  # two of the 21 rows have no step
    check(
        simulator, engine, kind,
        case(cell, kind, h=33, b=21, t=6, sizes=sizes, directions=3, resets=True),
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["ieee", "bfloat16"])
@every_engine
@each_cell()
def test_dense(simulator, cell, engine, kind):
    check(simulator, engine, kind, case(cell, kind, h=48, b=3, t=4))


SIZES = [(1, 1, 1), (5, 3, 2), (17, 8, 3), (33, 11, 1), (48, 1, 6), (61, 9, 2)]


@pytest.mark.parametrize(("h", "b", "t"), SIZES)
@every_engine
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_odd_sizes(simulator, cell, engine, h, b, t):
    if engine in ("cluster", "grid") and h <= 16:
        pytest.skip("so few units have no second block")
    for kind in ("ieee", "float16"):
        check(simulator, engine, kind, case(cell, kind, h=h, b=b, t=t, i=h))


# engine, cell, kind, H: many warps, blocks and clusters; the second four have weights beyond the
# registers, in shared memory
LARGE = [
    ("block", "rnn_tanh", "bfloat16", 128),
    ("cluster", "lstm", "float16", 250),
    ("grid", "rnn_tanh", "bfloat16", 700),
    ("grid", "gru", "ieee", 200),
    ("cluster", "gru", "ieee", 340),
    ("cluster", "gru", "bfloat16", 370),
    ("grid", "lstm", "tf32", 410),
    ("grid", "lstm", "ieee", 280),
]


@pytest.mark.parametrize(("engine", "cell", "kind", "h"), LARGE)
def test_large(simulator, engine, cell, kind, h):
    """As laid out on an H100, with rows for two groups."""
    simulator.configure(limits=H100)
    dtype = str(KINDS[kind]).removeprefix("torch.")
    plan = simulator.ops.scan_plan(cell, True, 9, h, 1, dtype, kind == "tf32", engine, *H100)
    in_registers = (engine, cell, kind, h) in LARGE[:4]
    assert ("100% of the recurrent weights in registers" in plan) == in_registers
    check(simulator, engine, kind, case(cell, kind, h=h, b=9, t=2, resets=True))


FORMS = {
    "reverse": dict(directions=2),
    "ragged_reverse": dict(directions=2, sizes=[5, 4, 4, 2]),
    "no_bias": dict(bias=False, directions=3),
    "no_bias_ready": dict(bias=False, project=False),
    "ready_reverse": dict(project=False, directions=2, resets=True),
    "resets": dict(resets=True),
    "one_row_long": dict(sizes=[5, 1, 1, 1, 1, 1]),
    "all_rows_empty_but_one": dict(sizes=[1, 1]),
}


@pytest.mark.parametrize("form", FORMS)
@every_engine
@pytest.mark.parametrize("cell", ["rnn_tanh", "lstm", "gru"])
def test_forms(simulator, cell, engine, form):
    check(simulator, engine, "ieee", case(cell, "ieee", h=20, b=5, t=4, **FORMS[form]))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("engine", ["cluster", "grid"])
def test_groups_take_turns(simulator, engine, seed):
    """Tiles of rows one after another, the last of fewer rows, whose idle threads run late."""
    simulator.configure(seed, SMALL)
    arguments = case("lstm", "ieee", h=80, b=19, t=3, directions=3, resets=True)
    check(simulator, engine, "ieee", arguments)


@every_engine
@pytest.mark.parametrize("cell", ["rnn_relu", "lstm", "gru"])
def test_any_order_of_threads_gives_the_same_bits(simulator, cell, engine):
    arguments = case(cell, "bfloat16", h=40, b=10, t=4, directions=3, resets=True)
    first = on_kernels(simulator, engine, "bfloat16", arguments)
    for seed in range(1, 7):
        simulator.configure(seed)
        assert_bits(on_kernels(simulator, engine, "bfloat16", arguments), first)


@every_engine
@each_cell(("lstm", "gru"))
def test_a_row_does_not_depend_on_its_neighbours(simulator, cell, engine):
    """Inference: the bits of a row alone are those it has in a batch of several groups.

    Over a ready projection: that is a library's GEMM, and so is each step of stepwise.
    """
    cell, input, weights, state, *rest = case(cell, "ieee", h=24, b=20, t=3, project=False)
    scan = CudaScan(simulator.ops, engine)
    with torch.no_grad():
        whole = host.forward(scan, cell, input, weights, state, *rest, False)[0]
        for b in (0, 7, 8, 19):
            alone = host.forward(
                scan, cell, input[:, b : b + 1], weights, [s[:, b : b + 1] for s in state], *rest,
                False,
            )[0]  # fmt: skip
            gap = (alone[:, 0] - whole[:, b]).abs().max().item()
            assert gap <= (1e-6 if engine == "stepwise" else 0.0)


@every_engine
def test_nan_stays_in_its_row(simulator, engine):
    for kind in ("ieee", "bfloat16"):
        cell, input, weights, state, *rest = case("gru", kind, h=20, b=10, t=3)
        input[:, 4] = torch.nan
        with torch.no_grad(), numbers(kind):
            output = host.forward(
                CudaScan(simulator.ops, engine), cell, input, weights, state, *rest, False
            )[0]
        assert output[:, 4].isnan().all()
        assert not output[:, [b for b in range(10) if b != 4]].isnan().any()


@every_engine
def test_a_slow_state_is_carried_in_float32(simulator, engine):
    """A GRU that hardly moves would stand still if its state were rounded to bfloat16 each step."""
    h, steps = 20, 12
    gx = torch.zeros(steps, 1, 3 * h)
    gx[..., h : 2 * h], gx[..., 2 * h :] = 6.5, 3.0  # z near 1, n near 1
    state, weights = [torch.full((1, 1, h), 0.5)], [torch.zeros(3 * h, h)]
    exact = on_reference(("gru", gx, weights, state, None, None, 1, False), torch.float64)[1]
    low = [gx.bfloat16(), [w.bfloat16() for w in weights], [s.bfloat16() for s in state]]
    with torch.no_grad():
        final = host.forward(
            CudaScan(simulator.ops, engine), "gru", *low, None, None, 1, False, False
        )[1][0]
    assert (exact - 0.5).abs().min() > 8e-3  # each step less than half a bfloat16 unit
    assert (final.double() - exact).abs().max() < 2e-3


@every_engine
def test_tf32_only_where_allowed(simulator, engine):
    arguments = case("rnn_identity", "ieee", h=40, b=8, t=2)
    exact = on_reference(arguments, torch.float64)
    errors = [worst(on_kernels(simulator, engine, k, arguments), exact) for k in ("ieee", "tf32")]
    if engine == "stepwise":  # its GEMM is torch's, which knows no tf32 on a CPU
        assert max(errors) < 2e-5
    else:
        assert errors[0] < 2e-5 < 1e-4 < errors[1]


def test_ragged_under_inference_mode(simulator):
    """The rows of the steps, too, are tensors made there."""
    arguments = case("gru", "ieee", h=20, b=4, t=3, sizes=[4, 2, 1])
    scan = CudaScan(simulator.ops, "block")
    with torch.no_grad():
        expected = host.forward(scan, *arguments, False)
    cell, input, weights, state, sizes, *rest = arguments
    with torch.inference_mode():
        found = host.forward(scan, cell, input, weights, state, sizes.clone(), *rest, False)
    assert_bits([found[0], *found[1]], [expected[0], *expected[1]])


def test_auto_is_one_of_the_engines(simulator):
    simulator.configure(limits=H100)
    arguments = case("gru", "bfloat16", h=33, b=5, t=3)
    check(simulator, "auto", "bfloat16", arguments)


def test_an_engine_that_cannot_serve_is_not_replaced(simulator):
    arguments = case("lstm", "ieee", h=200, b=2, t=1)
    with pytest.raises(RuntimeError, match="engine block cannot serve"):
        host.forward(CudaScan(simulator.ops, "block"), *arguments, False)


def test_a_plan_is_remembered_for_its_device_alone(simulator):
    arguments = case("gru", "ieee", h=40, b=3, t=2)
    for limits in (H100, SMALL, A100):
        simulator.configure(limits=limits)
        if limits != A100:
            check(simulator, "cluster", "ieee", arguments)
            continue
        with pytest.raises(RuntimeError, match="clusters need compute capability 9.0"):
            host.forward(CudaScan(simulator.ops, "cluster"), *arguments, False)


def test_every_cell_of_the_list_has_kernels(simulator):
    for cell in CELLS:
        check(simulator, "block", "float16", case(cell, "float16", h=6, b=1, t=2))

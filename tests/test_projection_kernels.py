"""LSTM with proj_size on the CPU kernels: threads, bits, blocks of rows, bfloat16, the ops."""

import copy

import pytest
import torch
from helpers import DEVICE, assert_same, flat, gradients, randn, slow_but
from test_bfloat16 import BF16, assert_rounds_as_well, double
from torch.utils.flop_counter import FlopCounterMode

import fastrnn
from fastrnn import ops

F64 = torch.float64
pytestmark = [
    pytest.mark.skipif(not ops.NATIVE_BUILT, reason="the native library is not built"),
    pytest.mark.skipif(DEVICE != "cpu", reason="about the CPU kernels"),
    pytest.mark.filterwarnings("ignore:LSTM with projections", "ignore:fastrnn runs lstm"),
]


def lstm(i, h, p, dtype=torch.float32, backend="native", **options):
    return fastrnn.FastLSTM(i, h, proj_size=p, dtype=dtype, backend=backend, **options)


def everything(layer, x, *state, **options):
    result = layer(x, state or None, **options)
    return flat(result) + gradients(result, [x, *state, *layer.parameters()])


def slow(layer):
    other = copy.deepcopy(layer)
    other.backend = "reference"
    return other


SHARED = {"units": (1, False), "units_in_halves": (3, True), "rows": (30, True)}


@pytest.mark.parametrize("shared", slow_but(["units"], SHARED))
@pytest.mark.parametrize("dtype", [torch.float32, F64, BF16], ids=["float32", "float64", "bf16"])
def test_threads_do_not_change_a_bit(shared, dtype, poisoned):
    """They share units where rows are few, else rows; H and P leave narrow panels."""
    b, bidirectional = SHARED[shared]
    layer = lstm(40, 260, 130, dtype, bidirectional=bidirectional)
    d, x = 1 + bidirectional, randn(60, b, 40, dtype=dtype, grad=True)
    state = [randn(d, b, n, dtype=dtype, grad=True) for n in (130, 260)]
    results = []
    for threads in (1, 2, 3, 4) if bidirectional else (1, 2, 3):
        torch.set_num_threads(threads)
        with torch.no_grad():
            inference = flat(layer(x, tuple(state)))
        results.append(inference + everything(layer, x, *state))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))
    if dtype == F64:
        assert_same(results[0][3:], everything(slow(layer), x, *state), 1e-9)


@pytest.mark.parametrize("t", [1, 3, 9])
def test_a_row_does_not_depend_on_its_neighbours(t):
    layer, x = lstm(7, 70, 37), randn(t, 60, 7)
    together = layer(x)[0]
    for row in (0, 17, 59):
        assert torch.equal(layer(x[:, row : row + 1])[0], together[:, row : row + 1])


@pytest.mark.parametrize("threads", slow_but([2], [1, 2]))
@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
def test_lengths_on_threads(threads, recompute):
    torch.set_num_threads(threads)
    layer = lstm(30, 66, 31, F64, bidirectional=True, recompute_gates=recompute)
    x, lengths = randn(40, 6, 30, dtype=F64, grad=True), [3, 40, 0, 22, 40, 1]
    ours, right = (everything(m, x, lengths=lengths) for m in (layer, slow(layer)))
    assert_same(ours, right, 1e-10)


BFLOAT16 = {  # T, B, I, H, P
    "B1": (9, 1, 5, 70, 33),
    "odd": (9, 7, 5, 35, 17),
    "T1": (1, 5, 9, 20, 7),
    "T2": (2, 5, 9, 21, 8),
    "blocks": (28, 40, 3, 17, 5),
}


@pytest.mark.parametrize("recompute", slow_but([False], [False, True]))
@pytest.mark.parametrize("size", slow_but(["odd", "T2"], BFLOAT16))
def test_bfloat16_rounds_as_plain_torch(size, recompute):
    t, b, i, h, p = BFLOAT16[size]

    def run(seed):
        layer = lstm(i, h, p, BF16, bidirectional=True, recompute_gates=recompute)
        leaves = [randn(t, b, i, dtype=BF16), *(randn(2, b, n, dtype=BF16) for n in (p, h))]
        leaves = [leaf.requires_grad_() for leaf in leaves]
        theirs = torch.nn.LSTM(i, h, proj_size=p, dtype=BF16, bidirectional=True)
        theirs.load_state_dict(layer.state_dict())
        exact = slow(layer).double()
        return (
            everything(layer, *leaves),
            everything(theirs, *leaves),
            everything(exact, *double(leaves)),
        )

    assert_rounds_as_well(run)


def arguments(directions=1, bias=True, dtype=F64, state=True):
    t, b, i, h, p = 4, 3, 5, 9, 4
    d = directions.bit_count()
    shapes = [(4 * h, i), (4 * h, p), *[(4 * h,)] * (2 * bias), (p, h)]
    weights = [randn(*s, dtype=dtype) * 0.3 for _ in range(d) for s in shapes]
    states = [randn(d, b, n, dtype=dtype) for n in (p, h)] if state else []
    return "lstm", randn(t, b, i, dtype=dtype), weights, states, None, None, directions, True


@pytest.mark.parametrize("directions, bias", [(2, False), (3, True)])
def test_opcheck(directions, bias):
    call = arguments(directions, bias)
    for save in (ops.SAVE_NOTHING, ops.SAVE_ALL, ops.SAVE_PARTIAL):
        torch.library.opcheck(ops.FORWARD, (*call, save))
    cell, input, weights, state, *rest = call
    output, final, saved = ops.FORWARD(*call, ops.SAVE_ALL)
    grads = [torch.randn_like(f) for f in final]
    for needs in (ops.NEED_ALL, ops.NEED_INPUT, ops.NEED_PROJECTION):
        torch.library.opcheck(
            ops.BACKWARD,
            (
                cell,
                torch.randn_like(output),
                grads,
                input,
                weights,
                state,
                output,
                saved,
                *rest,
                needs,
            ),
        )


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda w, s: w.__setitem__(4, w[4][:, 1:]), r"weight_hr must be \[4, 9\], got \[4, 8\]"),
        (lambda w, s: w.__setitem__(1, w[1][1:]), r"weight_hh must be \[36, 4\], got \[35, 4\]"),
        (lambda w, s: s.__setitem__(0, s[1]), r"state must be \[1, 3, 4\], got \[1, 3, 9\]"),
        (lambda w, s: w.pop(), r"weight_hh must be \[16, 4\], got \[36, 4\]|state"),
    ],
)
def test_wrong_shapes_are_refused(wrong, words):
    call = arguments()
    wrong(call[2], call[3])
    with pytest.raises(RuntimeError, match=words):
        ops.FORWARD(*call, ops.SAVE_NOTHING)


def test_other_cells_have_no_projection():
    _, input, weights, state, *rest = arguments()
    gru = [w[:27] for w in weights[:4]] + [weights[4]]
    with pytest.raises(RuntimeError, match="weights must be 2 or 4 tensors"):
        ops.FORWARD("gru", input, gru, state[:1], *rest, ops.SAVE_NOTHING)


@pytest.mark.parametrize("state", [False, True])
def test_work_is_counted_as_the_plain_loops(state):
    layer, x = lstm(3, 5, 2, num_layers=2, bidirectional=True), randn(4, 2, 3, grad=True)
    hx = tuple(randn(4, 2, n, grad=True) for n in (2, 5)) if state else None
    counted = []
    for model in (layer, slow(layer)):
        with FlopCounterMode(display=False) as counter:
            sum(r.sum() for r in flat(model(x, hx))).backward()
        counted.append(counter.get_total_flops())
    assert counted[0] == counted[1] > 0


@pytest.mark.parametrize("given", [False, True], ids=["zeros", "hx"])
def test_compiled(given):
    layer = lstm(3, 7, 4, F64, num_layers=2, bidirectional=True)
    x = randn(4, 2, 3, dtype=F64, grad=True)
    state = [randn(4, 2, n, dtype=F64, grad=True) for n in (4, 7)] if given else []
    expected = everything(layer, x, *state)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    result = compiled(x, tuple(state) or None)
    got = flat(result) + gradients(result, [x, *state, *layer.parameters()])
    assert_same(got, expected, 1e-11)


def test_exported_and_trained():
    layer, x = lstm(3, 7, 4, F64, bidirectional=True), randn(4, 2, 3, dtype=F64)
    program = torch.export.export(layer, (x,)).module()
    assert_same(flat(program(x)), flat(layer(x)), 1e-12)
    grads = [gradients(m(x), [*m.parameters()]) for m in (program, layer)]
    assert_same(*grads, 1e-11)


def test_second_derivatives_of_a_graph():
    layer, x = lstm(3, 5, 2, F64), randn(4, 2, 3, dtype=F64, grad=True)
    results = []
    for model in (layer, torch.export.export(layer, (x,)).module()):
        (grad,) = torch.autograd.grad(
            sum(r.pow(2).sum() for r in flat(model(x))), x, create_graph=True
        )
        results += torch.autograd.grad(grad.pow(2).sum(), x)
    assert_same(results[:1], results[1:], 1e-9)

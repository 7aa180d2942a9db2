"""fastrnn.Stream: layers a step at a time, against the same layers in float64."""

import copy
import pickle
import threading
from pathlib import Path

import pytest
import torch
from helpers import assert_same, each_cell, fast, run_python, slow_but, worst
from stream_runs import in_calls, intruded, oracle
from torch import nn

import fastrnn
from fastrnn import ops

HERE = Path(__file__).parent
ISAS = ops.BUILD_INFO.get("isas", [])
pytestmark = pytest.mark.skipif(not ops.NATIVE_BUILT, reason="the native library is not built")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("batch", [1, 3, 50], ids="B{}".format)
@each_cell()
def test_steps_and_chunks_are_the_layers_sequence(cell, batch):
    """Sizes with and without a narrower last panel; outputs and states, with bias and without."""
    for features, hidden, layers, bias in ((5, 33, 1, True), (70, 16, 2, False), (3, 1, 3, True)):
        layer = fast(cell, features, hidden, layers, bias=bias)
        stream = fastrnn.Stream(layer, batch)
        x = torch.randn(45, batch, features)
        output, state = oracle(layer, x)
        size = 1 + output.abs().max().item()  # a linear hidden state grows
        assert_same(in_calls(stream, x), output, 2e-6 * size)
        assert_same(stream.state, state, 2e-6 * size)


@each_cell()
def test_calls_of_any_length_and_rows_beside_change_no_bit(cell):
    layer = fast(cell, 19, 40, 2)
    x = torch.randn(90, 60, 19)
    whole = fastrnn.Stream(layer, 60)(x)
    assert torch.equal(in_calls(fastrnn.Stream(layer, 60), x), whole)
    for rows in (1, 5):
        assert torch.equal(fastrnn.Stream(layer, rows)(x[:, :rows].contiguous()), whole[:, :rows])


@pytest.mark.parametrize("batch", [1, 7], ids="B{}".format)
@each_cell()
def test_bfloat16_weights_with_exact_sums(cell, batch):
    """As close to the rounded weights' float64 results as float32 is: no input is rounded. Odd
    sizes have numbers without a neighbour in the last lane; a layer in bfloat16 gives the same."""
    layer = fast(cell, 37, 19, 2)
    with torch.no_grad():
        for weight in layer.parameters():
            if weight.dim() > 1:
                weight.copy_(weight.bfloat16())
    x = torch.randn(45, batch, 37)
    output, state = oracle(layer, x)
    stream = fastrnn.Stream(layer, batch, torch.bfloat16)
    result = in_calls(stream, x)
    assert_same(result, output, 2e-6 * (1 + output.abs().max().item()))
    low = fast(cell, 37, 19, 2).bfloat16()
    low.load_state_dict(layer.state_dict())
    exact = fast(cell, 37, 19, 2)
    exact.load_state_dict(low.state_dict())  # biases are rounded, too
    expected = fastrnn.Stream(exact, batch, torch.bfloat16)(x)
    assert torch.equal(fastrnn.Stream(low, batch)(x), expected)


@pytest.mark.parametrize("isa", slow_but(ISAS[-1:], ISAS))
def test_every_instruction_set_is_right(isa):
    run = run_python("stream_worker.py", cwd=HERE, FASTRNN_ISA=isa)
    if "must be one of" in run.stderr:
        pytest.skip(f"this CPU has no {isa}")
    assert run.returncode == 0, run.stderr
    float32, bfloat16, int8, changed_rows = map(float, run.stdout.split())
    assert float32 < 3e-6 and bfloat16 < 3e-6 and int8 < 1e-5 and changed_rows == 0


def test_products_longer_than_a_block():
    layer = nn.LSTM(700, 300)
    x = torch.randn(3, 2, 700)
    assert_same(fastrnn.Stream(layer, 2)(x), oracle(layer, x)[0], 3e-6)


@pytest.mark.parametrize("batch", [1, 4], ids="B{}".format)
def test_a_stack_of_all_that_streams(batch):
    """torch.nn's layers and fastrnn's, single-step cells, a projection, Linear in the middle."""
    modules = [
        nn.GRU(9, 20, 2),
        fastrnn.FastLSTM(20, 18, proj_size=7),
        nn.Linear(7, 11),
        nn.LSTMCell(11, 8),
        fastrnn.FastRNNCell(8, 17, nonlinearity="identity", bias=False),
        nn.RNN(17, 6, nonlinearity="relu"),
        nn.GRUCell(6, 5),
        nn.Linear(5, 3, bias=False),
    ]
    x = torch.randn(30, batch, 9)
    y, states = x, []
    for module in modules:
        y, state = oracle(module, y)
        states += [] if state is None else [state]
    for given in (modules, tuple(modules), nn.Sequential(*modules), nn.ModuleList(modules)):
        stream = fastrnn.Stream(given, batch)
        assert_same(in_calls(stream, x), y, 3e-6)
        assert_same(stream.state, tuple(states), 3e-6)


def test_state_is_the_layers_hx_both_ways():
    layer = fastrnn.FastLSTM(6, 10, 2, proj_size=4)
    x = torch.randn(9, 3, 6)
    stream = fastrnn.Stream(layer, 3)
    with torch.no_grad():
        whole, end = layer(x)
        middle, hx = layer(x[:4])
        assert_same(stream(x[:4]), middle, 1e-6)
        assert_same(layer(x[4:], stream.state), (whole[4:], end), 1e-6)
    stream.state = None
    assert not worst(stream.state, [torch.zeros_like(s) for s in hx])
    stream.state = hx
    assert not worst(stream.state, hx)
    assert_same(stream(x[4:]), whole[4:], 1e-6)


def test_a_cells_state_and_one_without_states():
    cell = nn.GRUCell(4, 6)
    stream = fastrnn.Stream(cell, 2)
    x, h = torch.randn(2, 4), torch.randn(2, 6)
    stream.state = h
    assert_same(stream(x), cell(x, h), 1e-6)
    linear = nn.Linear(4, 5)
    assert_same(fastrnn.Stream(linear)(x[:1]), linear(x[:1]), 1e-6)
    assert fastrnn.Stream(linear).state == () and fastrnn.Stream([linear]).state == ()


def test_reset_of_all_rows_and_of_some():
    layer = nn.LSTM(4, 6, 2)
    for rows in (2, [0, 2], torch.tensor([1]), torch.tensor([True, False, True]), [], None):
        stream = fastrnn.Stream(layer, 3)
        stream(torch.randn(5, 3, 4))
        expected = [s.clone() for s in stream.state]
        chosen = slice(None) if rows is None else rows
        for state in expected:
            state[:, chosen] = 0
        stream.reset(rows)
        assert not worst(stream.state, expected)


def test_weights_change_when_told_and_states_stay():
    layer = fastrnn.FastGRU(4, 6)
    stream, x = fastrnn.Stream(layer), torch.randn(1, 4)
    first = stream(x)
    stream.reset()
    with torch.no_grad():
        layer.weight_ih_l0.mul_(2)
    assert torch.equal(stream(x), first)
    state = stream.state
    stream.refresh()
    assert torch.equal(stream.state, state)
    assert_same(stream(x), layer(x[None], state)[0][0], 1e-6)


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))]
)
def test_copies_have_the_states_and_go_their_own_way(again):
    stream = fastrnn.Stream([nn.LSTM(4, 6), nn.Linear(6, 2)], 3, torch.bfloat16)
    x = torch.randn(5, 3, 4)
    stream(x)
    other = again(stream)
    assert not worst(other.state, stream.state)
    assert torch.equal(other(x), stream(x))
    stream.reset()
    assert worst(other.state, stream.state) > 0
    assert (other.layer is stream.layer) == (again is copy.copy)


def test_inputs_of_any_layout_and_out():
    layer = nn.GRU(4, 6)
    x = torch.randn(8, 3, 4)
    whole = fastrnn.Stream(layer, 3)(x)
    laid = x.transpose(0, 1).contiguous().transpose(0, 1)
    for given in (laid, nn.Parameter(x), x.clone().requires_grad_(), x[..., [3, 2, 1, 0]].flip(-1)):
        result = fastrnn.Stream(layer, 3)(given)
        assert torch.equal(result, whole) and not result.requires_grad
        out = torch.full((8, 3, 6), torch.nan)
        assert fastrnn.Stream(layer, 3)(given, out=out) is out
        assert torch.equal(out, whole)
    assert torch.equal(fastrnn.Stream(layer, 3)(x[0], out=None), whole[0])
    empty = fastrnn.Stream(layer, 3)(x[:0])
    assert empty.shape == (0, 3, 6)


def test_weight_norm_and_subclasses_are_read_as_they_compute():
    class Own(nn.LSTM):
        pass

    layer = nn.utils.parametrizations.weight_norm(Own(4, 6), "weight_hh_l0")
    x = torch.randn(7, 1, 4)
    assert_same(fastrnn.Stream(layer)(x), layer(x)[0].detach(), 1e-6)


def test_results_are_tensors_as_others():
    stream = fastrnn.Stream(nn.Linear(4, 5))
    y = stream(torch.randn(1, 4))
    assert type(y) is torch.Tensor and y.dtype == torch.float32 and y.is_contiguous()
    z = torch.ones(5, requires_grad=True)
    (y * z).sum().backward()
    assert torch.equal(z.grad, y[0])
    y.add_(1)


def test_streams_run_in_threads_beside_each_other():
    """Large enough that the interpreter lets others run."""
    layer = nn.GRU(64, 256)
    x = torch.randn(60, 1, 64)
    expected = fastrnn.Stream(layer)(x)
    results: list = [None] * 4

    def work(i: int) -> None:
        stream = fastrnn.Stream(layer)
        results[i] = torch.cat([stream(piece) for piece in x.split(20)])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert all(torch.equal(result, expected) for result in results)


def test_one_stream_in_two_threads_is_an_error():
    stream = fastrnn.Stream(nn.GRU(64, 512))
    assert intruded(stream, torch.randn(3000, 1, 64)) == ["the stream is in use by another thread"]

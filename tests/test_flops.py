"""FlopCounterMode counts fastrnn's kernels as it counts the plain loop of the reference."""

import pytest
import torch
from helpers import DEVICE, backends, each_cell, fast, flat, hx, plain, randn, run_python, slow_but
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.flop_counter import FlopCounterMode

import fastrnn
from fastrnn import cells, functional

STEPS, B, SIZE, H = 4, 2, 3, 5


def count(call) -> tuple[int, object]:
    with FlopCounterMode(display=False) as counter:
        result = call()
    return counter.get_total_flops(), result


def forward_and_backward(layer, *arguments, **options) -> tuple[int, int]:
    there, result = count(lambda: layer(*arguments, **options))
    back, _ = count(lambda: sum(r.sum() for r in flat(result)).backward())
    return there, back


@backends(interpreted=True)
@each_cell()
@pytest.mark.parametrize("directions", [1, 2])
def test_forward(cell, backend, directions):
    layer = fast(cell, SIZE, H, bidirectional=directions == 2, backend=backend)
    gates = cells.get(cell).gates
    with torch.no_grad():
        counted, _ = count(lambda: layer(randn(STEPS, B, SIZE)))
    assert counted == 2 * STEPS * B * gates * H * (SIZE + H) * directions


@pytest.mark.skipif(DEVICE != "cpu", reason="cuDNN's calls are not counted")
@each_cell(["rnn_tanh", "rnn_relu", "gru"])
def test_as_torch_nn(cell):
    """Of nn.LSTM it counts nothing on a CPU."""
    x = randn(STEPS, B, SIZE)
    assert forward_and_backward(fast(cell, SIZE, H), x) == forward_and_backward(
        plain(cell, SIZE, H), x
    )


def frozen(layer):
    """In both directions: the kernels compute a kind of weight's gradient for both or none."""
    for name, weight in layer.named_parameters():
        weight.requires_grad_(not name.startswith(("weight_ih_l0", "weight_hh_l1")))


@backends(kernels=True)
@each_cell()
@pytest.mark.parametrize("bidirectional", slow_but([True], [False, True]))
@pytest.mark.parametrize("input_grad", [False, True], ids=["data", "input_grad"])
@pytest.mark.parametrize("state", slow_but(["none", "leaf"], ["none", "constant", "leaf"]))
@pytest.mark.parametrize("freeze", [False, True], ids=["all", "frozen"])
def test_as_the_plain_loop(cell, backend, bidirectional, input_grad, state, freeze):
    x, rows = randn(STEPS, B, SIZE, grad=input_grad), 4 if bidirectional else 2
    given = None if state == "none" else hx(cell, rows, B, H, grad=state == "leaf")
    counted = []
    for which in (backend, "reference"):
        layer = fast(cell, SIZE, H, num_layers=2, bidirectional=bidirectional, backend=which)
        if freeze:
            frozen(layer)
        counted.append(forward_and_backward(layer, x, given))
    assert counted[0] == counted[1]


@backends(kernels=True)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_packed(backend, bidirectional):
    """The reverse loop passes rows back that have not started; where h_0 wants that, all do."""
    packed = pack_padded_sequence(randn(STEPS, B, SIZE), [4, 2])
    given = hx("gru", 2, B, H, grad=True) if bidirectional else None
    counted = [
        forward_and_backward(
            fast("gru", SIZE, H, bidirectional=bidirectional, backend=b), packed, given
        )
        for b in (backend, "reference")
    ]
    assert counted[0] == counted[1] and counted[0][0] == 2 * 6 * 3 * H * (SIZE + H) * (
        1 + bidirectional
    )


@backends(kernels=True)
def test_lengths(backend):
    """The valid rows, as packed."""
    x, layer = randn(STEPS, 3, SIZE), fast("gru", SIZE, H, bidirectional=True, backend=backend)
    packed = forward_and_backward(layer, pack_padded_sequence(x[:, :2], [4, 2]))
    assert forward_and_backward(layer, x, lengths=[2, 0, 4]) == packed


@backends(kernels=True)
@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
def test_cells(backend, name):
    x, counted = randn(B, SIZE, grad=True), []
    for which in (backend, "reference"):
        cell = getattr(fastrnn, "Fast" + name)(SIZE, H, device=DEVICE, backend=which)
        counted.append(forward_and_backward(cell, x))
    assert counted[0] == counted[1] and counted[0][0] > 0


@backends(kernels=True)
def test_scan(backend):
    gx, weight, state = randn(STEPS, B, 3 * H, grad=True), randn(3 * H, H, grad=True), randn(B, H)
    counted = [
        forward_and_backward(functional.scan, "gru", gx, weight, None, state, backend=which)
        for which in (backend, "reference")
    ]
    assert counted[0] == counted[1] and counted[0][0] == 2 * STEPS * B * 3 * H * H


@pytest.mark.skipif(DEVICE != "cpu", reason="on a GPU all is run again")
@pytest.mark.parametrize("cell, share", [("lstm", 3 / 4), ("gru", 2 / 3), ("rnn_tanh", 0)])
def test_recomputed_gates(cell, share):
    x = randn(STEPS, B, SIZE)
    whole, part = (
        forward_and_backward(fast(cell, SIZE, H, recompute_gates=r), x) for r in (False, True)
    )
    assert part[0] == whole[0] and part[1] == whole[1] + share * whole[0]


@backends(kernels=True)
@each_cell()
def test_exported(cell, backend):
    """The ops of graphs; in backward forward is run again. (torch.compile is off under a mode.)"""
    layer, x = fast(cell, SIZE, H, backend=backend), randn(STEPS, B, SIZE, grad=True)
    program = torch.export.export(layer, (x,)).module()
    there, back = forward_and_backward(layer, x)
    assert forward_and_backward(program, x) == (there, back + there) and there > 0


def test_a_formula_of_the_user_goes_first():
    packet = torch.ops.fastrnn.forward
    mine = {packet: lambda *_, **__: 7}
    with FlopCounterMode(display=False, custom_mapping=mine) as counter, torch.no_grad():
        fast("gru", SIZE, H)(randn(STEPS, B, SIZE))
    assert counter.get_flop_counts()["Global"] == {packet: 7}


ORDER = """
import sys, torch, fastrnn
layer = fastrnn.FastRNN(3, 5)
layer(torch.ones(4, 2, 3))
before = "torch.utils.flop_counter" in sys.modules
from torch.utils.flop_counter import FlopCounterMode
with FlopCounterMode(display=False) as counter:
    layer(torch.ones(4, 2, 3))
print(before, counter.get_total_flops())
"""


def test_import_does_not_load_the_counter(tmp_path):
    run = run_python("-c", ORDER, cwd=tmp_path)
    assert run.stdout.split() == ["False", "640"], run.stderr

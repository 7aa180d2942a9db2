"""The ONNX standard's own test cases for RNN, LSTM and GRU, as an oracle from outside torch."""

import functools

import pytest
import torch
from helpers import DEVICE, assert_same, backends, flat

import fastrnn
from fastrnn import zoo

pytestmark = pytest.mark.filterwarnings("ignore")  # ONNX's cases of other operators overflow

# ONNX orders gates i o f c (LSTM) and z r h (GRU); torch.nn i f g o and r z n.
GATES = {"LSTM": [0, 2, 3, 1], "GRU": [1, 0, 2], "RNN": [0]}


def class_of(op: str, attributes: dict, inputs: dict) -> type:
    """The layer that computes a node."""
    if op == "LSTM":
        return zoo.PeepholeLSTM if "P" in inputs else fastrnn.FastLSTM
    if op == "GRU":
        after = attributes.get("linear_before_reset", 0) == 1
        return fastrnn.FastGRU if after else zoo.ResetBeforeGRU
    return fastrnn.FastRNN


def torch_order(op: str, weight: torch.Tensor) -> torch.Tensor:
    """[D, G*H, ..] in ONNX's order of gates -> torch.nn's."""
    return weight.unflatten(1, (len(GATES[op]), -1))[:, GATES[op]].flatten(1, 2)


def layer_of(op: str, attributes: dict, inputs: dict, backend: str):
    """The fastrnn layer with the weights of an ONNX node."""
    w, r = (torch_order(op, inputs[name]) for name in ("W", "R"))
    directions, _, i = w.shape
    layer = class_of(op, attributes, inputs)(
        i, attributes["hidden_size"], bidirectional=directions == 2, device=DEVICE, backend=backend
    )
    zeros = torch.zeros(directions, 2 * w.shape[1])
    b_ih, b_hh = (torch_order(op, b) for b in inputs.get("B", zeros).chunk(2, 1))
    with torch.no_grad():
        for d, suffix in enumerate(["", "_reverse"][:directions]):
            for name, value in (
                ("weight_ih", w), ("weight_hh", r), ("bias_ih", b_ih), ("bias_hh", b_hh)
            ):  # fmt: skip
                getattr(layer, f"{name}_l0{suffix}").copy_(value[d])
            if "P" in inputs:  # of i o f
                peepholes = inputs["P"][d].unflatten(0, (3, -1))[[0, 2, 1]]
                getattr(layer, f"params_l0{suffix}").copy_(peepholes)
    return layer


@functools.cache
def cases() -> dict:
    """ONNX's node cases of the three operators, by name."""
    node = pytest.importorskip("onnx.backend.test.case.node")
    found = node.collect_testcases(None)
    return {c.name: c for c in found if c.model.graph.node[0].op_type in GATES}


def run(op: str, attributes: dict, inputs: dict, backend: str) -> dict:
    """What fastrnn makes of an ONNX node: its outputs by ONNX's names and layouts."""
    x = inputs["X"].to(DEVICE)
    batch_first = attributes.get("layout", 0) == 1
    layer = layer_of(op, attributes, inputs, backend)
    if attributes.get("direction") == "reverse":
        # torch.nn has no reverse layer alone: it is the forward layer over flipped time.
        x = x.flip(1 if batch_first else 0)
    layer.batch_first = batch_first
    given = [inputs[f"initial_{k}"].to(DEVICE) for k in "hc" if f"initial_{k}" in inputs]
    hx = None if not given else given[0] if len(given) == 1 else tuple(given)
    lengths = inputs.get("sequence_lens")
    with torch.no_grad():
        output, *states = flat(layer(x, hx, lengths=lengths))
    if attributes.get("direction") == "reverse":
        output = output.flip(1 if batch_first else 0)
    output = output.unflatten(-1, (len(inputs["W"]), -1))  # [T, B, D, H]
    names = ("Y_h", "Y_c")[: len(states)]
    if batch_first:  # Y [B, T, D, H], Y_h [B, D, H]
        return {"Y": output, **{n: s.transpose(0, 1) for n, s in zip(names, states)}}
    return {"Y": output.transpose(1, 2), **dict(zip(names, states))}


CASES = (
    "test_gru_defaults test_gru_with_initial_bias test_gru_seq_length test_gru_batchwise "
    "test_gru_reverse test_gru_bidirectional "
    "test_lstm_defaults test_lstm_with_initial_bias test_lstm_with_peepholes test_lstm_batchwise "
    "test_lstm_reverse test_lstm_bidirectional "
    "test_simple_rnn_defaults test_simple_rnn_with_initial_bias "
    "test_rnn_seq_length test_simple_rnn_batchwise test_simple_rnn_reverse "
    "test_simple_rnn_bidirectional"
).split()


@backends()
@pytest.mark.parametrize("name", CASES)
def test_onnx_node_case(name, backend):
    case = cases()[name]
    (node,) = case.model.graph.node
    attributes = {a.name: a.s.decode() if a.s else a.i for a in node.attribute}
    inputs, outputs = case.data_sets[0]
    inputs = {n: torch.from_numpy(v.copy()) for n, v in zip([n for n in node.input if n], inputs)}
    expected = dict(zip([n for n in node.output if n], outputs))
    ours = run(node.op_type, attributes, inputs, backend)
    assert expected, "the case gives no output"
    for output, value in expected.items():
        assert_same(ours[output].cpu(), torch.from_numpy(value.copy()), 1e-5)


@backends()
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("linear_before_reset", [0, 1])
def test_onnx_gru(linear_before_reset, direction, backend):
    """ONNX's own numpy GRU in both forms, for many steps with biases."""
    gru = pytest.importorskip("onnx.backend.test.case.node.gru")
    d, t, b, i, h = (2 if direction == "bidirectional" else 1), 6, 3, 4, 5
    shapes = {"X": (t, b, i), "W": (d, 3 * h, i), "R": (d, 3 * h, h), "B": (d, 6 * h)}
    inputs = {name: torch.randn(shape) for name, shape in shapes.items()}
    arrays = {name: value.numpy() for name, value in inputs.items()}
    helper = gru.GRUHelper(**arrays, direction=direction, linear_before_reset=linear_before_reset)
    y, y_h = helper.step()
    attributes = {"hidden_size": h, "direction": direction}
    attributes["linear_before_reset"] = linear_before_reset
    ours = run("GRU", attributes, inputs, backend)
    assert_same(ours["Y"].cpu(), torch.from_numpy(y.copy()), 1e-5)
    assert_same(ours["Y_h"].cpu(), torch.from_numpy(y_h.copy()), 1e-5)


def test_no_case_is_left_out():
    assert sorted(cases()) == sorted(CASES)

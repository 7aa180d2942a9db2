"""What a Stream refuses, and in which words."""

import re

import pytest
import torch
from torch import nn

import fastrnn
from fastrnn import ops

pytestmark = pytest.mark.skipif(not ops.NATIVE_BUILT, reason="the native library is not built")

GRU = nn.GRU(4, 6)
LAYERS = {
    "a bidirectional layer": (nn.LSTM(4, 6, bidirectional=True), ValueError, "from its end"),
    "no layer": (nn.Conv1d(1, 1, 1), TypeError, "layer must be a recurrent layer .* got Conv1d"),
    "no module": (3, TypeError, "got int"),
    "an empty list": ([], ValueError, "must have a layer in it, got an empty list"),
    "sizes apart": (
        [GRU, nn.Linear(7, 2)],
        ValueError,
        "layer 1 must take the 6 features .* Linea",
    ),
    "float64": (nn.GRU(4, 6).double(), ValueError, "float32 or bfloat16 .* got torch.float64"),
    "another device": (nn.GRU(4, 6, device="meta"), ValueError, "on a CPU, got weights on meta"),
    "zoneout": (fastrnn.FastGRU(4, 6, zoneout=0.1), ValueError, "a layer with zoneout has no str"),
}


@pytest.mark.parametrize("layer, kind, words", LAYERS.values(), ids=LAYERS)
def test_layers(layer, kind, words):
    with pytest.raises(kind, match=words):
        fastrnn.Stream(layer)


@pytest.mark.parametrize("batch", [0, -1, 2.0, True, None])
def test_batch_sizes(batch):
    with pytest.raises(ValueError, match=f"batch_size must be a whole number .* got {batch}"):
        fastrnn.Stream(GRU, batch)


@pytest.mark.parametrize("weights", [torch.float64, "bfloat16"])
def test_kinds_of_weights(weights):
    with pytest.raises(ValueError, match="weights must be None or one of torch.float32, torch.b"):
        fastrnn.Stream(GRU, weights=weights)


INPUTS = {
    "no tensor": ([1.0], TypeError, "input must be a Tensor, got list"),
    "one axis": (torch.zeros(4), ValueError, r"must have 2 dimensions .* got 1: \[4\]"),
    "four axes": (torch.zeros(1, 1, 3, 4), ValueError, "or 3 .* got 4"),
    "features": (torch.zeros(3, 5), ValueError, "input must have 4 features, got 5"),
    "rows": (torch.zeros(9, 2, 4), ValueError, r"input must have 3 rows \(batch_size\), got 2"),
    "dtype": (torch.zeros(3, 4).double(), ValueError, "torch.float32, .* got torch.float64"),
    "device": (torch.zeros(3, 4, device="meta"), ValueError, "must be on the CPU, got meta"),
}


@pytest.mark.parametrize("given, kind, words", INPUTS.values(), ids=INPUTS)
def test_inputs(given, kind, words):
    stream = fastrnn.Stream(GRU, 3)
    for options in ({}, {"out": torch.zeros(3, 6)}):
        with pytest.raises(kind, match=words):
            stream(given, **options)
    assert not stream.state.any()


X = torch.zeros(3, 4)
OUTS = {
    "no tensor": (3, TypeError, "out must be a Tensor, got int"),
    "shape": (torch.zeros(1, 3, 6), ValueError, "out must have shape [3, 6], got [1, 3, 6]"),
    "width": (torch.zeros(3, 5), ValueError, "out must have shape [3, 6], got [3, 5]"),
    "dtype": (torch.zeros(3, 6).bfloat16(), ValueError, "out must be torch.float32"),
    "strides": (torch.zeros(6, 3).T, ValueError, "out must be contiguous, got strides [1, 3]"),
    "a graph": (nn.Parameter(torch.zeros(3, 6)), ValueError, "must not require gradients"),
}


@pytest.mark.parametrize("out, kind, words", OUTS.values(), ids=OUTS)
def test_outs(out, kind, words):
    with pytest.raises(kind, match=re.escape(words)):
        fastrnn.Stream(GRU, 3)(X, out=out)


def test_out_in_the_memory_of_input():
    memory = torch.zeros(40)
    x = memory[:12].view(3, 4)
    stream = fastrnn.Stream(GRU, 3)
    with pytest.raises(ValueError, match="out must not share memory with input"):
        stream(x, out=memory[11:29].view(3, 6))
    stream(x, out=memory[12:30].view(3, 6))


def test_calls_of_another_form():
    stream = fastrnn.Stream(GRU, 3)
    for args, options in (((), {}), ((X, X), {}), ((X,), {"other": 1})):
        with pytest.raises(TypeError):
            stream(*args, **options)


STATES = {
    "form": (nn.LSTM(4, 6), torch.zeros(1, 2, 6), ValueError, "a tuple of 2 Tensors, got a Tensor"),
    "count": ([GRU], (GRU.bias_hh_l0, 1), ValueError, "a tuple of 1, one for each .* got 2 values"),
    "type": (GRU, 3, TypeError, "state must be Tensors, got int"),
    "shape": (GRU, torch.zeros(2, 6), ValueError, r"shape \[1, 2, 6\], got \[2, 6\]"),
}


@pytest.mark.parametrize("layer, state, kind, words", STATES.values(), ids=STATES)
def test_states(layer, state, kind, words):
    stream = fastrnn.Stream(layer, 2)
    with pytest.raises(kind, match=words):
        stream.state = state


ROWS = {
    "too large": (3, "between 0 and 2, got 3"),
    "below zero": ([1, -1], "between 0 and 2, got -1"),
    "mask": (torch.ones(2, dtype=torch.bool), r"a mask \[3\] .* got \[2\]"),
    "kind": (1.5, "integers or a bool mask, got torch.float32"),
}


@pytest.mark.parametrize("rows, words", ROWS.values(), ids=ROWS)
def test_rows_to_reset(rows, words):
    stream = fastrnn.Stream(GRU, 3)
    stream(X + 1)
    state = stream.state
    with pytest.raises(ValueError, match=words):
        stream.reset(rows)
    assert torch.equal(stream.state, state)

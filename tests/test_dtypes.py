"""Dtypes: what comes back, autocast, conversions. Accuracy is in test_parity.py."""

import pytest
import torch
from helpers import DEVICE, assert_same, backends, each_cell, fast, flat, hx, randn

import fastrnn

LOW = (torch.bfloat16, torch.float16)
dtypes = pytest.mark.parametrize("dtype", LOW, ids=["bfloat16", "float16"])


@backends()
@each_cell()
@dtypes
def test_low_precision_in_low_precision_out(cell, backend, dtype):
    """Results, gradients of weights and of inputs all come in the dtype of what they belong to."""
    layer = fast(cell, 4, 6, num_layers=2, bidirectional=True, dtype=dtype, backend=backend)
    x, state = randn(5, 3, 4, dtype=dtype, grad=True), hx(cell, 4, 3, 6, dtype=dtype, grad=True)
    result = layer(x, state, lengths=[5, 2, 4])
    assert {t.dtype for t in flat(result)} == {dtype}
    sum(t.float().sum() for t in flat(result)).backward()
    for t in (x, *flat(state), *layer.parameters()):
        assert t.grad.dtype == dtype and t.grad.isfinite().all()


@pytest.mark.skipif(DEVICE != "cpu", reason="float32 inside is the CPU's way")
@each_cell()
def test_cpu_computes_float16_in_float32(cell):
    """Only inputs and results are rounded: equal to float32 maths on the rounded numbers."""
    dtype = torch.float16
    layer = fast(cell, 4, 33, num_layers=2, dtype=dtype)
    x = randn(25, 3, 4, dtype=dtype)
    exact = fast(cell, 4, 33, num_layers=2)
    exact.load_state_dict(layer.state_dict())
    a, b = layer(x), exact(x.float())
    for got, expected in zip(flat(a), flat(b)):
        assert torch.equal(got, expected.to(dtype))


@backends()
@each_cell()
@dtypes
@pytest.mark.parametrize("given", [torch.float32, None], ids=["float32_input", "low_input"])
def test_autocast(cell, backend, dtype, given):
    """Under autocast results come in its dtype and parameters keep theirs, gradients too."""
    layer = fast(cell, 4, 6, num_layers=2, backend=backend)
    x, state = randn(5, 3, 4), hx(cell, 2, 3, 6)
    expected = layer(x, state)
    with torch.autocast(DEVICE, dtype):
        result = layer(x.to(given or dtype), state)
    assert {t.dtype for t in flat(result)} == {dtype}
    assert_same([t.float() for t in flat(result)], expected, 0.03)
    result[0].float().sum().backward()
    assert {p.grad.dtype for p in layer.parameters()} == {torch.float32}


@backends(torch.float64)
@each_cell()
def test_autocast_leaves_float64_alone(cell, backend):
    layer = fast(cell, 4, 6, dtype=torch.float64, backend=backend)
    x = randn(5, 3, 4, dtype=torch.float64)
    with torch.autocast(DEVICE, torch.bfloat16):
        result = layer(x)
    assert_same(result, layer(x), 0.0)
    assert result[0].dtype == torch.float64


@backends()
@each_cell()
def test_autocast_inside_a_model(cell, backend):
    """Between linear layers, which hand it low precision."""
    layer = fast(cell, 4, 6, backend=backend)
    model = torch.nn.Linear(4, 4, device=DEVICE)
    x = randn(5, 3, 4)
    with torch.autocast(DEVICE, torch.bfloat16):
        output = layer(model(x))[0]
        disabled = model(x)
        with torch.autocast(DEVICE, enabled=False):
            inner = layer(disabled.float())[0]
    assert output.dtype == torch.bfloat16 and inner.dtype == torch.float32


def test_autocast_cells():
    for cell, size in (
        (fastrnn.FastRNNCell, 1),
        (fastrnn.FastLSTMCell, 2),
        (fastrnn.FastGRUCell, 1),
    ):
        step = cell(4, 6, device=DEVICE)
        with torch.autocast(DEVICE, torch.bfloat16):
            state = step(randn(3, 4), None)
            state = step(randn(3, 4), state)
        assert [t.dtype for t in flat(state)] == [torch.bfloat16] * size


@backends()
@each_cell()
def test_conversions_of_a_layer(cell, backend):
    layer = fast(cell, 4, 6, backend=backend)
    x = randn(5, 3, 4)
    expected = layer(x)
    for dtype, tolerance in ((torch.bfloat16, 0.03), (torch.float16, 0.005), (torch.float32, 0.03)):
        layer.to(dtype)
        assert_same([t.float() for t in flat(layer(x.to(dtype)))], expected, tolerance)


@pytest.mark.parametrize("default", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_default_dtype(default):
    torch.set_default_dtype(default)
    layer = fastrnn.FastLSTM(4, 6)
    assert layer(torch.randn(5, 3, 4))[0].dtype == default

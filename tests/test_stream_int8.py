"""Streams with int8 weights: the sums of fastrnn.quantize's layers, and of any stack."""

import copy

import pytest
import torch
from helpers import assert_same, each_cell, fast
from stream_runs import in_calls
from torch import nn

import fastrnn
from fastrnn import ops
from fastrnn.quantization import panels

pytestmark = pytest.mark.skipif(not ops.NATIVE_BUILT, reason="the native library is not built")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def rounded(x: torch.Tensor) -> torch.Tensor:
    """Each row of x as its int8 numbers have it, in float64."""
    q, scale = panels.quantize_rows(x.reshape(-1, x.shape[-1]))
    return (q.double() * scale.double()[:, None]).view(x.shape)


@pytest.mark.parametrize("batch", [1, 5], ids="B{}".format)
@each_cell()
def test_the_quantised_layers_numbers(cell, batch):
    """Sizes with numbers past the last quad and units past the last register."""
    for features, hidden, layers in ((5, 33, 2), (64, 70, 1), (3, 1, 1)):
        layer = fast(cell, features, hidden, layers)
        x = torch.randn(45, batch, features)
        output, state = fastrnn.quantize(copy.deepcopy(layer))(x)
        stream = fastrnn.Stream(layer, batch, torch.int8)
        assert_same(in_calls(stream, x), output, 1e-5 * (1 + output.abs().max().item()))
        assert_same(stream.state, state, 1e-5 * (1 + output.abs().max().item()))


@each_cell()
def test_calls_of_any_length_and_rows_beside_change_no_bit(cell):
    layer = fast(cell, 19, 40, 2)
    x = torch.randn(60, 53, 19)
    whole = fastrnn.Stream(layer, 53, torch.int8)(x)
    assert torch.equal(in_calls(fastrnn.Stream(layer, 53, torch.int8), x), whole)
    alone = fastrnn.Stream(layer, 1, torch.int8)(x[:, :1].contiguous())
    assert torch.equal(alone, whole[:, :1])


@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_exact_but_for_rounding_its_operands(bias):
    linear = nn.Linear(37, 21, bias)
    x = torch.randn(3, 4, 37)
    exact = rounded(x) @ rounded(linear.weight).T + (linear.bias.double() if bias else 0)
    assert_same(fastrnn.Stream(linear, 4, torch.int8)(x), exact, 2e-6)


def test_a_stack_with_a_projection_is_close():
    modules = [nn.GRU(9, 20, 2), fastrnn.FastLSTM(20, 18, proj_size=7), nn.Linear(7, 11)]
    x = torch.randn(30, 4, 9)
    exact = fastrnn.Stream(modules, 4)(x)
    gap = (fastrnn.Stream(modules, 4, torch.int8)(x) - exact).abs().max()
    assert 0 < gap < 0.03


def test_one_bad_row_is_nan_and_the_others_are_not():
    stream = fastrnn.Stream(nn.GRU(6, 8), 3, torch.int8)
    x = torch.randn(3, 6)
    x[1, 2] = torch.inf
    bad = stream(x).isnan()
    assert bad[1].all() and not bad[[0, 2]].any()
    stream.reset(1)
    assert not stream(torch.randn(3, 6)).isnan().any()


def test_weights_of_zeros_and_a_quantised_layer():
    layer = nn.Linear(5, 4)
    layer.weight.zero_()
    x = torch.randn(1, 5)
    assert torch.equal(fastrnn.Stream(layer, 1, torch.int8)(x)[0], layer.bias)
    with pytest.raises(ValueError, match="make the stream before fastrnn.quantize, with weights="):
        fastrnn.Stream(fastrnn.quantize(nn.GRU(5, 4)))

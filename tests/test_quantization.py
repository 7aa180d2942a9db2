"""torch.ao.quantization leaves fastrnn's layers in float, and they say so; after restore not."""

import warnings

import pytest
import torch
from helpers import assert_same
from torch import nn

import fastrnn

QUANTIZED = {
    "LSTM": torch.ao.nn.quantized.dynamic.LSTM,
    "GRU": torch.ao.nn.quantized.dynamic.GRU,
    "LSTMCell": torch.ao.nn.quantized.dynamic.LSTMCell,
    "GRUCell": torch.ao.nn.quantized.dynamic.GRUCell,
    "RNNCell": torch.ao.nn.quantized.dynamic.RNNCell,
}


def quantize(model, kind):
    """The quantized model, and the warnings about layers left in float."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        model = torch.ao.quantization.quantize_dynamic(model, {kind})
    return model, [str(w.message) for w in seen if "fastrnn" in str(w.message)]


@pytest.mark.parametrize("name", QUANTIZED)
@pytest.mark.parametrize("accelerated", [False, True])
def test_quantize_dynamic(name, accelerated):
    kind = getattr(nn, name)
    if accelerated:
        model = fastrnn.accelerate(nn.ModuleList([kind(3, 5), kind(5, 4)]))
    else:
        fast = getattr(fastrnn, "Fast" + name)
        model = nn.ModuleList([fast(3, 5), fast(5, 4)])
    x = torch.randn(2, 3) if name.endswith("Cell") else torch.randn(4, 2, 3)
    left, said = quantize(model, kind)
    assert [type(layer) for layer in left] == [type(layer) for layer in model]
    assert [f"Fast{name}({sizes})" in s for sizes, s in zip(("3, 5", "5, 4"), said)] == [True] * 2
    assert all(f"for a quantized nn.{name} call fastrnn.restore(model) first" in s for s in said)
    assert_same(left[0](x), model[0](x), 0.0)

    quantized, said = quantize(fastrnn.restore(model), kind)
    assert [type(layer) for layer in quantized] == [QUANTIZED[name]] * 2 and said == []
    quantized[0](x)


def test_qconfig_is_an_attribute_like_others():
    layer = fastrnn.FastLSTM(3, 5)
    assert not hasattr(layer, "qconfig")
    with pytest.warns(UserWarning, match="in float"):
        layer.qconfig = "this"
    assert layer.qconfig == "this" and fastrnn.restore(layer).qconfig == "this"
    del fastrnn.accelerate(layer).qconfig
    assert not hasattr(layer, "qconfig")

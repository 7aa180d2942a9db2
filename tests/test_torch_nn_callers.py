"""What code written for torch.nn's layers does with them besides calling them."""

import pytest
import torch
from helpers import DEVICE, TORCH_CELLS, assert_same, each_cell, fast, randn
from torch import nn

import fastrnn


@each_cell(TORCH_CELLS)
def test_symbolic_trace_takes_layers_as_leaves(cell):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = fast(cell, 3, 5), nn.Linear(5, 2, device=DEVICE)

        def forward(self, x):
            return self.head(self.rnn(x)[0]).relu()

    model, x = Model(), randn(4, 2, 3)
    traced = torch.fx.symbolic_trace(model)
    assert [n.target for n in traced.graph.nodes if n.op == "call_module"] == ["rnn", "head"]
    assert_same(traced(x), model(x), 0.0)
    traced(x).sum().backward()
    assert model.rnn.weight_hh_l0.grad is not None


@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
def test_symbolic_trace_takes_cells_as_leaves(name):
    cell = getattr(fastrnn, "Fast" + name)(3, 5, device=DEVICE)
    model, x = nn.Sequential(nn.Identity(), cell), randn(2, 3)
    assert_same(torch.fx.symbolic_trace(model)(x), model(x), 0.0)


def test_symbolic_trace_of_a_subclass():
    """A leaf inside the subclass' own forward would run that forward twice."""

    class Doubled(nn.GRU):
        def forward(self, input, hx=None):
            return super().forward(2 * input, hx)

    class Leaves(torch.fx.Tracer):
        def is_leaf_module(self, module, name):
            return isinstance(module, nn.GRU) or super().is_leaf_module(module, name)

    model, x = fastrnn.accelerate(nn.Sequential(Doubled(3, 5, device=DEVICE))), randn(4, 2, 3)
    with pytest.raises(TypeError, match="must not trace into Doubled"):
        torch.fx.symbolic_trace(model)
    traced = torch.fx.GraphModule(model, Leaves().trace(model))
    assert_same(traced(x), model(x), 0.0)


def test_flat_weights_can_be_assigned():
    """As weight drop of language models does, which has made plain attributes of some."""
    layer, x = fast("lstm", 3, 5), randn(4, 2, 3)
    dropped = layer.weight_hh_l0.detach() * 0
    del layer.weight_hh_l0
    weights = [w if w is not None else dropped for w in layer._flat_weights]
    layer._flat_weights = weights
    assert layer.weight_hh_l0 is dropped and layer._flat_weights[1] is dropped
    other = fast("lstm", 3, 5)
    with torch.no_grad():
        for name, weight in zip(other._flat_weights_names, weights):
            getattr(other, name).copy_(weight)
    assert_same(layer(x), other(x), 0.0)


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_methods_of_torch_nn(name):
    ours, theirs = getattr(fastrnn, "Fast" + name)(3, 5), getattr(nn, name)(3, 5)
    public = [n for n in dir(theirs) if not n.startswith("__") and n != "_flat_weight_refs"]
    assert [n for n in public if not hasattr(ours, n)] == []
    x = torch.zeros(4, 2, 3)
    for method in [n for n in public if n.startswith("get_expected")]:
        assert getattr(ours, method)(x, None) == getattr(theirs, method)(x, None)

"""Gradients that nobody wants are not computed, and the others do not change."""

import itertools

import pytest
import torch
from helpers import DEVICE, assert_same, backends, each_cell, fast, randn

NAMES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


@backends(kernels=True)
@each_cell()
@pytest.mark.parametrize("t, b", [(1, 1), (1, 3), (7, 3), (40, 33)])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_frozen_weights(cell, backend, t, b, bidirectional):
    layer = fast(cell, 4, 6, bidirectional=bidirectional, backend=backend)
    x = randn(t, b, 4, grad=True)
    expected = dict(zip(("x", *dict(layer.named_parameters())), _gradients(layer, x)))
    for frozen in itertools.product([False, True], repeat=4):
        for name, parameter in layer.named_parameters():
            parameter.requires_grad_(not frozen[NAMES.index(name.removesuffix("_reverse"))])
        for wanted in (True, False):
            x.requires_grad_(wanted)
            _compare(layer, x, expected)


@backends(kernels=True)
def test_a_direction_is_frozen(backend):
    layer = fast("lstm", 4, 6, bidirectional=True, backend=backend)
    x = randn(7, 3, 4, grad=True)
    expected = dict(zip(("x", *dict(layer.named_parameters())), _gradients(layer, x)))
    layer.weight_hh_l0_reverse.requires_grad_(False)
    layer.bias_ih_l0.requires_grad_(False)
    _compare(layer, x, expected)


def _gradients(layer, x):
    return torch.autograd.grad(layer(x)[0].pow(2).sum(), [x, *layer.parameters()])


def _compare(layer, x, expected):
    tensors = {"x": x, **dict(layer.named_parameters())}
    wanted = {name: t for name, t in tensors.items() if t.requires_grad}
    if not wanted:
        assert not layer(x)[0].requires_grad
        return
    grads = torch.autograd.grad(layer(x)[0].pow(2).sum(), list(wanted.values()))
    for name, grad in zip(wanted, grads):
        assert_same(grad, expected[name], 1e-6)


@backends(kernels=True)
@each_cell()
@pytest.mark.parametrize("kind", ["sum", "rows", "steps", "batch_first", "columns", "none"])
def test_a_gradient_is_read_where_it_lies(cell, backend, kind):
    """Expanded, transposed and missing gradients of the output, dense and packed."""
    layer = fast(cell, 4, 6, bidirectional=True, backend=backend)
    x, lengths = randn(5, 3, 4), torch.tensor([2, 5, 3])
    grad = {
        "sum": lambda: torch.ones((), device=DEVICE).expand(5, 3, 12),
        "rows": lambda: randn(5, 1, 12).expand(5, 3, 12),
        "steps": lambda: randn(1, 3, 12).expand(5, 3, 12),
        "batch_first": lambda: randn(3, 5, 12).transpose(0, 1),
        "columns": lambda: randn(5, 3, 1).expand(5, 3, 12),
        "none": lambda: None,
    }[kind]()
    for ragged in ({}, {"lengths": lengths}):
        output, final = layer(x, **ragged)
        h = final[0] if isinstance(final, tuple) else final
        given = [h] if grad is None else [h, output]
        ones = torch.ones_like(h)
        parameters = list(layer.parameters())
        got = torch.autograd.grad(
            given, parameters, [ones] if grad is None else [ones, grad], retain_graph=True
        )
        dense = torch.zeros_like(output) if grad is None else grad.contiguous()
        expected = torch.autograd.grad([h, output], parameters, [ones, dense])
        assert_same(got, expected, 1e-6)

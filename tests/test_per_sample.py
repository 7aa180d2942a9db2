"""call_for_per_sample_grads: the gradients of each row, as from a call for that row alone."""

import pytest
import torch
from helpers import (
    DEVICE,
    assert_same,
    backend_of,
    backends,
    each_cell,
    fast,
    flat,
    hx,
    randn,
    twins,
)
from torch import nn
from torch.nn.utils._per_sample_grad import call_for_per_sample_grads
from torch.nn.utils.rnn import pack_padded_sequence

import fastrnn

F64 = torch.float64


def loss(results):
    """Of every result; a row's part of it depends on that row alone."""
    return sum(r.pow(2).sum() for r in flat(results))


def samples(module, *arguments, **options):
    """The gradients of each row for each parameter; those of the arguments' tensors, too."""
    given = [t for a in arguments if a is not None for t in flat(a) if t.requires_grad]
    loss(call_for_per_sample_grads(module, **options)(*arguments)).backward()
    assert all(p.grad is None for p in module.parameters())
    assert_same([t.grad for t in given], plain_gradients(module, arguments, given), 1e-10)
    return [p.grad_sample for p in module.parameters()]


def plain_gradients(module, arguments, tensors):
    return torch.autograd.grad(loss(module(*arguments)), tensors) if tensors else []


def alone(module, calls):
    """The same from a call for each row."""
    parameters = list(module.parameters())
    return [torch.stack(g) for g in zip(*(plain_gradients(module, c, parameters) for c in calls))]


def forget(module):
    for parameter in module.parameters():
        parameter.grad_sample = None


def row_of(state, row):
    one = [s[..., row : row + 1, :] for s in flat(state)]
    return one[0] if torch.is_tensor(state) else tuple(one)


@backends(F64, interpreted=True)
@each_cell()
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one_way", "both_ways"])
def test_layers(cell, backend, bidirectional):
    options = dict(num_layers=2, bidirectional=bidirectional, dtype=F64, backend=backend)
    layer, x = fast(cell, 3, 5, **options), randn(4, 2, 3, dtype=F64, grad=True)
    ours = samples(layer, x, batch_first=False)
    assert_same(ours, alone(layer, [(x[:, :1],), (x[:, 1:],)]), 1e-10)
    state = hx(cell, 4 if bidirectional else 2, 2, 5, dtype=F64, grad=True)
    forget(layer)
    x = x.detach()
    ours = samples(layer, x, state, batch_first=False)
    assert_same(ours, alone(layer, [(x[:, r : r + 1], row_of(state, r)) for r in (0, 1)]), 1e-10)


@backends(F64)
@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
def test_cells(name, backend):
    cell = getattr(fastrnn, "Fast" + name)(3, 5, dtype=F64, device=DEVICE, backend=backend)
    x = randn(2, 3, dtype=F64, grad=True)
    assert_same(samples(cell, x), alone(cell, [(x[:1],), (x[1:],)]), 1e-10)


@backends(F64)
def test_projection(backend):
    layer = fast("lstm", 3, 5, proj_size=2, dtype=F64, backend=backend, batch_first=True)
    x = randn(2, 4, 3, dtype=F64, grad=True)
    assert_same(samples(layer, x), alone(layer, [(x[:1],), (x[1:],)]), 1e-10)


@backends(F64)
@each_cell()
def test_packed(cell, backend):
    """In the order of the packed rows, as torch.nn's."""
    layer, x = fast(cell, 3, 5, dtype=F64, backend=backend), randn(5, 3, 3, dtype=F64, grad=True)
    lengths = [2, 5, 3]
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    results = call_for_per_sample_grads(layer, batch_size=3)(packed)
    assert_same(results, layer(packed), 1e-12)
    loss(results).backward(retain_graph=True)
    grad_x = x.grad.clone()
    assert_same([grad_x], torch.autograd.grad(loss(layer(packed)), [x]), 1e-10)
    calls = [(x[: lengths[r], r : r + 1],) for r in (1, 2, 0)]
    assert_same([p.grad_sample for p in layer.parameters()], alone(layer, calls), 1e-10)


@each_cell(["rnn_tanh", "rnn_relu", "gru"])
@pytest.mark.parametrize("loss_reduction", ["sum", "mean"])
def test_as_torch_nn(cell, loss_reduction):
    """nn.LSTM fails in torch 2.13 on a CPU."""
    ours, theirs = twins(cell, 3, 5, num_layers=2, batch_first=True, dtype=F64)
    x, kept = randn(2, 4, 3, dtype=F64), []
    for layer in (ours, theirs):
        layer.weight_ih_l0.requires_grad_(False)
        output, _ = call_for_per_sample_grads(layer, loss_reduction=loss_reduction)(x)
        output.pow(2).sum().backward()
        kept.append([p.grad_sample for p in layer.parameters() if p.requires_grad])
        assert not hasattr(layer.weight_ih_l0, "grad_sample")
    assert_same(*kept, 1e-10)


def test_among_other_modules():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = fast("lstm", 3, 5, batch_first=True, dtype=F64)
            self.head = nn.Linear(5, 2, dtype=F64, device=DEVICE)

        def forward(self, x, resets):
            return self.head(self.rnn(x, resets=resets)[0])

    model, x = Model(), randn(2, 4, 3, dtype=F64)
    resets = torch.rand(2, 4, device=DEVICE) < 0.4
    calls = [(x[:1], resets[:1]), (x[1:], resets[1:])]
    assert_same(samples(model, x, resets), alone(model, calls), 1e-10)
    forget(model)
    with torch.no_grad():
        assert_same(call_for_per_sample_grads(model)(x, resets), model(x, resets), 0.0)


@backends(F64)
@each_cell()
def test_lengths(cell, backend):
    """In the caller's order, where no packing makes another of it."""
    layer, x = fast(cell, 3, 5, dtype=F64, backend=backend), randn(5, 3, 3, dtype=F64, grad=True)
    call = call_for_per_sample_grads(layer, batch_first=False)
    if not backend_of(backend, F64).reads_lengths:
        with pytest.raises(RuntimeError, match="lengths must be None for per-sample"):
            call(x, lengths=[2, 5, 3])
        return
    results = call(x, lengths=[2, 5, 3])
    assert_same(results, layer(x, lengths=[2, 5, 3]), 1e-12)
    loss(results).backward(retain_graph=True)
    calls = [(x[:n, row : row + 1],) for row, n in enumerate([2, 5, 3])]
    assert_same([p.grad_sample for p in layer.parameters()], alone(layer, calls), 1e-10)


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_what_is_refused(backend):
    layer, x = fast("gru", 3, 5, backend=backend), randn(4, 2, 3)
    with pytest.raises(RuntimeError, match="must have batch_size = 4 rows .* got 2"):
        call_for_per_sample_grads(layer)(x)

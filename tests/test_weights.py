"""What models do to weights: reparametrize, tie, prune, copy, save, share, move. All just works."""

import copy
import io
import pickle

import pytest
import torch
from helpers import (
    DEVICE,
    TORCH_CELLS,
    assert_same,
    backends,
    each_cell,
    fast,
    gradients,
    plain,
    randn,
    twins,
)
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import fastrnn


def run(layer, x):
    """Results and gradients of everything trainable, by name."""
    result = layer(x)
    names = [n for n, _ in layer.named_parameters()]
    grads = gradients(result, list(layer.parameters()))
    return result, [g for _, g in sorted(zip(names, grads), key=lambda pair: pair[0])]


def same_after(change, cell, backend, **options):
    """change(layer) on fastrnn's and on torch.nn's layer: same results, same gradients."""
    ours, theirs = twins(cell, 6, 6, backend=backend, **options)
    for layer in (ours, theirs):
        torch.manual_seed(1)
        change(layer.eval())  # in training, spectral_norm moves on at each access of the weight
    x = randn(5, 3, 6)
    a, b = run(ours, x), run(theirs, x)
    assert_same(a[0], b[0], 1e-5)
    assert_same(a[1], b[1], 1e-4)
    return ours


class Symmetric(nn.Module):
    def forward(self, w):
        return w.triu() + w.triu(1).transpose(-1, -2)


def symmetric(layer):
    if layer.weight_hh_l0.shape[0] == layer.weight_hh_l0.shape[1]:
        parametrize.register_parametrization(layer, "weight_hh_l0", Symmetric())


def tied(layer):
    layer.weight_hh_l1 = layer.weight_hh_l0
    layer.bias_ih_l1 = layer.bias_hh_l1


CHANGES = {
    "weight_norm": lambda m: parametrizations.weight_norm(m, "weight_hh_l0"),
    "spectral_norm": lambda m: parametrizations.spectral_norm(m, "weight_ih_l1"),
    "orthogonal": lambda m: parametrizations.orthogonal(m, "weight_hh_l1"),
    "any_parametrization": symmetric,
    "pruning": lambda m: prune.l1_unstructured(m, "weight_hh_l0", amount=0.5),
    "random_pruning": lambda m: prune.random_unstructured(m, "bias_ih_l1", amount=2),
    "tying": tied,
}


@backends()
@each_cell(TORCH_CELLS)
@pytest.mark.parametrize("change", CHANGES)
def test_changes(cell, backend, change):
    same_after(CHANGES[change], cell, backend, num_layers=2)


@backends()
@each_cell()
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_old_style_weight_norm_trains(cell, backend):
    layer = nn.utils.weight_norm(fast(cell, 6, 6, backend=backend), "weight_hh_l0")
    x = randn(5, 3, 6)
    layer(x)[0].sum().backward()
    assert layer.weight_hh_l0_g.grad.abs().sum() > 0
    with torch.no_grad():
        before = layer(x)[0]
        layer.weight_hh_l0_g.mul_(2)
        assert not torch.equal(layer(x)[0], before)


@backends()
@each_cell()
def test_a_parametrized_layer_is_read_at_each_call(cell, backend):
    layer = parametrizations.weight_norm(fast(cell, 6, 6, backend=backend), "weight_hh_l0")
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    x = randn(5, 3, 6)
    first = layer(x)[0]
    first.pow(2).sum().backward()
    optimizer.step()
    assert not torch.equal(layer(x)[0], first)
    other = copy.deepcopy(layer)
    expected = layer(x)
    assert_same(other(x), expected, 0.0)
    parametrize.remove_parametrizations(layer, "weight_hh_l0")
    assert_same(layer(x), expected, 1e-6)


@backends()
@each_cell()
def test_functional_call(cell, backend):
    layer, other = (fast(cell, 6, 6, num_layers=2, backend=backend) for _ in range(2))
    x = randn(5, 3, 6)
    weights = dict(other.named_parameters())
    a, b = torch.func.functional_call(layer, weights, (x,)), other(x)
    assert_same(a, b, 0.0)
    inputs = list(other.parameters())
    assert_same(gradients(a, inputs), gradients(b, inputs), 0.0)
    partial = torch.func.functional_call(layer, {"weight_hh_l1": other.weight_hh_l1}, (x,))
    assert not torch.equal(partial[0], layer(x)[0])


@backends()
@each_cell()
def test_copies(cell, backend):
    layer = fast(cell, 6, 6, num_layers=2, bidirectional=True, backend=backend)
    x = randn(5, 3, 6)
    expected = layer(x)
    deep, pickled = copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))
    for other in (deep, pickled, pickle.loads(pickle.dumps(deep)), copy.deepcopy(pickled)):
        assert type(other) is type(layer) and other.backend == backend
        assert_same(other(x), expected, 0.0)
        with torch.no_grad():
            other.weight_hh_l0.zero_()
        assert_same(layer(x), expected, 0.0)


@each_cell(TORCH_CELLS)
def test_an_accelerated_layer_is_pickled(cell):
    """torch.nn's layers have weak references, which pickle refuses."""
    theirs, x = plain(cell, 6, 6), randn(5, 3, 6)
    expected = theirs(x)
    pickled = pickle.loads(pickle.dumps(fastrnn.accelerate(theirs)))
    assert_same(pickled(x), expected, 1e-5)
    assert_same(fastrnn.restore(pickled)(x), expected, 1e-5)
    assert_same(pickle.loads(pickle.dumps(pickled))(x), expected, 1e-5)


@each_cell(TORCH_CELLS)
def test_save_and_load(cell):
    """Weights only, both ways between fastrnn and torch.nn; and the whole module."""
    ours, theirs = fast(cell, 6, 6, num_layers=2), plain(cell, 6, 6, num_layers=2)
    x = randn(5, 3, 6)
    buffer = io.BytesIO()
    torch.save(ours.state_dict(), buffer)
    buffer.seek(0)
    theirs.load_state_dict(torch.load(buffer, weights_only=True))
    assert_same(ours(x), theirs(x), 1e-5)
    buffer = io.BytesIO()
    torch.save(ours, buffer)
    buffer.seek(0)
    assert_same(torch.load(buffer, weights_only=False)(x), ours(x), 0.0)


def test_state_dict_mismatch_is_torchs_error():
    with pytest.raises(RuntimeError, match="size mismatch for weight_hh_l0"):
        fastrnn.FastGRU(3, 4).load_state_dict(nn.GRU(3, 5).state_dict())
    with pytest.raises(RuntimeError, match="Missing key"):
        fastrnn.FastGRU(3, 4, num_layers=2).load_state_dict(nn.GRU(3, 4).state_dict())


@backends()
@each_cell()
def test_meta_device_and_to_empty(cell, backend):
    layer = fast(cell, 6, 6, num_layers=2, device="meta", backend="auto")
    result = layer(torch.zeros(5, 3, 6, device="meta"))
    assert result[0].shape == (5, 3, 6) and result[0].device.type == "meta"
    layer.to_empty(device=DEVICE).reset_parameters()
    layer.backend = backend
    other = fast(cell, 6, 6, num_layers=2, backend=backend)
    layer.load_state_dict(other.state_dict())
    x = randn(5, 3, 6)
    assert_same(layer(x), other(x), 0.0)
    assigned = fast(cell, 6, 6, num_layers=2, device="meta", backend=backend)
    assigned.load_state_dict(other.state_dict(), assign=True)
    assert_same(assigned(x), other(x), 0.0)


@backends()
@each_cell()
def test_flatten_parameters_is_a_harmless_no_op(cell, backend):
    layer = fast(cell, 6, 6, backend=backend)
    before = [p.data_ptr() for p in layer.parameters()]
    expected = layer(x := randn(5, 3, 6))
    assert layer.flatten_parameters() is None
    assert [p.data_ptr() for p in layer.parameters()] == before
    assert_same(layer(x), expected, 0.0)


@backends()
def test_flat_buffer_of_parameters(backend):
    """Weights that are views into one buffer, as FSDP1 and optimizers of flat parameters make."""
    layer = fast("lstm", 6, 6, backend=backend)
    x = randn(5, 3, 6)
    expected = layer(x)
    buffer = torch.cat([p.detach().flatten() for p in layer.parameters()])
    offset = 0
    for p in layer.parameters():
        p.data = buffer[offset : offset + p.numel()].view_as(p)
        offset += p.numel()
    assert_same(layer(x), expected, 1e-6)


def test_share_memory():
    layer = fastrnn.FastGRU(6, 6)
    layer.share_memory()
    assert all(p.is_shared() for p in layer.parameters())
    assert layer(torch.randn(5, 3, 6))[0].shape == (5, 3, 6)


def test_data_parallel_replica():
    """What nn.DataParallel makes of a module on each device: weights as plain attributes."""
    layer = fastrnn.FastLSTM(6, 6)
    replica = layer._replicate_for_data_parallel()
    for name, p in layer.named_parameters():
        setattr(replica, name, p.detach().clone())
    x = torch.randn(5, 3, 6)
    assert_same(replica(x), layer(x), 1e-6)


def test_all_weights_and_names():
    ours, theirs = fastrnn.FastGRU(3, 4, 2, bidirectional=True), nn.GRU(3, 4, 2, bidirectional=True)
    assert [[w.shape for w in row] for row in ours.all_weights] == [
        [w.shape for w in row] for row in theirs.all_weights
    ]
    assert ours._flat_weights_names == theirs._flat_weights_names
    assert all(a is b for a, b in zip(ours._flat_weights, ours.parameters()))

"""What used to go unnoticed: tensors elsewhere, rows that are not there, changed settings."""

import pytest
import torch
from helpers import DEVICE, assert_same, backends, fast, flat, randn, run_python
from torch import nn
from torch.nn.utils.rnn import PackedSequence

import fastrnn
from fastrnn import functional, ops
from fastrnn.backends import choose
from fastrnn.gpu import layer as gpu_layer


@pytest.mark.skipif(DEVICE != "cpu", reason="the other device here is meta")
@pytest.mark.parametrize(
    "name", [n for n, _ in nn.LSTM(3, 5, num_layers=2, bidirectional=True).named_parameters()]
)
@pytest.mark.parametrize("grad", [True, False])
def test_a_weight_elsewhere(name, grad):
    """The dispatcher would give the call to the fake kernel, whose results are uninitialised."""
    layer = fastrnn.FastLSTM(3, 5, num_layers=2, bidirectional=True)
    setattr(layer, name, nn.Parameter(getattr(layer, name).to("meta")))
    with torch.set_grad_enabled(grad), pytest.raises(RuntimeError, match="device"):
        layer(torch.ones(4, 2, 3))


@pytest.mark.skipif(DEVICE != "cpu", reason="the other device here is meta")
@pytest.mark.parametrize("name", ["weight_ih", "weight_hh", "bias_ih", "bias_hh"])
def test_a_weight_of_a_cell_elsewhere(name):
    cell = fastrnn.FastGRUCell(3, 5)
    setattr(cell, name, nn.Parameter(getattr(cell, name).to("meta")))
    with pytest.raises(RuntimeError, match="device"):
        cell(torch.ones(2, 3))


@backends()
@pytest.mark.parametrize("name", ["weight_hh", "bias_hh", "state"])
def test_scan_with_a_tensor_elsewhere(backend, name):
    given = {"weight_hh": randn(4, 4), "bias_hh": randn(4), "state": randn(1, 4)}
    given[name] = given[name].to("meta")
    with pytest.raises(ValueError, match=f"{name} must have gx's device"):
        functional.scan("rnn_tanh", randn(2, 1, 4), **given, backend=backend)


@backends(interpreted=True)
def test_scan_with_more_rows_than_states(backend):
    with pytest.raises(ValueError, match="at most state's 1 rows"):
        functional.scan(
            "rnn_tanh", randn(5, 4), randn(4, 4), None, randn(1, 4),
            batch_sizes=torch.tensor([3, 2]), backend=backend,
        )  # fmt: skip


def test_scan_with_less_than_no_rows():
    with pytest.raises(ValueError, match="falling numbers that sum to N = 4"):
        functional.scan(
            "rnn_tanh", randn(4, 4), randn(4, 4), None, randn(5, 4),
            batch_sizes=torch.tensor([5, -1]),
        )  # fmt: skip


@backends(interpreted=True)
def test_scan_with_strided_batch_sizes(backend):
    gx, weight, state, sizes = randn(5, 4), randn(4, 4), randn(3, 4), torch.tensor([3, 2])
    strided = torch.stack([sizes, sizes], 1)[:, 0]
    a, b = (
        functional.scan("rnn_tanh", gx, weight, None, state, batch_sizes=s, backend=backend)
        for s in (sizes, strided)
    )
    assert_same(a, b, 0.0)


@backends(interpreted=True)
def test_a_packed_sequence_with_strided_batch_sizes(backend):
    layer, x, sizes = fast("gru", 3, 4, backend=backend), randn(5, 3), torch.tensor([3, 2])
    strided = torch.stack([sizes, sizes], 1)[:, 0]
    assert_same(*(layer(PackedSequence(x, s)) for s in (sizes, strided)), 0.0)


def test_kernels_of_a_gpu_read_batch_sizes_without_strides():
    strided = torch.tensor([[3, 9], [2, 9]])[:, 0]
    weights, state = [randn(4, 3), randn(4, 4)], [randn(1, 3, 4)]
    read = gpu_layer.read("rnn_tanh", randn(5, 3), weights, state, strided, None, 1, True)
    assert read.batch_sizes.is_contiguous() and read.batch_sizes.tolist() == [3, 2]
    assert read.offsets.tolist() == [0, 3] and read.lengths.tolist() == [2, 2, 1]


def test_the_environment_is_read_at_each_call(monkeypatch):
    assert not choose("gru", DEVICE, torch.float32)[0].in_torch
    monkeypatch.setenv("FASTRNN_BACKEND", "reference")
    assert choose("gru", DEVICE, torch.float32)[0].in_torch
    monkeypatch.delenv("FASTRNN_BACKEND")
    assert not choose("gru", DEVICE, torch.float32)[0].in_torch


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
def test_cells_on_meta(name, dtype):
    options = dict(device="meta", dtype=dtype)
    ours, theirs = (
        getattr(fastrnn, f"Fast{name}")(3, 5, **options),
        getattr(nn, name)(3, 5, **options),
    )
    x = torch.empty(7, 3, requires_grad=True, **options)
    with torch.no_grad():
        assert [t.shape for t in flat(ours(x))] == [t.shape for t in flat(theirs(x))]
    results = flat(ours(x))
    assert [t.shape for t in results] == [t.shape for t in flat(theirs(x))]
    assert all(t.dtype == dtype for t in results)
    results[0].sum().backward()
    assert x.grad.shape == x.shape and ours.weight_hh.grad.shape == theirs.weight_hh.shape


PAIR = """
import torch, warnings
warnings.simplefilter("ignore")
from fastrnn import backends, cells, triton
from fastrnn.triton import cells as pairs
spec = cells.get("gru")
cells.add(cells.Cell("mine", 3, 1, spec.step, 4))
before = backends.choose("mine", "cuda", torch.float32)[0]
triton.register("mine", pairs.TRITON_CELLS["gru"])
print(before.name, backends.choose("mine", "cuda", torch.float32)[0].name)
"""


def test_a_triton_pair_registered_after_a_fallback(tmp_path):
    run = run_python("-c", PAIR, cwd=tmp_path)
    assert run.stdout.split() == ["reference", "triton"], run.stderr


def test_counts_that_differ_from_the_library():
    with pytest.raises(ImportError, match=r"'gru' must have .* = \[3, 1, 5, 1\]"):
        ops.check_counts({"gru": [3, 1, 5, 1]})
    ops.check_counts(ops.NATIVE_CELLS)


def test_lengths_as_scalar_tensors():
    layer, x = fast("gru", 3, 5), randn(4, 2, 3)
    lengths = [torch.tensor(3), torch.tensor(2)]
    assert_same(layer(x, lengths=lengths), layer(x, lengths=[3, 2]), 0.0)


@pytest.mark.parametrize("kind", ["FastLSTM", "FastLSTMCell"])
def test_autocast_of_meta_tensors(kind):
    module = getattr(fastrnn, kind)(3, 5, device="meta")
    x = (
        torch.empty(4, 2, 3, device="meta")
        if kind == "FastLSTM"
        else torch.empty(2, 3, device="meta")
    )
    with torch.autocast("cpu", torch.bfloat16):
        assert module(x)[0].shape[-1] == 5
        assert "meta" in fastrnn.explain(module, x)


@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
def test_cells_refuse_integers_under_autocast_and_tracing(name):
    cell = getattr(fastrnn, "Fast" + name)(3, 5)
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(RuntimeError, match="dtype"):
        cell(torch.ones(2, 3, dtype=torch.int64))
    with pytest.raises(RuntimeError, match="TorchScript"):
        torch.jit.trace(cell, torch.ones(2, 3))

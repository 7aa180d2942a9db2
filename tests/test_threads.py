"""Many Python threads, fork after use, and no global state that calls could trample on."""

import multiprocessing
import threading

import pytest
import torch
from helpers import assert_same, backends, each_cell, fast, flat, gradients, randn, slow_but

import fastrnn


@backends()
@each_cell()
def test_concurrent_forward_and_backward(cell, backend):
    """Eight threads on one layer, shapes mixed: each gets what it gets alone."""
    layer = fast(cell, 6, 17, num_layers=2, bidirectional=True, backend=backend)
    inputs = [randn(2 + k % 5, 1 + k % 3, 6, grad=True) for k in range(8)]

    def work(x):
        result = layer(x)
        return flat(result) + gradients(result, [x, *layer.parameters()])

    expected = [work(x) for x in inputs]
    results: list[list] = [[] for _ in inputs]

    def loop(k):
        for _ in range(5):
            results[k].append(work(inputs[k]))

    threads = [threading.Thread(target=loop, args=(k,)) for k in range(len(inputs))]
    [t.start() for t in threads]
    [t.join() for t in threads]
    for runs, alone in zip(results, expected):
        assert len(runs) == 5
        for run in runs:
            assert_same(run, alone, 1e-5)


def _child(layer, x, queue):
    torch.set_num_threads(1)
    output = layer(x)[0]
    output.sum().backward()
    queue.put((output.detach().numpy(), layer.weight_hh_l0.grad.numpy()))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python's, on fork beside threads
def test_fork_after_use():
    """As DataLoader's workers do: the parent has run the kernels on its threads before."""
    layer = fastrnn.FastLSTM(64, 128)
    x = torch.randn(30, 9, 64)  # work enough for two threads
    torch.set_num_threads(2)
    expected = layer(x)[0]
    expected.sum().backward()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    layer.weight_hh_l0.grad, grad = None, layer.weight_hh_l0.grad
    child = context.Process(target=_child, args=(layer, x, queue))
    child.start()
    output, child_grad = queue.get(timeout=60)
    child.join(60)
    assert child.exitcode == 0
    assert_same(torch.from_numpy(output), expected, 1e-6)
    assert_same(torch.from_numpy(child_grad), grad, 1e-4)
    assert_same(layer(x)[0], expected, 0.0)


class Rows(torch.utils.data.Dataset):
    """Runs a layer in the worker, as a model that makes features does."""

    def __init__(self):
        self.layer = fastrnn.FastGRU(3, 5)
        self.x = torch.randn(6, 4, 3)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, k):
        with torch.no_grad():
            return self.layer(self.x[k])[0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_inside_data_loader_workers():
    rows = Rows()
    loaded = torch.cat(list(torch.utils.data.DataLoader(rows, batch_size=2, num_workers=2)))
    assert_same(loaded, torch.stack([rows[k] for k in range(len(rows))]), 1e-6)


def test_threads_have_their_own_grad_mode_and_transforms():
    layer = fastrnn.FastGRU(3, 4)
    x = torch.randn(5, 2, 3)
    seen = {}

    def other():
        seen["grad"] = layer(x)[0].requires_grad

    with torch.no_grad():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert not layer(x)[0].requires_grad
    assert seen["grad"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "sizes",
    slow_but(
        [(300, 32, 7), (5, 200, 40)], [(300, 32, 7), (1500, 8, 3), (5, 200, 40), (3, 17, 150)]
    ),
    ids="B{0[0]}-H{0[1]}-T{0[2]}".format,
)
@each_cell()
def test_bits_do_not_hang_on_the_number_of_threads(cell, sizes, dtype):
    """Rows or units shared, one chunk of the batch or several, uneven shares: the same bits."""
    B, H, T = sizes
    layer = fast(cell, 8, H, bidirectional=True, dtype=dtype, recompute_gates=B == 5)
    x, lengths = randn(T, B, 8, dtype=dtype, grad=True), [1 + k % T for k in range(B)]

    def work(threads):
        torch.set_num_threads(threads)
        dense, ragged = layer(x), layer(x, lengths=lengths)
        tensors = [x, *layer.parameters()]
        return [*flat(dense), *gradients(dense, tensors), *gradients(ragged, tensors)]

    before = torch.get_num_threads()
    try:
        alone = work(1)
        for threads in (2, 3, 4):
            assert all(torch.equal(a, b) for a, b in zip(work(threads), alone)), threads
    finally:
        torch.set_num_threads(before)

"""The memory that large calls on the CPU leave to the next ones (csrc/op/pool.h)."""

import copy
import threading

import pytest
import torch
from helpers import DEVICE, assert_same, fast, gradients, randn, run_python

from fastrnn import ops

pytestmark = pytest.mark.skipif(
    DEVICE != "cpu" or not ops.BUILD_INFO, reason="the native kernels' memory on a CPU"
)
T, B, H = 64, 16, 256  # 5 MB are kept for backward, more than the pool's least


def problem():
    return fast("lstm", H, H, backend="native"), randn(T, B, H, grad=True)


def saved_at(layer, x) -> int:
    """Where the values kept for backward lie; they are freed as this returns."""
    places = {}

    def pack(t):
        places[t.untyped_storage().nbytes()] = t.data_ptr()
        return t.detach()  # t itself would be a cycle, which lives on

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        layer(x)
    return places[max(places)]


def test_a_call_takes_what_the_one_before_left():
    layer, x = problem()
    first = saved_at(layer, x)
    holes = [torch.empty(1 << 20) for _ in range(4)]  # malloc would use the place for these
    assert saved_at(layer, x) == first
    assert saved_at(layer, x[: T - 5]) == first, "a little less fits, too"
    del holes


def test_results_that_live_keep_their_memory():
    """Gradients of one call, then calls that overwrite all memory they are given."""
    layer, x = problem()
    grads = gradients(layer(x), [x, *layer.parameters()])
    copies = [g.clone() for g in grads]
    for _ in range(3):
        gradients(layer(x * 2), [x, *layer.parameters()])
    assert_same(grads, copies, 0.0)


def test_gradients_are_ordinary_tensors():
    layer, x = problem()
    (grad,) = gradients(layer(x), [layer.weight_hh_l0])
    before = grad.clone()
    assert torch.equal(copy.deepcopy(grad), before)
    grad.share_memory_()
    assert grad.is_shared() and torch.equal(grad, before)


def test_large_gradients_have_a_size_for_good():
    layer = fast("lstm", 2, 512, backend="native")  # 4 MB are its recurrent weight's
    small, large = gradients(layer(randn(2, 1, 2)), [layer.weight_ih_l0, layer.weight_hh_l0])
    small.resize_(4096, 2)
    with pytest.raises(RuntimeError, match="not resizable"):
        large.resize_(4096, 512)


def test_threads_share_it():
    """More threads than cores: each gets the values that it gets alone."""
    layer, _ = problem()
    inputs = [randn(T + 3 * k, B, H, grad=True) for k in range(4)]
    wanted = [gradients(layer(x), [x, *layer.parameters()]) for x in inputs]
    wrong = []

    def work(k: int) -> None:
        for _ in range(5):
            got = gradients(layer(inputs[k]), [inputs[k], *layer.parameters()])
            if not all(torch.equal(a, b) for a, b in zip(got, wanted[k])):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


SHORT = """
import resource, torch, fastrnn
layer = fastrnn.FastLSTM(8, 256, backend="native")
x = torch.ones(2000, 64, 8)
layer(x[:9])[0].sum().backward()
now = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize"))
limit = (now + 500_000) * 1024
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    layer(x)  # 131 MB of output, 655 MB to keep
except RuntimeError as error:
    print(error)
print(layer(x[:9])[0].shape)
"""


def test_no_memory_is_an_error_that_says_how_much(tmp_path):
    run = run_python("-c", SHORT, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    wanted = 4 * 5 * 2000 * 64 * 256  # four gates and the cell state
    asked = int(lines[0].split()[-2])
    assert "out of memory" in lines[0] and wanted < asked < 1.1 * wanted
    assert lines[1] == "torch.Size([9, 64, 256])", "the next call works"


PEAK = """
import torch, fastrnn
layer = fastrnn.FastLSTM(64, 128, backend="native")
for steps in ({steps}):
    layer(torch.ones(steps, 64, 64))[0].sum().backward()
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.slow
def test_nothing_lies_idle_while_more_is_asked_for(tmp_path):
    """Saved values of 40 MB, then of 160 MB: the peak is that of the larger alone."""
    peaks = []
    for steps in ("1000,", "250, 1000"):
        run = run_python("-c", PEAK.format(steps=steps), cwd=tmp_path)
        assert run.returncode == 0, run.stderr
        peaks.append(int(run.stdout) / 1024)
    assert peaks[1] < peaks[0] + 20

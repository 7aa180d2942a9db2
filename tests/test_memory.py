"""What training keeps between forward and backward, and that nothing leaks."""

import gc
import os

import pytest
import torch
from helpers import (
    CELLS,
    DEVICE,
    assert_same,
    backends,
    each_cell,
    fast,
    gradients,
    hx,
    randn,
)

from fastrnn import cells


def kept(layer, x) -> int:
    """Bytes that autograd saves, apart from the input, the output and the parameters."""
    sizes: dict[int, int] = {}

    def pack(t):
        sizes[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        output, _ = layer(x)
    for t in (x, output, *layer.parameters()):
        sizes.pop(t.untyped_storage().data_ptr(), None)
    return sum(sizes.values())


@backends(kernels=True)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_recompute_keeps_less(cell, backend):
    plain = fast(cell, 32, 32, backend=backend)
    saving = fast(cell, 32, 32, backend=backend, recompute_gates=True)
    x, spec = randn(50, 8, 32), cells.get(cell)
    share = (spec.kept + spec.states - 1) / (spec.saved + spec.states - 1)  # lstm 2/5, gru 1/4
    assert share <= 0.5
    assert kept(saving, x) <= (share + 0.05) * kept(plain, x)


@backends(kernels=True)
@each_cell()
@pytest.mark.parametrize("ragged", [False, True], ids=["dense", "ragged"])
def test_recompute_changes_nothing(cell, backend, ragged):
    options = dict(num_layers=2, bidirectional=True, backend=backend)
    saving = fast(cell, 5, 9, **options, recompute_gates=True)
    plain = fast(cell, 5, 9, **options)
    plain.load_state_dict(saving.state_dict())
    x, state = randn(6, 4, 5, grad=True), hx(cell, 4, 4, 9, grad=True)
    call = {"resets": (torch.rand(6, 4) < 0.3).to(DEVICE)}
    if ragged:
        call["lengths"] = [3, 6, 0, 1]
    a, b = saving(x, state, **call), plain(x, state, **call)
    assert_same(a, b, 0.0)
    grads = [gradients(r, [x, *layer.parameters()]) for r, layer in ((a, saving), (b, plain))]
    assert_same(*grads, 0.0)


@backends(torch.float64)
@each_cell()
def test_recompute_passes_gradcheck(cell, backend):
    layer = fast(cell, 2, 3, dtype=torch.float64, backend=backend, recompute_gates=True)
    x = randn(3, 2, 2, dtype=torch.float64, grad=True)
    assert torch.autograd.gradcheck(lambda x: layer(x)[0], x)
    assert torch.autograd.gradgradcheck(lambda x: layer(x)[0], x)
    parameters = list(layer.parameters())
    assert torch.autograd.gradcheck(lambda *p: layer(x.detach())[0], parameters)


@backends(kernels=True)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_recompute_compiles(cell, backend):
    torch._dynamo.reset()
    layer = fast(cell, 4, 6, backend=backend, recompute_gates=True)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
    for t, b in ((5, 3), (7, 2)):
        x = randn(t, b, 4, grad=True)
        a, b = compiled(x), layer(x)
        assert_same(gradients(a, [x]), gradients(b, [x]), 1e-6)
    torch._dynamo.reset()


def resident() -> int:
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads Linux's /proc")
@backends(kernels=True)
def test_ten_thousand_calls_keep_memory_flat(backend):
    """A leak of one result a call would be 40 MB here; one of a handle, some MB."""
    if backend == "triton":
        pytest.skip("the interpreter needs minutes for this many calls")
    layers = [fast(cell, 8, 32, backend=backend) for cell in CELLS]
    shapes = [(1, 1), (3, 2), (8, 4), (2, 16)]
    inputs = [randn(t, b, 8, grad=True) for t, b in shapes]

    def calls(count: int) -> None:
        for k in range(count):
            layer, x = layers[k % len(layers)], inputs[k % len(inputs)]
            if k % 4:
                with torch.no_grad():
                    layer(x, lengths=[1] * x.shape[1] if k % 8 == 1 else None)
            else:
                layer(x)[0].sum().backward()

    calls(1000)
    gc.collect()
    before = resident()
    calls(10_000)
    gc.collect()
    assert resident() - before < 8e6


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads Linux's /proc")
@backends(kernels=True)
def test_small_calls_leave_nothing(backend):
    """What a call leaves may be as small as a string: 50 bytes would be 2.5 MB here."""
    if backend == "triton":
        pytest.skip("the interpreter needs minutes for this many calls")
    layer, x = fast("rnn_tanh", 4, 4, backend=backend), randn(1, 1, 4)

    def calls(count: int) -> None:
        for _ in range(count):
            layer(x)

    with torch.no_grad():
        calls(5000)
        before = resident()
        calls(50_000)
    assert resident() - before < 1e6

"""A backend of the user's own: an object that one call makes known, and nothing else."""

import pytest
import torch
from helpers import DEVICE, assert_same, each_cell, fast, gradients, hx, randn, run_python

import fastrnn
from fastrnn import backends, graph, ops

DEFINED = torch.library.Library("fastrnn", "FRAGMENT")
CALLS: list[str] = []


def _forward(*args):
    CALLS.append("forward")
    return ops.FORWARD(*args)


def _backward(*args):
    CALLS.append("backward")
    return ops.BACKWARD(*args)


class Echo(backends.Backend):
    """The native kernels behind two ops of its own."""

    name, title, devices, prefix = "echo", "the echoing kernels", (DEVICE,), "echo_"

    def __init__(self):
        for name, function in (("forward", _forward), ("backward", _backward)):
            schema = str(getattr(torch.ops.fastrnn, name).default._schema)
            DEFINED.define(schema.replace(f"fastrnn::{name}", f"echo_{name}"))
            DEFINED.impl(f"echo_{name}", function, "CompositeExplicitAutograd")
        self.forward, self.backward = ops.register_rules(
            "fastrnn::echo_forward", "fastrnn::echo_backward"
        )
        graph.define(self.prefix, ("CPU", "CUDA"), self.forward, self.backward)

    def automatic(self, device):
        return False

    def refusal(self, cell, device, dtype, proj):
        if proj:
            return "the echo knows no projection"
        return super().refusal(cell, device, dtype, proj)

    def explain(self, size):
        return [f"  echoes {size.rows} rows of {size.hidden} units"]


pytestmark = pytest.mark.skipif(not ops.NATIVE_BUILT, reason="the schemas are the native library's")


@pytest.fixture(scope="module", autouse=True)
def echo():
    if not ops.NATIVE_BUILT:
        yield
        return
    backends.add(Echo())
    yield
    backends._BACKENDS.pop("echo")
    backends._choose_cached.cache_clear()


def called(function):
    CALLS.clear()
    return function(), set(CALLS)


@each_cell()
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_fifth_backend_serves_layers(cell, compiled):
    layer = fast(cell, 3, 5, num_layers=2, bidirectional=True, backend="echo")
    other = fast(cell, 3, 5, num_layers=2, bidirectional=True, backend="reference")
    other.load_state_dict(layer.state_dict())
    x, state = randn(4, 2, 3, grad=True), hx(cell, 4, 2, 5, grad=True)
    call = layer
    if compiled:
        torch._dynamo.reset()
        call = torch.compile(layer, fullgraph=True, backend="aot_eager")
    result, kernels = called(lambda: call(x, state))
    tensors = [x, *layer.parameters()]
    ours, more = called(lambda: gradients(result, tensors))
    assert kernels | more == {"forward", "backward"}
    expected = other(x, state)
    assert_same(result, expected, 1e-6)
    assert_same(ours, gradients(expected, [x, *other.parameters()]), 1e-5)


def test_it_is_a_word_like_the_others(monkeypatch, tmp_path):
    x = randn(4, 2, 3)
    layer = fast("gru", 3, 5, backend="echo")
    assert "backend: echo (backend='echo' was asked for)" in fastrnn.explain(layer, x)
    assert "echoes 2 rows of 5 units" in fastrnn.explain(layer, x)
    with pytest.raises(ValueError, match="native, cpu, cuda, triton, echo, reference, got 'ecko'"):
        fastrnn.FastGRU(3, 5, backend="ecko")
    with pytest.raises(RuntimeError, match="the echo knows no projection"):
        fast("lstm", 3, 5, proj_size=2, backend="echo")(x)
    with pytest.raises(RuntimeError, match=f"the echoing kernels run on {DEVICE}, not on xpu"):
        backends.choose("gru", "xpu", torch.float32, "echo")
    with pytest.raises(ValueError, match="must be new, got 'echo'"):
        backends.add(backends._BACKENDS["echo"])
    monkeypatch.setenv("FASTRNN_BACKEND", "echo")
    assert called(lambda: fast("gru", 3, 5)(x))[1] == {"forward"}


def test_lower_precisions_that_backends_compute_in():
    cpu, plain = backends._BACKENDS["cpu"], backends._BACKENDS["reference"]
    assert cpu.compute_dtype(torch.bfloat16) == torch.bfloat16
    assert cpu.compute_dtype(torch.float16) == torch.float32
    assert plain.compute_dtype(torch.bfloat16) == torch.float32
    assert plain.compute_dtype(torch.float64) == torch.float64


def test_native_is_cpu_or_cuda(tmp_path):
    x = torch.randn(4, 2, 3)
    for word in ("native", "cpu"):
        assert "backend: cpu" in fastrnn.explain(fastrnn.FastGRU(3, 5, backend=word), x)
    with pytest.raises(RuntimeError, match="the native CUDA kernels run on cuda, not on cpu"):
        fastrnn.FastGRU(3, 5, backend="cuda")(x)
    report = run_python("-m", "fastrnn", cwd=tmp_path).stdout
    assert "cpu on cpu" in report and "cuda on cuda" in report and "cuda on cpu" not in report

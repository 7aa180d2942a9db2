"""The CUDA engines on a GPU: parity with cuDNN, graphs, streams, devices, repeated bits.

    FASTRNN_TEST_DEVICE=cuda python -m pytest tests/gpu/test_cuda_gpu.py

Whatever the simulator cannot show: the machine code, the memory model, the device's limits.
"""

from contextlib import contextmanager

import pytest
import torch
from cuda_simulation import clear_of_the_kink
from helpers import DEVICE, TORCH_CELLS, assert_as_exact, each_cell, fast, flat, gradients, plain
from torch import nn

import fastrnn
from fastrnn import ops

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    pytest.mark.skipif(DEVICE != "cuda", reason="needs FASTRNN_TEST_DEVICE=cuda"),
    pytest.mark.skipif(not ops.BUILD_INFO.get("cuda_archs"), reason="built without CUDA"),
]
ENGINES = ("stepwise", "block", "cluster", "grid", "auto")
KINDS = {
    "ieee": (torch.float32, 2e-6),
    "tf32": (torch.float32, 1e-3),
    "bfloat16": (torch.bfloat16, 8e-3),
    "float16": (torch.float16, 1e-3),
}
SIZES = {  # B, T, I, H
    "H17": (5, 9, 7, 17),
    "H64": (16, 33, 32, 64),
    "H200": (33, 17, 64, 200),
    "H256": (1, 20, 64, 256),
    "H768": (16, 6, 32, 768),
    "H1024": (40, 5, 32, 1024),
}
every_engine = pytest.mark.parametrize("engine", ENGINES)


@contextmanager
def numbers(kind: str):
    """tf32 where the kind is that, in cuDNN as in matrix products, else nowhere."""
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [flag.allow_tf32 for flag in flags]
    for flag in flags:
        flag.allow_tf32 = kind == "tf32"
    try:
        yield
    finally:
        for flag, value in zip(flags, before):
            flag.allow_tf32 = value


@contextmanager
def asked_for(engine: str, monkeypatch):
    """The engine for all layers inside; a size that it cannot serve is a skip."""
    monkeypatch.setenv("FASTRNN_CUDA_ENGINE", engine)
    try:
        yield
    except RuntimeError as refusal:
        if "cannot serve" not in str(refusal):
            raise
        pytest.skip(str(refusal))


def everything(layer: nn.Module, x, hx=None, **kwargs) -> list[torch.Tensor]:
    """[output, final states, gradients of input and weights]."""
    x = x.detach().requires_grad_()
    result = layer(x, hx, **kwargs)
    return [*flat(result), *gradients(result, [x, *layer.parameters()])]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
@every_engine
@each_cell(TORCH_CELLS)
def test_as_exact_as_cudnn(cell, engine, size, kind, monkeypatch):
    """At most twice the error of torch.nn's layer, values and gradients, both directions."""
    (b, t, i, h), (dtype, floor) = SIZES[size], KINDS[kind]
    theirs = plain(cell, i, h, bidirectional=True, dtype=dtype)
    ours = fast(cell, i, h, bidirectional=True, dtype=dtype, backend="native")
    if cell == "rnn_relu":
        clear_of_the_kink(theirs.parameters())
    ours.load_state_dict(theirs.state_dict())
    exact = plain(cell, i, h, bidirectional=True, dtype=torch.float64)
    exact.load_state_dict(theirs.state_dict())
    x = torch.randn(t, b, i, device="cuda", dtype=dtype)
    with numbers(kind), asked_for(engine, monkeypatch):
        found = everything(ours, x)
        assert_as_exact(found, everything(theirs, x), everything(exact, x.double()), floor)


@pytest.mark.parametrize("kind", KINDS)
@every_engine
@each_cell()
def test_ragged_with_resets(cell, engine, kind, monkeypatch):
    """Lengths with zeros, resets, both directions, against the reference in the same numbers."""
    b, t, i, h = 37, 12, 16, 48
    dtype, floor = KINDS[kind]
    ours = fast(cell, i, h, bidirectional=True, dtype=dtype, backend="native")
    if cell == "rnn_relu":
        clear_of_the_kink(ours.parameters())
    theirs, exact = (
        fast(cell, i, h, bidirectional=True, dtype=d, backend="reference")
        for d in (torch.float32 if kind == "tf32" else dtype, torch.float64)
    )
    theirs.load_state_dict(ours.state_dict())
    exact.load_state_dict(ours.state_dict())
    x = torch.randn(t, b, i, device="cuda", dtype=dtype)
    how = dict(lengths=torch.arange(b) % (t + 1), resets=torch.rand(t, b, device="cuda") < 0.1)
    with numbers(kind), asked_for(engine, monkeypatch):
        found = everything(ours, x, **how)
        assert_as_exact(found, everything(theirs, x, **how),
                        everything(exact, x.double(), **how), floor)  # fmt: skip


@each_cell()
def test_gradcheck(cell):
    """In float64, which the stepwise engine serves: initial states and weights too."""
    layer = fast(cell, 3, 5, dtype=torch.float64, bidirectional=True, backend="native")
    names, values = zip(*layer.named_parameters())
    states = 2 if cell == "lstm" else 1
    x = torch.randn(4, 2, 3, dtype=torch.float64, device="cuda", requires_grad=True)
    hx = [torch.randn(2, 2, 5, dtype=torch.float64, device="cuda") for _ in range(states)]
    hx = [s.requires_grad_() for s in hx]

    def call(x, *rest):
        state = rest[0] if states == 1 else tuple(rest[:2])
        result = torch.func.functional_call(layer, dict(zip(names, rest[states:])), (x, state))
        return tuple(flat(result))

    assert torch.autograd.gradcheck(call, (x, *hx, *values), nondet_tol=0.0)


@pytest.mark.parametrize("h", [64, 300])
@every_engine
@each_cell(("rnn_tanh", "lstm", "gru"))
def test_same_bits_every_time(cell, engine, h, monkeypatch):
    """A missing barrier would show here sooner or later."""
    layer = fast(cell, 16, h, dtype=torch.bfloat16, bidirectional=True, backend="native")
    x = torch.randn(200, 40, 16, device="cuda", dtype=torch.bfloat16)
    with asked_for(engine, monkeypatch):
        first = everything(layer, x)
        for _ in range(10):
            assert all(torch.equal(a, b) for a, b in zip(first, everything(layer, x)))


@every_engine
def test_graph_of_a_training_step(engine, monkeypatch):
    """Captured, replayed with another input: what the layer itself says of that input."""
    layer = fast("lstm", 16, 64, dtype=torch.float16, backend="native")
    x = torch.randn(30, 8, 16, device="cuda", dtype=torch.float16, requires_grad=True)
    parameters = [x, *layer.parameters()]

    def step():
        output, _ = layer(x)
        return [output, *torch.autograd.grad(output.float().square().sum(), parameters)]

    with asked_for(engine, monkeypatch):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = step()
        for _ in range(3):
            with torch.no_grad():
                x.copy_(torch.randn_like(x))
            graph.replay()
            replayed = [t.clone() for t in captured]
            assert all(torch.equal(a, b) for a, b in zip(replayed, step()))


def test_a_packed_batch_in_a_graph_is_refused():
    layer = fast("gru", 4, 8, backend="native")
    x = torch.randn(5, 3, 4, device="cuda")
    batch_sizes = torch.tensor([3, 2, 1])
    packed = nn.utils.rnn.PackedSequence(x.flatten(0, 1)[:6].contiguous(), batch_sizes)
    with torch.no_grad():
        layer(packed)
        with pytest.raises(RuntimeError, match="dense inside a CUDA graph"):
            with torch.cuda.graph(torch.cuda.CUDAGraph()):
                layer(packed)
    torch.cuda.synchronize()


@every_engine
def test_on_the_current_stream(engine, monkeypatch):
    """Two streams at once, behind work that makes their inputs late."""
    layer = fast("gru", 32, 128, dtype=torch.bfloat16, backend="native")
    x = torch.randn(100, 8, 32, device="cuda", dtype=torch.bfloat16)
    with torch.no_grad(), asked_for(engine, monkeypatch):
        expected = layer(x)[0], layer(2 * x)[0]
        streams, found = [torch.cuda.Stream() for _ in range(2)], []
        torch.cuda.synchronize()
        for factor, stream in enumerate(streams, 1):
            with torch.cuda.stream(stream):
                late = torch.zeros_like(x)
                torch.cuda._sleep(20_000_000)
                late.copy_(factor * x)
                found.append(layer(late)[0])
        torch.cuda.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(found, expected))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@every_engine
def test_on_another_device(engine, monkeypatch):
    layer = fast("lstm", 16, 64, backend="native")
    x = torch.randn(20, 4, 16, device="cuda:0")
    with asked_for(engine, monkeypatch):
        expected = everything(layer, x)
        moved = everything(layer.to("cuda:1"), x.to("cuda:1"))
    assert torch.cuda.current_device() == 0
    assert all(t.device.index == 1 for t in moved)
    for a, b in zip(moved, expected):
        torch.testing.assert_close(a.to("cuda:0"), b)


@every_engine
def test_never_waits_for_the_device(engine, monkeypatch):
    layer = fast("gru", 16, 64, bidirectional=True, backend="native")
    x = torch.randn(20, 4, 16, device="cuda")
    packed = nn.utils.rnn.pack_sequence([x[:9, 0], x[:7, 1], x[:2, 2]])
    resets = torch.rand(20, 4, device="cuda") < 0.1
    of_three = resets[:9, :3]
    ragged = {"lengths": [9, 20, 0, 7], "resets": resets}
    with asked_for(engine, monkeypatch):
        for input, options in ((x, {}), (x, ragged), (packed, {"resets": of_three})):
            layer(input, **options)
            torch.cuda.set_sync_debug_mode("error")
            try:
                output = flat(layer(input, **options))[0]
                torch.autograd.grad(output, list(layer.parameters()), torch.ones_like(output))
            finally:
                torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("engine", ["block", "cluster", "grid"])
def test_many_steps(engine, monkeypatch):
    """More steps than 16 bits count; the last ones are those of a sequence that begins there.

    In float32, in which the state is carried: a rounded one would not go on with the same bits.
    """
    gx, weights = torch.randn(70_000, 2, 96, device="cuda"), torch.randn(96, 32, device="cuda") / 6
    state = torch.randn(2, 32, device="cuda")

    def scan(gx, state):
        return fastrnn.functional.scan("gru", gx, weights, None, state, backend="native")

    with torch.no_grad(), asked_for(engine, monkeypatch):
        output, last = scan(gx, state)
        middle = scan(gx[:69_000], state)[1]
        again, end = scan(gx[69_000:], middle)
    assert torch.equal(last, end) and torch.equal(output[69_000:], again)


@pytest.mark.parametrize("engine", ["stepwise", "block", "grid"])
def test_more_than_2_31_elements(engine, monkeypatch):
    """gx of an LSTM with N*G*H past 2^31: the last step equals that of a short sequence."""
    t, b, h = 1100, 2048, 256
    if torch.cuda.get_device_properties(0).total_memory < 40e9:
        pytest.skip("needs 40 GB of GPU memory")
    gx = torch.zeros(t, b, 4 * h, dtype=torch.float16, device="cuda")
    assert gx.numel() > 2**31
    gx[-1] = torch.randn(b, 4 * h, device="cuda")
    weights = torch.zeros(4 * h, h, dtype=torch.float16, device="cuda")
    state = [torch.zeros(b, h, dtype=torch.float16, device="cuda") for _ in range(2)]
    with torch.no_grad(), asked_for(engine, monkeypatch):
        long, final = fastrnn.functional.scan("lstm", gx, weights, None, state, backend="native")
        short, _ = fastrnn.functional.scan("lstm", gx[-1:], weights, None, state, backend="native")
    assert torch.equal(long[-1], short[0]) and torch.equal(final[0], long[-1])


def test_explain_names_the_engine(monkeypatch):
    layer = fast("lstm", 8, 64, dtype=torch.bfloat16)
    x = torch.randn(5, 3, 8, device="cuda", dtype=torch.bfloat16)
    text = fastrnn.explain(layer, x)
    assert "backend: cuda" in text and "engine, forward: " in text and "backward: " in text
    monkeypatch.setenv("FASTRNN_CUDA_ENGINE", "stepwise")
    assert "engine, forward: stepwise (asked for" in fastrnn.explain(layer, x)

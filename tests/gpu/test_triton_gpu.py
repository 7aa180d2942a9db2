"""The Triton kernels on a GPU: what the interpreter and a compilation cannot show.

    FASTRNN_TEST_DEVICE=cuda python -m pytest tests/gpu/test_triton_gpu.py

Every configuration that the tuner may pick is run and compared with the reference in float64.
"""

import pytest
import torch
from helpers import each_cell, oracle, problem

pytest.importorskip("triton")

from fastrnn import ops  # noqa: E402
from fastrnn import triton as backend  # noqa: E402
from fastrnn.triton import choice, config, engine  # noqa: E402
from fastrnn.triton.cells import INTERPRET  # noqa: E402

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    pytest.mark.skipif(INTERPRET, reason="TRITON_INTERPRET is set: FASTRNN_TEST_DEVICE=cuda"),
]
EPS = {torch.float32: 2e-6, torch.bfloat16: 2**-8, torch.float16: 2**-11}
SIZES = {
    "H17": dict(t=9, b=5, i=7, h=17),
    "H64": dict(t=33, b=16, i=32, h=64),
    "H128": dict(t=33, b=20, i=32, h=128),
    "H256": dict(t=17, b=33, i=64, h=256),
    "H600": dict(t=9, b=3, i=64, h=600),
}


def on_gpu(cell, dtype, directions=1, **sizes):
    input, weights, state = problem(cell, dtype=dtype, directions=directions, **sizes)
    return [
        t.detach().cuda() if torch.is_tensor(t) else [u.detach().cuda() for u in t]
        for t in (input, weights, state)
    ]


def layer_results(cell, input, weights, state, sizes=None, resets=None, directions=1):
    """[output, *final, *gradients of everything], for gradients of one everywhere."""
    output, final, saved = backend.forward(
        cell, input, weights, state, sizes, resets, directions, True, True
    )
    ones = [torch.ones_like(t) for t in (output, *final)]
    g_input, g_weights, g_state = backend.backward(
        cell, ones[0], ones[1:], input, weights, state, output, saved, sizes, resets, directions,
        True, ops.NEED_ALL,
    )  # fmt: skip
    return [output, *final, g_input, *g_weights, *g_state]


def exact_results(cell, input, weights, state, sizes=None, resets=None, directions=1):
    leaves = [t.double().requires_grad_() for t in (input, *weights, *state)]
    n = 1 + len(weights)
    result = oracle(cell, leaves[0], leaves[1:n], leaves[n:], sizes, resets, directions)
    return result + list(torch.autograd.grad(sum(r.sum() for r in result), leaves))


def assert_near(ours, exact, dtype, steps):
    for i, (a, e) in enumerate(zip(ours, exact)):
        allowed = 8 * EPS[dtype] * max(e.abs().max().item(), 1.0) * max(1.0, steps**0.5 / 4)
        gap = (a.double() - e).abs().max().item()
        assert gap <= allowed, f"tensor {i} differs by {gap:.3g}, allowed {allowed:.3g}"


@pytest.mark.parametrize("dtype", EPS, ids=str)
@pytest.mark.parametrize("size", SIZES)
@each_cell()
def test_every_configuration(cell, size, dtype, monkeypatch):
    """Both directions, ragged, with resets; values and gradients of each candidate."""
    sizes = SIZES[size]
    t, b = sizes["t"], sizes["b"]
    input, weights, state = on_gpu(cell, dtype, 3, **sizes)
    batch_sizes = torch.linspace(b, 1, t).round().long()
    input = input.flatten(0, 1)[: int(batch_sizes.sum())].contiguous()
    resets = torch.rand(len(input), device="cuda") < 0.1
    exact = exact_results(cell, input, weights, state, batch_sizes, resets, 3)
    tried = set()
    for index in range(4):

        def nth(direction, layer, run, index=index):
            properties = torch.cuda.get_device_properties(layer.device)
            options = config.candidates(
                config.Need(direction, layer.spec.gates, layer.H, layer.multiply), layer.B, layer.D,
                properties.multi_processor_count, properties.shared_memory_per_block_optin,
            )  # fmt: skip
            option = options[index % len(options)]
            tried.add(option)
            carry, compiled = run(option)
            assert option.hold != "resident" or compiled.n_spills == 0, option
            return carry

        monkeypatch.setattr(engine, "choose", nth)
        ours = layer_results(cell, input, weights, state, batch_sizes, resets, 3)
        assert_near(ours, exact, dtype, t)
    assert len(tried) >= 1


@each_cell()
def test_gradcheck_in_float32(cell):
    """Finite differences through the float32 kernels themselves, with a step that suits them."""
    input, weights, state = on_gpu(cell, torch.float32, t=4, b=2, i=3, h=5)
    n = len(weights)

    class Layer(torch.autograd.Function):
        @staticmethod
        def forward(ctx, input, *rest):
            arguments = input, rest[:n], rest[n:]
            output, final, saved = backend.forward(cell, *arguments, None, None, 1, True, True)
            ctx.save_for_backward(output, saved, input, *rest)
            return output, *final

        @staticmethod
        def backward(ctx, grad, *grad_final):
            output, saved, input, *rest = ctx.saved_tensors
            g_input, g_weights, g_state = backend.backward(
                cell, grad, list(grad_final), input, rest[:n], rest[n:], output, saved,
                None, None, 1, True, ops.NEED_ALL,
            )  # fmt: skip
            return g_input, *g_weights, *g_state

    leaves = [t.requires_grad_() for t in (input, *weights, *state)]
    assert torch.autograd.gradcheck(
        Layer.apply, leaves, eps=1e-2, atol=2e-2, rtol=2e-2, nondet_tol=0.0
    )


@pytest.mark.parametrize("h", [128, 512])
@each_cell(("lstm", "gru"))
def test_same_bits_every_time(cell, h):
    """A missing barrier would show here sooner or later."""
    arguments = on_gpu(cell, torch.bfloat16, 3, t=200, b=40, i=16, h=h)
    first = layer_results(cell, *arguments, directions=3)
    for _ in range(20):
        again = layer_results(cell, *arguments, directions=3)
        assert all(torch.equal(a, b) for a, b in zip(first, again))


@pytest.mark.parametrize("h", [64, 256])
def test_cuda_graph(h, monkeypatch):
    """Captured without any timing, replayed with other inputs; 256: programs share R."""
    input, weights, state = on_gpu("lstm", torch.float16, t=12, b=4, i=8, h=h)
    monkeypatch.setattr(choice, "_chosen", {})

    def call():
        return backend.forward("lstm", input, weights, state, None, None, 1, True, False)

    with torch.cuda.stream(torch.cuda.Stream()):  # compiles
        torch.use_deterministic_algorithms(True)
        call()
        torch.use_deterministic_algorithms(False)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output, _, _ = call()
    assert not choice._chosen
    input.copy_(torch.randn_like(input))
    graph.replay()
    torch.testing.assert_close(output, call()[0], rtol=0, atol=2e-3)


def test_more_steps_than_numbers_in_half_a_word():
    """Programs that share R number their words; after a reset, the last steps are like any."""
    t, last = 70_000, 5
    input, weights, state = on_gpu("gru", torch.float16, t=t, b=2, i=8, h=256)
    state = [torch.zeros_like(s) for s in state]
    resets = torch.zeros(t, 2, dtype=torch.bool, device="cuda")
    resets[-last] = True
    long, _, _ = backend.forward("gru", input, weights, state, None, resets, 1, True, False)
    short, _, _ = backend.forward("gru", input[-last:], weights, state, None, None, 1, True, False)
    torch.testing.assert_close(long[-last:], short, rtol=0, atol=2e-3)


def test_tuner_remembers(monkeypatch):
    monkeypatch.setattr(choice, "_chosen", {})
    arguments = on_gpu("gru", torch.bfloat16, t=20, b=4, i=8, h=64)
    layer_results("gru", *arguments)
    chosen = dict(choice._chosen)
    assert len(chosen) == 2
    layer_results("gru", *arguments)
    assert choice._chosen == chosen


def test_more_than_2_31_elements():
    """gx of an LSTM with N*G*H past 2^31: the last step equals that of a short sequence."""
    t, b, h = 1100, 2048, 256
    if torch.cuda.get_device_properties(0).total_memory < 40e9:
        pytest.skip("needs 40 GB of GPU memory")
    gx = torch.zeros(t, b, 4 * h, dtype=torch.float16, device="cuda")
    assert gx.numel() > 2**31
    gx[-1] = torch.randn(b, 4 * h, device="cuda")
    weights = [torch.zeros(4 * h, h, dtype=torch.float16, device="cuda")]
    state = [torch.zeros(1, b, h, dtype=torch.float16, device="cuda") for _ in range(2)]
    long, final, _ = backend.forward("lstm", gx, weights, state, None, None, 1, False, False)
    short, _, _ = backend.forward("lstm", gx[-1:], weights, state, None, None, 1, False, False)
    assert torch.equal(long[-1], short[0]) and torch.equal(final[0][0], long[-1])


def test_tf32_only_where_allowed():
    input, weights, state = on_gpu("rnn_identity", torch.float32, t=1, b=16, i=8, h=64)
    exact = exact_results("rnn_identity", input, weights, state)[0]
    errors = []
    for allowed in (False, True):
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed
        output = backend.forward("rnn_identity", input, weights, state, None, None, 1, True, False)[
            0
        ]
        errors.append((output.double() - exact).abs().max().item())
    assert errors[0] < 1e-5 < errors[1]

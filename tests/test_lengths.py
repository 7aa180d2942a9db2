"""lengths= without a detour: padded tensors are read and written in place, and graphs hold one op.

The oracle is the packed form of the same rows in the same order: the kernels do the same
arithmetic, so results must have the same bits.
"""

import pytest
import torch
import torch.nn.functional as F
from helpers import (
    DEVICE,
    assert_same,
    backends,
    each_cell,
    fast,
    flat,
    gradients,
    hx,
    problem,
    randn,
    slow_but,
)
from torch._dynamo.testing import CompileCounterWithBackend
from torch.autograd import gradcheck, gradgradcheck
from torch.export import Dim

from fastrnn import functional, ops, ragged, reference

native = pytest.mark.skipif(
    not ops.NATIVE_BUILT or DEVICE != "cpu", reason="what the native CPU kernels do"
)


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def by_packing(layer, x, state, lengths, resets=None):
    """The same by a packed batch of T steps, rows in falling order of lengths."""
    t, b, _ = x.shape
    packing = functional.pack_lengths(lengths, t, b, x.device)
    sizes = F.pad(packing.batch_sizes, (0, t - len(packing.batch_sizes)))
    if state is None:
        state = [x.new_zeros(len(layer._all_weights), b, layer.hidden_size)] * layer.states
    output, final = functional.recurrent(
        layer.cell, packing.pack(x), [packing.sort(s) for s in flat(state)], layer._layers(),
        sizes, None if resets is None else packing.pack(resets),
        layer.bidirectional, recompute_gates=layer.recompute_gates,
    )  # fmt: skip
    return packing.pad(output, t, b), [packing.unsort(s) for s in final]


SIZES = {  # T, B, I, H
    "small": (6, 5, 4, 7),
    "one_row": (5, 1, 3, 17),
    "one_step": (1, 9, 3, 33),
    "many_rows": (4, 210, 3, 8),
    "blocks": (70, 33, 9, 40),
    "wide": (9, 5, 70, 130),
}


@native
@each_cell()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("recompute", slow_but([False], [False, True]), ids=["saved", "recomputed"])
def test_the_bits_of_packed_rows(cell, dtype, size, recompute, poisoned):
    t, b, i, h = SIZES[size]
    layer = fast(cell, i, h, bidirectional=True, dtype=dtype, recompute_gates=recompute)
    x, state = randn(t, b, i, dtype=dtype, grad=True), hx(cell, 2, b, h, dtype=dtype, grad=True)
    lengths, resets = torch.randint(0, t + 1, (b,)), torch.rand(t, b) < 0.2
    lengths[0] = 0 if b > 1 else t - 1
    inputs = [x, *flat(state), *layer.parameters()]
    for threads in (1, 3):
        torch.set_num_threads(threads)
        for mask in (None, resets):
            ours = layer(x, state, lengths=lengths, resets=mask)
            packed = by_packing(layer, x, state, lengths, mask)
            assert_same(ours, packed, 0.0)
            assert_same(gradients(ours, inputs), gradients(packed, inputs), 0.0)
    with torch.no_grad():
        assert_same(layer(x, lengths=lengths), by_packing(layer, x, None, lengths), 0.0)


@native
@each_cell()
def test_in_place_of_any_layout(cell):
    """batch_first, expanded and strided tensors, expanded gradients."""
    layer = fast(cell, 4, 7, batch_first=True)
    x, lengths = randn(5, 6, 4, grad=True), torch.tensor([3, 6, 0, 6, 2])
    a, b = layer(x, lengths=lengths), by_packing(layer, x.transpose(0, 1), None, lengths)
    assert_same([a[0], *flat(a[1])], [b[0].transpose(0, 1), *flat(b[1])], 0.0)
    inputs = [x, *layer.parameters()]
    assert_same(*(torch.autograd.grad(r[0].sum(), inputs) for r in (a, b)), 0.0)
    for strided in (x[:, :1].expand(5, 6, 4), torch.stack([x, x], -1)[..., 0]):
        a = layer(strided, lengths=lengths)
        assert_same(a, layer(strided.contiguous(), lengths=lengths), 0.0)


@backends()
@each_cell()
def test_layers_with_dropout_keep_zeros_past_the_lengths(cell, backend):
    layer = fast(cell, 4, 7, num_layers=3, bidirectional=True, dropout=0.5, backend=backend)
    x, lengths = randn(6, 5, 4, grad=True), torch.tensor([3, 6, 0, 6, 2])
    output, _ = layer(x, lengths=lengths)
    (grad,) = torch.autograd.grad(output.sum(), x)
    for row, n in enumerate(lengths):
        assert (output[n:, row] == 0).all() and (grad[n:, row] == 0).all()


@backends(torch.float64)
@each_cell()
def test_derivatives(cell, backend):
    layer = fast(cell, 2, 3, dtype=torch.float64, bidirectional=True, backend=backend)
    x, state = randn(3, 3, 2, dtype=torch.float64, grad=True), hx(cell, 2, 3, 3)
    state = [s.double().requires_grad_() for s in flat(state)]

    def call(x, *state):
        hx = state if len(state) > 1 else state[0]
        return tuple(flat(layer(x, hx, lengths=torch.tensor([2, 0, 3]))))

    assert gradcheck(call, (x, *state)) and gradgradcheck(call, (x, *state))


@each_cell()
def test_the_reference_in_full_and_packed(cell):
    """In graphs and where it is derived it walks all steps: what it drops is in no result."""
    x, weights, state = problem(cell, 6, 5, 4, 3, directions=3)
    lengths, resets = torch.tensor([3, 6, 0, 6, 2]), (torch.rand(6, 5) < 0.3).to(DEVICE)
    with torch.no_grad():
        x[torch.arange(6)[:, None] >= lengths] = torch.nan
        for s in state:
            s[:, 2] = torch.inf  # of the row without steps: a step would spread it
    packing = functional.pack_lengths(lengths, 6, 5, x.device)
    output, final = reference.forward(cell, x, weights, state, lengths, resets, 3, True)
    packed, last = reference.forward(
        cell, packing.pack(x), weights, [packing.sort(s) for s in state], packing.batch_sizes,
        packing.pack(resets), 3, True,
    )  # fmt: skip
    expected = [packing.pad(packed, 6, 5), *(packing.unsort(s) for s in last)]
    assert_same(*([t.nan_to_num() for t in r] for r in ([output, *final], expected)), 1e-12)
    leaves = [x, *weights, *state]
    assert_same(gradients([output, *final], leaves), gradients(expected, leaves), 1e-11)


@backends()
def test_lengths_may_change_before_backward(backend):
    layer, x = fast("gru", 4, 7, backend=backend), randn(6, 3, 4, grad=True)
    lengths = torch.tensor([2, 6, 4])
    expected = gradients(layer(x, lengths=[2, 6, 4]), [x])
    result = layer(x, lengths=lengths)
    lengths.zero_()
    assert_same(gradients(result, [x]), expected, 0.0)


# --- graphs ---


def cases(sizes=((5, 3), (7, 2), (9, 4), (50, 11))):
    for t, b in sizes:
        yield randn(t, b, 4, grad=True), torch.randint(0, t + 1, (b,))


@backends(interpreted=True)
@each_cell(slow_but(["lstm"], ["rnn_tanh", "lstm", "gru"]))
def test_training_in_one_graph(cell, backend):
    kernels = backend == "native"  # others take their time
    layer = fast(cell, 4, 6, num_layers=1 + kernels, bidirectional=True, backend=backend)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(layer, fullgraph=True, backend=counter)
    for x, lengths in cases() if kernels else cases([(3, 2)]):
        inputs = [x, *layer.parameters()]
        a, b = compiled(x, lengths=lengths), layer(x, lengths=lengths)
        assert_same(a, b, 1e-6 if backend == "reference" else 0.0)
        assert_same(gradients(a, inputs), gradients(b, inputs), 1e-5)
    assert counter.frame_count <= 2, "compiled again for each T, B or lengths"


@pytest.mark.slow
@backends(kernels=True, interpreted=True)
@pytest.mark.filterwarnings("ignore")  # the code generator's own
def test_inductor(backend):
    layer = fast("lstm", 4, 6, batch_first=True, backend=backend)
    compiled = torch.compile(layer, fullgraph=True)
    x, resets = randn(3, 5, 4, grad=True), (torch.rand(3, 5) < 0.3).to(DEVICE)
    call = dict(lengths=torch.tensor([2, 5, 0], dtype=torch.int32, device=DEVICE), resets=resets)
    a, b = (f(x, **call) for f in (compiled, layer))
    assert_same(a, b, 0.0)
    assert_same(gradients(a, [x]), gradients(b, [x]), 1e-5)


@backends(kernels=True)
def test_exported(backend):
    """Any T, B and lengths; it trains."""
    layer = fast("gru", 4, 6, num_layers=2, backend=backend)
    t, b = Dim("T"), Dim("B")
    x, lengths = randn(5, 3, 4), torch.tensor([2, 5, 3])
    dims = {"input": {0: t, 1: b}, "lengths": {0: b}}
    program = torch.export.export(layer, (x,), {"lengths": lengths}, dynamic_shapes=dims)
    calls = [n for n in program.graph.nodes if "forward_flat" in str(n.target)]
    assert len(calls) == 2, "one op a layer"
    module = program.module()
    for x, lengths in cases():
        a, b = module(x, lengths=lengths), layer(x, lengths=lengths)
        assert_same(a, b, 0.0)
        assert_same(gradients(a, [x]), gradients(b, [x]), 1e-5)
    with pytest.raises(RuntimeError, match="lengths must lie between 0 and 50 .* got 0 to 51"):
        module(x, lengths=torch.tensor([0, 51] + [1] * 9))


@backends(kernels=True, interpreted=True)
def test_values_are_checked_in_graphs(backend):
    layer, x = fast("gru", 4, 6, backend=backend), randn(5, 3, 4)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for bad in ([2, 6, 1], [-1, 2, 6]):
        expected = f"lengths must lie between 0 and 5 .* got {min(bad)} to 6"
        with pytest.raises((RuntimeError, ValueError), match=expected):
            compiled(x, lengths=torch.tensor(bad))
    with pytest.raises(Exception, match=r"lengths must have shape \[3\]"):
        compiled(x, lengths=torch.tensor([1, 2]))


def test_a_list_op_takes_lengths_by_packing():
    """And saves as many lines as its fake says, whatever the lengths."""
    seen = []

    def forward(cell, input, weights, state, batch_sizes, resets, *rest):
        seen.append((input, state, batch_sizes, resets))
        return input * 2, [s + 1 for s in state], input.new_ones(2, len(input), 3, 4)

    def backward(cell, grad_output, grad_final, input, weights, state, output, saved, *rest):
        assert (saved == 1).all() and saved.shape[1] == len(input) == len(output)
        return (grad_output if rest[-1] & 1 else input.new_empty(0)), [], [g + 1 for g in state]

    x, state, lengths = randn(4, 3, 2), [randn(1, 3, 4)], torch.tensor([1, 0, 3])
    resets = torch.rand(4, 3) < 0.5
    rest = resets.to(DEVICE), 1, True
    output, final, saved = ragged.forward_by_packing(forward)(
        "rnn_tanh", x, [], state, lengths, *rest, ops.SAVE_ALL
    )
    packed, sorted_state, sizes, packed_resets = seen[0]
    assert sizes.tolist() == [2, 1, 1] and saved.shape == (2, 12, 3, 4)
    assert torch.equal(packed, torch.stack([x[0, 2], x[0, 0], x[1, 2], x[2, 2]]))
    assert packed_resets.tolist() == [resets[0, 2], resets[0, 0], resets[1, 2], resets[2, 2]]
    assert torch.equal(sorted_state[0], state[0][:, [2, 0, 1]])
    assert torch.equal(final[0], state[0] + 1)
    valid = torch.arange(4)[:, None] < lengths
    assert torch.equal(output, x * 2 * valid[..., None].to(DEVICE))
    for needs, size in ((1, (4, 3, 2)), (0, (0,))):
        grads = ragged.backward_by_packing(backward)(
            "rnn_tanh", x, final, x, [], state, output, saved, lengths, *rest, needs
        )
        assert grads[0].shape == size and torch.equal(grads[2][0], state[0] + 1)

"""torch.compile and torch.export: one graph, any T and B. The kernel is one op in the graph."""

import pytest
import torch
from helpers import DEVICE, assert_same, backends, each_cell, fast, flat, gradients, hx, randn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

PACKED_TRACES = torch.__version__ >= (2, 13)  # of older ones it is not known


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def nodes(graph, name: str) -> int:
    return sum(name in str(node.target) for node in graph.nodes)


@backends(kernels=True)
@each_cell()
def test_inference_in_one_graph(cell, backend):
    layer = fast(cell, 4, 6, num_layers=2, bidirectional=True, backend=backend)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(layer, fullgraph=True, backend=counter)
    with torch.no_grad():
        for t, b in ((5, 3), (7, 2), (9, 4), (50, 11)):
            x, state = randn(t, b, 4), hx(cell, 4, b, 6)
            assert_same(compiled(x, state), layer(x, state), 0.0)
    assert counter.frame_count <= 2, "compiled again for each T or B"
    assert max(nodes(graph.graph, "fastrnn.forward") for graph in counter.graphs) == 2 or (
        backend != "native"
    )


@backends(kernels=True)
@each_cell()
def test_training_in_one_graph(cell, backend):
    layer = fast(cell, 4, 6, num_layers=2, backend=backend)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(layer, fullgraph=True, backend=counter)
    for t, b in ((5, 3), (7, 2), (9, 4), (50, 11)):
        x, state = randn(t, b, 4, grad=True), hx(cell, 2, b, 6, grad=True)
        inputs = [x, *flat(state), *layer.parameters()]
        a, b = compiled(x, state), layer(x, state)
        assert_same(a, b, 0.0)
        assert_same(gradients(a, inputs), gradients(b, inputs), 1e-5)
    assert counter.frame_count <= 2, "compiled again for each T or B"


@backends(kernels=True)
@pytest.mark.parametrize("options", [{}, {"batch_first": True}, {"bias": False}], ids=str)
def test_options_in_one_graph(backend, options):
    layer = fast("lstm", 4, 6, backend=backend, **options)
    x, resets = randn(5, 3, 4, grad=True), (torch.rand(5, 3) < 0.3).to(DEVICE)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for arguments in ({}, {"resets": resets}):
        a, b = compiled(x, **arguments), layer(x, **arguments)
        assert_same(a, b, 0.0)
        assert_same(gradients(a, [x]), gradients(b, [x]), 1e-5)
    assert_same(compiled(x[0]), layer(x[0]), 0.0)


@backends(kernels=True)
def test_tied_weights_in_one_graph(backend):
    """The same tensor twice among the inputs of one scan."""
    layer = fast("rnn_tanh", 6, 6, bidirectional=True, backend=backend)
    layer.weight_hh_l0 = layer.weight_hh_l0_reverse = layer.weight_ih_l0
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = randn(5, 3, 6)
    a, b = compiled(x), layer(x)
    assert_same(a, b, 0.0)
    assert_same(gradients(a, layer.parameters()), gradients(b, layer.parameters()), 1e-5)


@backends(kernels=True)
@pytest.mark.parametrize("given", [False, True], ids=["zeros", "hx"])
def test_a_packed_sequence_in_one_graph(backend, given):
    """Its rows are values of batch_sizes, which no graph knows: any lengths, not compiled again."""
    layer = fast("lstm", 4, 6, num_layers=2, bidirectional=True, backend=backend)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(layer, fullgraph=PACKED_TRACES, backend=counter)
    for lengths in ([5, 3, 2], [2, 5, 3], [4, 1, 1, 3], [1, 7]):
        b = len(lengths)
        x, state = randn(max(lengths), b, 4, grad=True), hx("lstm", 4, b, 6, grad=True)
        inputs = [x, *(flat(state) if given else ()), *layer.parameters()]
        results = []
        for each in (compiled, layer):
            packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
            output, final = each(packed, state if given else None)
            results.append([output.data, *final])
        assert_same(*results, 0.0)
        assert_same(*[gradients(result, inputs) for result in results], 1e-5)
    assert not PACKED_TRACES or counter.frame_count <= 2, "compiled again for other lengths"


@backends(kernels=True)
def test_what_packs_inside_a_graph_is_lengths(backend):
    """torch.compile does not trace pack_padded_sequence; lengths= gives the same, in one graph."""
    layer = fast("gru", 4, 6, backend=backend)

    def by_packing(x, lengths):
        output, final = layer(pack_padded_sequence(x, lengths, enforce_sorted=False))
        return pad_packed_sequence(output, total_length=len(x))[0], final

    compiled = torch.compile(
        lambda x, lengths: layer(x, lengths=lengths), fullgraph=True, backend="aot_eager"
    )
    for lengths in ([2, 5, 3], [4, 1, 1]):
        x, lengths = randn(5, 3, 4), torch.tensor(lengths)
        assert_same(compiled(x, lengths), by_packing(x, lengths), 1e-6)


@backends(kernels=True, interpreted=True)
def test_autocast_in_one_graph(backend):
    layer = fast("gru", 4, 6, backend=backend)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = randn(5, 3, 4)
    with torch.autocast(DEVICE, torch.bfloat16):
        a, b = compiled(x), layer(x)
    assert a[0].dtype == torch.bfloat16
    assert_same(a, b, 0.01)


@backends(kernels=True)
def test_cells_in_one_graph(backend):
    import fastrnn

    step = fastrnn.FastLSTMCell(4, 6, backend=backend, device=DEVICE)
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    x = randn(3, 4, grad=True)
    a, b = compiled(x, compiled(x)), step(x, step(x))
    assert_same(a, b, 0.0)
    assert_same(gradients(a, [x]), gradients(b, [x]), 1e-5)


@backends(kernels=True)
@pytest.mark.filterwarnings("ignore")  # the code generator's own
def test_inductor(backend):
    """The default backend, with code around the layer that it fuses."""
    layer = fast("lstm", 4, 6, backend=backend)
    model = torch.nn.Sequential(torch.nn.Linear(4, 4, device=DEVICE), torch.nn.Tanh())

    def step(x):
        return layer(model(x))[0].pow(2).mean()

    compiled = torch.compile(step, fullgraph=True)
    x = randn(5, 3, 4, grad=True)
    parameters = [x, *layer.parameters(), *model.parameters()]
    assert_same(compiled(x), step(x), 1e-6)
    assert_same(
        torch.autograd.grad(compiled(x), parameters), torch.autograd.grad(step(x), parameters), 1e-6
    )

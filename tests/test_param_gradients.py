"""Gradients of a cell's parameters on the CPU: over many steps, ragged rows, blocks and threads."""

import pytest
import torch
from helpers import assert_same, backends

from fastrnn import zoo

F64 = torch.float64
T, B, H = 70, 24, 9  # more steps than one sum takes, more rows than one block
RAGGED = [(37 * row) % (T + 1) for row in range(B)]
LAYERS = {"PeepholeLSTM": zoo.PeepholeLSTM, "LayerNormGRU": zoo.LayerNormGRU}


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@backends(F64, kernels=True)
@pytest.mark.parametrize("lengths", [None, RAGGED], ids=["dense", "ragged"])
@pytest.mark.parametrize("name", LAYERS)
def test_many_rows_and_steps(name, lengths, backend, threads):
    if backend != "native":
        pytest.skip("blocks are the CPU engine's")
    torch.manual_seed(0)
    layer = LAYERS[name](4, H, bidirectional=True, dtype=F64, backend="reference")
    x = torch.randn(T, B, 4, dtype=F64, requires_grad=True)
    grad = torch.randn(T, B, 2 * H, dtype=F64)
    inputs = [x, *layer.parameters()]

    def found():
        output = layer(x, lengths=lengths)[0]
        return torch.autograd.grad((output * grad).sum(), inputs)

    expected = found()
    layer.backend = backend
    alone = []
    for count in (1, 2):
        threads(count)
        ours = found()
        assert_same(ours, expected, 1e-9)
        alone.append(ours)
    assert all(map(torch.equal, *alone)), "threads have a say in the order of sums"

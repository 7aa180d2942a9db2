"""fastrnn.Stream over layers of cells that torch.nn has not: the layers' own kernels run them."""

import pytest
import torch
from helpers import assert_same, slow_but
from new_cells import block_gru, ind_rnn, light_gru, peephole_lstm
from slot_cells import many_back, more_in
from stream_runs import in_calls
from torch import nn

import fastrnn
from fastrnn import ops, zoo

pytestmark = pytest.mark.skipif(not ops.NATIVE_BUILT, reason="the native library is not built")


@fastrnn.cell(gates=2, states=3, feeds=2)
def fed_by_another(x, r, state):
    """W_hh multiplies the third state."""
    h, c, m = state
    c = torch.sigmoid(x[0] + r[0]) * c + torch.tanh(x[1] + r[1])
    return torch.tanh(c) * 0.5 + 0.2 * h, c, 0.9 * m + 0.1 * c


def layer_of(cell, *sizes: int) -> nn.Module:
    if cell is zoo.LayerNormGRU:
        return cell(*sizes)
    heads = {"heads": 2} if cell.in_heads else {}
    return fastrnn.Recurrent(cell, *sizes, **heads)


CELLS = [light_gru, peephole_lstm, block_gru, ind_rnn, many_back, fed_by_another, zoo.LayerNormGRU]
NAMES = {id(cell): getattr(cell, "title", "layer_norm_gru") for cell in CELLS}


@pytest.mark.parametrize("cell", slow_but(CELLS[1:2], CELLS), ids=lambda c: NAMES.get(id(c)))
def test_steps_and_chunks_are_the_layers_sequence(cell):
    """Between layers that have steps of their own; batches of one row and of some."""
    torch.manual_seed(0)
    for batch in (1, 5):
        modules = [nn.GRU(4, 6), layer_of(cell, 6, 34, 2), nn.Linear(34, 3)]
        x = torch.randn(45, batch, 4)
        with torch.no_grad():
            first, h = modules[0](x)
            second, state = modules[1](first)
            output = modules[2](second)
        stream = fastrnn.Stream(modules, batch)
        result = in_calls(stream, x)
        assert_same(result, output, 3e-6)
        assert_same(stream.state, (h, state), 3e-6)
        stream.state = (h, state)
        assert_same(stream.state, (h, state), 0)
        stream.reset()
        assert_same(in_calls(stream, x), result, 0)


def test_what_a_cell_of_ones_own_has_not(tmp_path):
    with pytest.raises(ValueError, match="a cell with extra slots has no stream"):
        fastrnn.Stream(fastrnn.Recurrent(more_in, 3, 4))
    layer = fastrnn.Recurrent(peephole_lstm, 3, 4)
    with pytest.raises(ValueError, match="layer 0: a cell of one's own has float32 weights"):
        fastrnn.Stream(layer, weights=torch.bfloat16)
    with pytest.raises(ValueError, match="a file has no code"):
        fastrnn.Stream(layer).save(tmp_path / "layer.frnn")


def test_explain_says_what_runs():
    layer = fastrnn.Recurrent(peephole_lstm, 6, 4)
    stream = fastrnn.Stream([nn.GRU(4, 6), layer, nn.Linear(4, 2)])
    text = fastrnn.explain(stream, torch.zeros(1, 4))
    assert "one thread, weights torch.float32" in text and "instruction set" in text
    lines = text.splitlines()
    assert "packed once" in lines[-3] and "GRU(4, 6)" in lines[-3]
    assert "peephole_lstm" in lines[-2] and "the layer's own kernels" in lines[-2]
    assert "packed once" in lines[-1]
    with pytest.raises(ValueError, match="input must have 4 features, got 5"):
        fastrnn.explain(stream, torch.zeros(1, 5))

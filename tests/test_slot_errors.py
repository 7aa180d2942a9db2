"""What cells and layers with slots of their own say of themselves, and refuse."""

import pytest
import torch
from slot_cells import many_back, more_back, more_in
from torch.nn.utils.rnn import pack_padded_sequence

import fastrnn
from fastrnn import backends, functional, ops

T, B, I, H = 5, 3, 4, 6  # noqa: E741


def step(x, r, state):
    return (torch.tanh(x[0] + r[0]),)


DECLARATIONS = {
    "half": (dict(inputs=2), "recurrent must be a whole number from 1 on, got None"),
    "other_half": (dict(recurrent=2), "inputs must be a whole number from 1 on, got None"),
    "both": (dict(gates=1, recurrent=1), "gates must not be given with inputs and recurrent"),
    "none": (dict(inputs=1, recurrent=1, product="none"), "recurrent must not be given with prod"),
    "extra": (dict(gates=1, extra=-1), "extra must be a whole number from 0 on, got -1"),
    "feeds": (dict(gates=1, feeds=1), r"feeds must be the place of a state .*\(states=1\), got 1"),
    "no_product": (dict(inputs=1, product="none", states=2, feeds=1), "feeds must be the place"),
    "heads": (
        dict(inputs=2, recurrent=1, product="heads"),
        "is in heads: it must have as many tensors",
    ),
    "reads_r": (
        dict(inputs=2, recurrent=1),
        r"r has 1 tensors \(recurrent=1\), and it reads r\[1\]",
    ),
    "reads_x": (
        dict(gates=2, extra=1),
        r"x has 3 tensors \(gates=2, extra=1\), and it reads x\[3\]",
    ),
}


@pytest.mark.parametrize("name", DECLARATIONS)
def test_declarations(name):
    options, words = DECLARATIONS[name]
    steps = {
        "reads_r": lambda x, r, s: (x[1] + r[1],),
        "reads_x": lambda x, r, s: (x[3] + r[1],),
    }
    with pytest.raises(ValueError, match=words):
        fastrnn.cell(**options)(steps.get(name, step))


def test_a_cell_says_what_it_is():
    assert "more_in: inputs=3, recurrent=2, extra=1, states=1, params=1>" in repr(more_in)
    assert "inputs=1, recurrent=2, extra=2, feeds=1, states=2>" in repr(more_back)
    assert (more_in.gates, more_in.recurrent, more_in.extra, more_in.feeds) == (3, 2, 1, 0)
    same = fastrnn.cell(inputs=2, recurrent=2)(lambda x, r, s: (x[0] + r[1],))
    assert same.name.endswith(fastrnn.cell(gates=2)(same.step).name.partition("@")[2])
    assert "gates=2" in repr(same)
    assert ops.weight_bits(more_in.name, 12, 3, True) == (4, 8, 16, 32, 64, 256) * 2
    assert ops.weight_bits(more_back.name, 2, 1, False) == (8, 256)
    layer = fastrnn.Recurrent(more_in, I, H, 2)
    shapes = {name: (*p.shape,) for name, p in layer.named_parameters()}
    assert shapes["weight_ih_l1"] == (3 * H, H) and shapes["weight_hh_l0"] == (2 * H, H)
    assert shapes["bias_ih_l0"] == (3 * H,) and shapes["bias_hh_l0"] == (2 * H,)


def test_errors():
    layer, plain = fastrnn.Recurrent(more_in, I, H), fastrnn.FastGRU(I, H)
    two = fastrnn.Recurrent(more_back, I, H, batch_first=True)
    x, slot = torch.randn(T, B, I), torch.randn(T, B, H)
    packed = pack_padded_sequence(x, [T] * B)
    for call, error, words in (
        (lambda: plain(x, extra=slot), ValueError, "extra must be None: the layer's cell has no"),
        (lambda: layer(x), ValueError, "extra must be 1 Tensors, one for each .*, got NoneType"),
        (lambda: layer(x, extra=(slot, slot)), ValueError, "extra must be 1 Tensors, .*, got 2"),
        (lambda: layer(x, extra=[1.0]), TypeError, r"extra\[0\] must be a Tensor, got float"),
        (lambda: layer(x, extra=slot[1:]), ValueError, r"shape \[5, 3, 6\] .*got \[4, 3, 6\]"),
        (lambda: layer(packed, extra=slot), ValueError, r"shape \[15, 6\] \(rows, hidden"),
        (lambda: layer(x, extra=slot.double()), ValueError, "the input's dtype torch.float32, got"),
        (lambda: two(x.transpose(0, 1), extra=(slot, slot)), ValueError, r"got \[3, 5, 6\]"),
        (
            lambda: functional.scan(more_in, torch.randn(T, B, 18), torch.randn(12, H), None, x[0]),
            ValueError, "state must have tensors of shape",
        ),
        (
            lambda: functional.scan(
                more_in, torch.randn(T, B, 18), torch.randn(18, H), None, slot[0]
            ),
            ValueError, r"weight_hh must have shape \[R\*H, H\] with R = 2, got \[18, 6\]",
        ),
        (
            lambda: functional.scan(
                more_in, torch.randn(T, B, 18), torch.randn(12, H), None, slot[0],
                params=torch.randn(1, H),
            ),
            ValueError, "extra must have 1 tensors for the cell more_in, got 0",
        ),
    ):  # fmt: skip
        with pytest.raises(error, match=words):
            call()


def test_cuda_says_why_not():
    for cell, words in (
        (many_back, "no cell whose x and r differ in slots"),
        (fastrnn.cell(gates=1, extra=1)(step), "no cell with extra slots, or that feeds another"),
    ):
        with pytest.raises(RuntimeError, match=words):
            backends.choose(cell.name, "cuda", torch.float32, "cuda")

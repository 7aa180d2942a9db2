"""zoneout= and recurrent_dropout=: against a loop with the same masks, in float64."""

import copy
import itertools
import pickle

import pytest
import torch
from helpers import DEVICE, assert_same, backends, fast, flat, gradients, randn, slow_but
from masked_loop import by_hand
from torch import nn
from torch.autograd import gradcheck
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import fastrnn
from fastrnn import FastGRU, FastLSTM, FastRNN, cells
from fastrnn.zoo import MinGRU

F64 = torch.float64
T, B, I, H = 5, 3, 4, 6  # noqa: E741
LAYERS = ("lstm", "gru", "rnn_tanh")
OPTIONS = {
    "zoneout": dict(zoneout=0.4),
    "dropout": dict(recurrent_dropout=0.4),
    "each_step": dict(recurrent_dropout=0.4, recurrent_mask="step"),
    "both": dict(zoneout=0.3, recurrent_dropout=0.3),
}


def start(cell, rows):
    return [randn(rows, B, H, dtype=F64, grad=True) for _ in range(cells.get(cell).states)]


def hx(state):
    return tuple(state) if len(state) > 1 else state[0]


def twice(*calls):
    """Each called with the same seed."""
    results = []
    for call in calls:
        torch.manual_seed(7)
        results.append(flat(call()))
    return results


def compare(layer, ours, exact, *inputs):
    inputs = [*inputs, *layer.parameters()]
    assert_same(ours, exact, 1e-11)
    assert_same(gradients(ours, inputs), gradients(exact, inputs), 1e-9)


@backends(F64)
@pytest.mark.parametrize(
    "case",
    slow_but(
        [("gru", "zoneout"), ("gru", "both"), ("lstm", "dropout"), ("lstm", "each_step")],
        list(itertools.product(LAYERS, OPTIONS)),
    ),
    ids="-".join,
)
def test_against_a_loop(case, backend, poisoned):
    cell, option = case
    layer = fast(cell, I, H, 2, bidirectional=True, dtype=F64, backend=backend, **OPTIONS[option])
    x, state = randn(T, B, I, dtype=F64, grad=True), start(cell, 4)
    for given in (state, None):
        ours, exact = twice(
            lambda given=given: layer(x, given and hx(given)),
            lambda given=given: by_hand(layer, x, given),
        )
        compare(layer, ours, exact, x, *(given or ()))
    assert not torch.equal(layer(x)[0], layer(x)[0]), "the masks are the same in every call"
    layer.eval()
    exact = by_hand(layer, x, state)
    compare(layer, flat(layer(x, hx(state))), exact, x, *state)
    if "zoneout" not in OPTIONS[option]:
        assert layer.scanned == layer.cell
        assert_same(flat(layer(x)), flat(fast_twin(layer)(x)), 0.0)


def fast_twin(layer):
    twin = copy.deepcopy(layer)
    twin.zoneout, twin.recurrent_dropout = (), 0.0
    return twin


@backends(F64)
@pytest.mark.parametrize("cell", slow_but(["gru"], ["lstm", "gru"]))
@pytest.mark.parametrize("how", ["resets", "lengths", "packed", "few_rows"])
def test_ragged_and_resets(cell, how, backend):
    layer = fast(cell, I, H, bidirectional=True, dtype=F64, backend=backend, **OPTIONS["both"])
    x, state, lengths = randn(T, B, I, dtype=F64, grad=True), start(cell, 2), None
    if how == "resets":
        resets = (torch.rand(T, B) < 0.4).to(DEVICE)
        ours, exact = twice(
            lambda: layer(x, hx(state), resets=resets),
            lambda: by_hand(layer, x, state, resets=resets),
        )
    elif how == "lengths":
        lengths = [2, 0, 5]
        ours, exact = twice(
            lambda: layer(x, hx(state), lengths=lengths),
            lambda: by_hand(layer, x, state, lengths),
        )
    elif how == "packed":  # rows that are as long as each other: their masks are those of a batch
        packed = pack_padded_sequence(x, [T] * B)
        output, exact = twice(lambda: layer(packed, hx(state)), lambda: by_hand(layer, x, state))
        ours = [output[0].view(T, B, -1), *output[1:]]
    else:
        state = [s[:, :1].detach().requires_grad_() for s in state]
        x = x[:, :1].detach().requires_grad_()
        ours, exact = twice(lambda: layer(x, hx(state)), lambda: by_hand(layer, x, state))
    compare(layer, ours, exact, x, *state)


@backends(F64)
def test_same_mask_in_every_step_of_packed_rows(backend):
    """A unit that is hidden from the next step is hidden in all, whatever a row's length."""
    layer = fast("rnn_identity", 1, 4, bias=False, dtype=F64, backend=backend,
                 recurrent_dropout=0.5)  # fmt: skip
    torch.manual_seed(1)
    with torch.no_grad():
        layer.weight_ih_l0.fill_(1)
        layer.weight_hh_l0.copy_(torch.eye(4))
    lengths = [2, 6, 4]
    x = torch.ones(6, 3, 1, dtype=F64, device=DEVICE)
    for call in (
        lambda: pad_packed_sequence(layer(pack_padded_sequence(x, lengths, False, False))[0])[0],
        lambda: layer(x, lengths=lengths)[0],
    ):
        output = call()
        for row, length in enumerate(lengths):
            steps = output[:length, row]
            kept = steps[1] > 1  # h' = 1 + 2 h where it is kept, 1 where not
            want = [2.0 ** (i + 1) - 1 for i in range(length)]
            for i in range(length):
                expected = torch.where(kept, want[i], 1.0)
                assert_same(steps[i], expected.to(F64), 1e-12)
    assert len({*output[1].flatten().tolist()}) == 2, "no mask was drawn"


@pytest.mark.parametrize("option", slow_but(["both"], ["both", "each_step"]))
def test_gradcheck(option):
    layer = FastGRU(2, 3, bidirectional=True, dtype=F64, **OPTIONS[option])
    x, state = randn(3, 2, 2, dtype=F64, grad=True), randn(2, 2, 3, dtype=F64, grad=True)

    def call(x, state):
        torch.manual_seed(3)
        return tuple(flat(layer(x, state)))

    assert gradcheck(call, (x, state), fast_mode=True)


def test_rates():
    """What the masks are, on average; units of a row, of a batch and of layers differ."""
    layer = FastRNN(4, 500, nonlinearity="identity", zoneout=0.3, backend="reference")
    x = torch.ones(8, 4, 4)
    output = layer(x, torch.full((1, 4, 500), 77.0))[0]
    kept = (output[0] == 77.0).float()
    assert (kept.mean() - 0.3).abs() < 0.05
    assert not torch.equal(kept[0], kept[1])
    two = FastLSTM(4, 500, zoneout=(0.0, 0.5), backend="reference")
    hidden, cell = torch.full((1, 4, 500), 0.5), torch.full((1, 4, 500), 55.0)
    h, (_, c) = two(x[:1], (hidden, cell))
    assert not (h == 0.5).any() and ((c == 55.0).float().mean() - 0.5).abs() < 0.06


@pytest.mark.parametrize("make", [FastRNN, FastLSTM, FastGRU, MinGRU])
def test_options_travel(make):
    options = dict(zoneout=0.1, recurrent_dropout=0.25, recurrent_mask="step")
    layer = make(4, 6, **options, backend="reference")
    words = "zoneout=0.1, recurrent_dropout=0.25, recurrent_mask='step'"
    assert words in repr(layer) and "zoneout" not in repr(make(4, 6))
    x = torch.randn(3, 2, 4)
    copies = copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))
    for other in copies:
        assert words in repr(other)
        ours, theirs = twice(lambda: layer(x), lambda other=other: other(x))
        assert_same(ours, theirs, 0.0)
    assert layer.state_dict().keys() == make(4, 6).state_dict().keys()


def test_accelerate_and_restore():
    model = nn.Sequential(nn.LSTM(4, 6))
    made = fastrnn.accelerate(model)[0]
    assert (made.zoneout, made.recurrent_dropout) == ((), 0.0) and made.scanned == "lstm"
    made.zoneout = (0.1, 0.1)
    assert fastrnn.restore(model, report=True)[1] == {"0": "torch.nn has no zoneout"}
    made.zoneout = ()
    assert type(fastrnn.restore(model)[0]) is nn.LSTM
    plain = fastrnn.restore(FastGRU(4, 6, zoneout=0.0, recurrent_dropout=0.0))
    assert type(plain) is nn.GRU and not hasattr(plain, "zoneout")


def test_explain_names_the_cell():
    layer = FastGRU(4, 6, dtype=F64, zoneout=0.2, recurrent_dropout=0.1)
    x = torch.randn(3, 2, 4, dtype=F64)
    assert "serve gru_zoneout_dropout on cpu" in fastrnn.explain(layer, x)
    assert "serve gru_zoneout on cpu" in fastrnn.explain(layer.eval(), x)


def test_errors():
    for options, words in (
        (dict(zoneout=1.0), "zoneout must be a number from 0 on and below 1, got 1.0"),
        (dict(zoneout=(0.1,)), "zoneout must be a rate, or one for each of the 2 states, got"),
        (dict(zoneout=True), "zoneout must be a number .*, got True"),
        (dict(recurrent_dropout=-0.1), "recurrent_dropout must be a number .*, got -0.1"),
        (dict(recurrent_mask="row"), "recurrent_mask must be one of sequence, step, got 'row'"),
        (dict(zoneout=0.1, proj_size=3), "zoneout must be 0 with proj_size, got 0.1"),
        (dict(recurrent_dropout=0.1, proj_size=3), "recurrent_dropout must be 0 with proj_size"),
    ):
        with pytest.raises(ValueError, match=words):
            FastLSTM(4, 6, **options)


def test_extra_slots_and_masks_together():
    @fastrnn.cell(gates=1, extra=1)
    def gated(x, r, state):
        return (torch.tanh(x[0] + r[0]) * x[1] + 0.5 * state[0],)

    layer = fastrnn.Recurrent(gated, I, H, dtype=F64, zoneout=0.5, recurrent_dropout=0.5)
    x, slot = randn(T, B, I, dtype=F64, grad=True), randn(T, B, H, dtype=F64, grad=True)
    results = {}
    for backend in ("native", "reference"):
        layer.backend = backend
        (results[backend],) = twice(lambda: layer(x, extra=slot))
    inputs = [x, slot, *layer.parameters()]
    assert_same(*results.values(), 1e-12)
    assert_same(*(gradients(r, inputs) for r in results.values()), 1e-11)


def test_compiled():
    torch._dynamo.reset()
    layer = FastGRU(I, H, bidirectional=True, dtype=F64, **OPTIONS["both"])
    x = randn(T, B, I, dtype=F64, grad=True)
    for mode in (True, False):
        layer.train(mode)
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        a, b = twice(lambda c=compiled: c(x), lambda: layer(x))
        assert_same(a, b, 1e-12)
        inputs = [x, *layer.parameters()]
        assert_same(gradients(a, inputs), gradients(b, inputs), 1e-11)
    torch._dynamo.reset()

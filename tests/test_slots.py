"""Cells whose x and r differ in slots, with slots from the caller, and what W_hh multiplies."""

import pytest
import torch
from helpers import DEVICE, assert_same, backends, flat, gradients, randn, slow_but
from recurrent_cells import F64, by_hand, layer_of
from slot_cells import many_back, more_back, more_in
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import fastrnn
from fastrnn import functional

CELLS = (more_in, more_back)
EVERY = (*CELLS, many_back)
T, B, I, H = 5, 3, 4, 6  # noqa: E741
each_cell = pytest.mark.parametrize("cell", EVERY, ids=[c.title for c in EVERY])


def given(cell, *shape, dtype=F64):
    return tuple(randn(*shape, dtype=dtype, grad=True) for _ in range(cell.extra))


def states(cell, *shape, dtype=F64):
    made = tuple(randn(*shape, dtype=dtype, grad=True) for _ in range(cell.states))
    return made if cell.states > 1 else made[0]


def compare(layer, ours, exact, *inputs, tolerance=1e-9):
    inputs = [*inputs, *layer.parameters()]
    assert_same(ours, exact, 1e-11)
    assert_same(gradients(flat(ours), inputs), gradients(exact, inputs), tolerance)


FORMS = {
    "one": {},
    "two_layers": dict(num_layers=2, bidirectional=True),
    "no_bias": dict(bias=False, bidirectional=True),
    "recompute": dict(recompute_gates=True, num_layers=2),
}


@backends(F64)
@each_cell
@pytest.mark.parametrize("form", FORMS)
def test_against_a_loop(cell, backend, form, poisoned):
    hx = form in ("one", "two_layers")
    layer = layer_of(cell, I, H, backend=backend, **FORMS[form])
    x, extra = randn(T, B, I, dtype=F64, grad=True), given(cell, T, B, H)
    state = states(cell, len(layer.all_weights), B, H) if hx else None
    exact = by_hand(layer, x, flat(state) if hx else None, extra=extra)
    ours = layer(x, state, extra=extra if cell.extra else None)
    compare(layer, ours, exact, x, *extra, *(flat(state) if hx else ()))


@backends(F64)
@each_cell
@pytest.mark.parametrize("how", ["resets", "lengths", "lengths_and_resets", "packed", "one_row"])
def test_ragged_and_resets(cell, backend, how, poisoned):
    layer = layer_of(cell, I, H, 2, bidirectional=True, backend=backend)
    x, extra = randn(T, B, I, dtype=F64, grad=True), given(cell, T, B, H)
    state = states(cell, 4, B, H)
    resets = (torch.rand(T, B) < 0.4).to(DEVICE) if "resets" in how else None
    lengths = [2, 1, 5] if how == "packed" else [2, 0, 5] if "lengths" in how else None
    exact = by_hand(layer, x, flat(state), lengths, resets, extra)
    slots = extra or None
    if how == "packed":
        pack = [pack_padded_sequence(t, lengths, enforce_sorted=False) for t in (x, *extra)]
        output, final = layer(pack[0], state, extra=pack[1:] or None)
        ours = [pad_packed_sequence(output)[0], *flat(final)]
        data = layer(pack[0], state, extra=[p.data for p in pack[1:]] or None)[0].data
        assert torch.equal(data, output.data)
    elif how == "one_row":
        one = [s[:, :1] for s in flat(state)]
        ours = flat(layer(x[:, :1], tuple(one) if cell.states > 1 else one[0],
                          extra=[e[:, :1] for e in extra] or None))  # fmt: skip
        assert_same(ours, [t[:, :1] for t in exact], 1e-11)
        return
    else:
        ours = flat(layer(x, state, lengths=lengths, resets=resets, extra=slots))
    compare(layer, ours, exact, x, *extra, *flat(state))


@backends(F64, kernels=True)
@each_cell
@pytest.mark.parametrize("t", [1, 3, 20])
@pytest.mark.parametrize("h", slow_but([17], [1, 17, 64]))
def test_sizes(cell, backend, t, h, poisoned):
    """Few steps, where weights are not packed, and many; panels that are not full."""
    for b in (1, 40 // t):
        layer = layer_of(cell, 3, h, backend=backend)
        x, extra = randn(t, b, 3, dtype=F64, grad=True), given(cell, t, b, h)
        state = states(cell, 1, b, h)
        exact = by_hand(layer, x, flat(state), extra=extra)
        compare(layer, layer(x, state, extra=extra or None), exact, x, *extra, *flat(state))
        with torch.no_grad():
            assert_same(flat(layer(x, state, extra=extra or None)), exact, 1e-11)


@backends(kernels=True)
@each_cell
@pytest.mark.parametrize("b", slow_but([1], [1, 3, 9]))
def test_threads_share_units_or_rows(cell, backend, b):
    """Long enough for several threads; their number does not show in a bit."""
    layer = layer_of(cell, 8, 200, bidirectional=True, dtype=F64, backend=backend)
    t = 120
    x, extra = randn(t, b, 8, dtype=F64, grad=True), given(cell, t, b, 200)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            result = flat(layer(x, extra=extra or None))
            results.append([*result, *gradients(result, [x, *extra, *layer.parameters()])])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, results[0]))


@backends(kernels=True)
@pytest.mark.parametrize("cell", slow_but([more_back], EVERY), ids=lambda c: c.title)
def test_bfloat16(cell, backend):
    exact = fastrnn.Recurrent(cell, 20, 33, 2, bidirectional=True, backend="reference")
    layer = layer_of(cell, 20, 33, 2, bidirectional=True, dtype=torch.bfloat16, backend=backend)
    exact = exact.to(DEVICE, F64)
    exact.load_state_dict(layer.state_dict())
    x, *extra = (randn(40, 5, n, dtype=torch.bfloat16, grad=True) for n in (20, *[33] * cell.extra))
    wide = [t.detach().double().requires_grad_() for t in (x, *extra)]
    ours, theirs = layer(x, extra=extra or None), exact(wide[0], extra=wide[1:] or None)
    assert_same(ours, theirs, 0.06)
    pairs = zip(
        gradients(ours, [x, *extra, *layer.parameters()]),
        gradients(theirs, [*wide, *exact.parameters()]),
    )
    for a, b in pairs:
        assert (a.double() - b).norm() <= 0.05 * b.norm()


@backends(F64)
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.title)
def test_scan(cell, backend):
    """functional.scan, forwards and back, padded and packed."""
    layer = layer_of(cell, cell.gates * H, H, bidirectional=True, backend=backend)
    with torch.no_grad():  # an input projection that does nothing
        for side in ("", "_reverse"):
            getattr(layer, f"weight_ih_l0{side}").copy_(torch.eye(cell.gates * H))
            getattr(layer, f"bias_ih_l0{side}").zero_()
    gx, extra = randn(T, B, cell.gates * H, dtype=F64, grad=True), given(cell, T, B, H)
    state = states(cell, 2, B, H)
    for side, suffix in enumerate(("", "_reverse")):
        exact = by_hand(layer, gx, flat(state), extra=extra)
        w_hh, b_hh, params = (
            getattr(layer, f"{n}_l0{suffix}", None) for n in ("weight_hh", "bias_hh", "params")
        )
        start = tuple(s[side] for s in flat(state))
        options = dict(params=params, extra=extra, reverse=side == 1, backend=backend)
        output, final = functional.scan(cell, gx, w_hh, b_hh, start, **options)
        mine = [exact[0][..., side * H : (side + 1) * H], *(s[side] for s in exact[1:])]
        assert_same([output, *final], mine, 1e-11)
        inputs = [t for t in (gx, w_hh, b_hh, params, *extra, *flat(state)) if t is not None]
        assert_same(gradients([output, *final], inputs), gradients(mine, inputs), 1e-10)
        packed = pack_padded_sequence(gx, [T] * B)
        options |= dict(batch_sizes=packed.batch_sizes, extra=[e.flatten(0, 1) for e in extra])
        again, _ = functional.scan(cell, packed.data, w_hh, b_hh, start, **options)
        assert_same(again.view(output.shape), output, 1e-12)


@backends(F64, kernels=True)
def test_expanded_slots_are_read_where_they_lie(backend):
    layer = layer_of(more_in, I, H, bidirectional=True, backend=backend)
    x = randn(T, B, I, dtype=F64)
    row, number = randn(B, H, dtype=F64, grad=True), randn(1, dtype=F64, grad=True)
    strided = randn(T, 2 * B, 2 * H, dtype=F64, grad=True)
    for slot, leaf in (
        (row.expand(T, B, H), row), (number.expand(T, B, H), number),
        (strided[:, ::2, ::2], strided), (strided[:, :B, :H], strided),
    ):  # fmt: skip
        ours, exact = layer(x, extra=slot), by_hand(layer, x, extra=(slot,))
        assert_same(ours, exact, 1e-11)
        assert_same(gradients(flat(ours), [leaf]), gradients(exact, [leaf]), 1e-9)


@backends(F64, kernels=True)
def test_what_is_not_wanted_is_not_made(backend):
    """Slots that need no gradient, and slots that alone do."""
    layer = layer_of(more_in, I, H, backend=backend)
    x, slot = randn(T, B, I, dtype=F64), randn(T, B, H, dtype=F64)
    grads = gradients(layer(x, extra=slot), layer.parameters())
    assert_same(grads, gradients(by_hand(layer, x, extra=(slot,)), layer.parameters()), 1e-9)
    layer.requires_grad_(False)
    slot.requires_grad_()
    grads = gradients(layer(x, extra=slot), [slot])
    assert_same(grads, gradients(by_hand(layer, x, extra=(slot,)), [slot]), 1e-9)


@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.title)
def test_derivatives(cell):
    layer = layer_of(cell, 2, 2, bidirectional=True)
    x, extra, state = (
        randn(3, 2, 2, dtype=F64, grad=True),
        given(cell, 3, 2, 2),
        states(cell, 2, 2, 2),
    )

    def call(x, *tensors):
        slots, start = tensors[: cell.extra], tensors[cell.extra :]
        return tuple(flat(layer(x, start if cell.states > 1 else start[0], extra=slots)))

    assert gradcheck(call, (x, *extra, *flat(state)), fast_mode=True)
    assert gradgradcheck(call, (x, *extra, *flat(state)), fast_mode=True)


@pytest.mark.parametrize("lengths", [None, [2, 0, 5]], ids=["dense", "lengths"])
def test_compiled(lengths):
    torch._dynamo.reset()
    layer = layer_of(more_back, I, H, bidirectional=True)
    x, extra = randn(T, B, I, dtype=F64, grad=True), given(more_back, T, B, H)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    options = dict(lengths=None if lengths is None else torch.tensor(lengths), extra=extra)
    a, b = flat(compiled(x, **options)), flat(layer(x, **options))
    inputs = [x, *extra, *layer.parameters()]
    assert_same(a, b, 1e-12)
    assert_same(gradients(a, inputs), gradients(b, inputs), 1e-11)
    torch._dynamo.reset()


def test_layouts():
    layer = layer_of(more_back, I, H, batch_first=True)
    x, extra = randn(B, T, I, dtype=F64), given(more_back, B, T, H)
    exact = by_hand(layer, x.transpose(0, 1), extra=[e.transpose(0, 1) for e in extra])
    assert_same(layer(x, extra=extra)[0], exact[0].transpose(0, 1), 1e-11)
    alone = layer(x[1], extra=[e[1] for e in extra])
    assert_same(alone[0], exact[0][:, 1], 1e-11)

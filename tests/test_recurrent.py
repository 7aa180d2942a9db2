"""fastrnn.Recurrent: the layer of any cell against a loop in plain torch, in float64."""

import pytest
import torch
from helpers import DEVICE, assert_same, backends, flat, gradients, hx, randn
from recurrent_cells import EVERY, EVERY_TITLE, F64, by_hand, layer_of
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call, grad, jvp, vmap
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from fastrnn import functional

each_new_cell = pytest.mark.parametrize("cell", EVERY, ids=EVERY_TITLE)
T, B, I, H = 5, 3, 4, 6  # noqa: E741
SIZES = I, H
LENGTHS = [2, 0, 5]


def some_hx(cell, *shape, dtype=F64):
    return hx(cell.name, *shape, dtype=dtype, grad=True)


def compare(layer, ours, exact, *inputs):
    """Results, and the gradients of all inputs and weights."""
    inputs = [*inputs, *layer.parameters()]
    assert_same(ours, exact, 1e-11)
    assert_same(gradients(flat(ours), inputs), gradients(exact, inputs), 1e-9)


FORMS = {
    "one": {},
    "two_ways": dict(bidirectional=True),
    "two_layers": dict(num_layers=2, bidirectional=True),
    "no_bias": dict(bias=False, num_layers=2),
    "recompute": dict(recompute_gates=True),
}


@backends(F64)
@each_new_cell
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("given", [False, True], ids=["zeros", "hx"])
def test_against_a_loop(cell, backend, form, given, poisoned):
    layer = layer_of(cell, *SIZES, backend=backend, **FORMS[form])
    x = randn(T, B, I, dtype=F64, grad=True)
    state = some_hx(cell, len(layer.all_weights), B, H) if given else None
    exact = by_hand(layer, x, flat(state) if given else None)
    result = layer(x, state)
    assert type(result[1]) is (tuple if cell.states > 1 else torch.Tensor)
    compare(layer, result, exact, x, *(flat(state) if given else ()))


@backends(F64)
@each_new_cell
def test_layouts(cell, backend):
    layer = layer_of(cell, *SIZES, num_layers=2, bidirectional=True, backend=backend)
    x, state = randn(T, B, I, dtype=F64, grad=True), some_hx(cell, 4, B, H)
    exact = by_hand(layer, x, flat(state))
    alone = [s[:, 1] for s in flat(state)]
    output, final = layer(x[:, 1], tuple(alone) if cell.states > 1 else alone[0])
    assert_same([output, *flat(final)], [exact[0][:, 1], *(s[:, 1] for s in exact[1:])], 1e-12)
    layer.batch_first = True
    output, final = layer(x.transpose(0, 1), state)
    compare(layer, [output.transpose(0, 1), *flat(final)], exact, x, *flat(state))


@backends(F64)
@each_new_cell
@pytest.mark.parametrize("form", ["one", "two_layers"])
@pytest.mark.parametrize("how", ["resets", "lengths", "lengths_and_resets", "packed"])
def test_ragged_and_resets(cell, backend, form, how, poisoned):
    layer = layer_of(cell, *SIZES, backend=backend, **FORMS[form])
    x = randn(T, B, I, dtype=F64, grad=True)
    state = some_hx(cell, len(layer.all_weights), B, H)
    resets = (torch.rand(T, B) < 0.4).to(DEVICE) if "resets" in how else None
    lengths = [2, 1, 5] if how == "packed" else LENGTHS if "lengths" in how else None
    exact = by_hand(layer, x, flat(state), lengths, resets)
    if how == "packed":
        packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
        output, final = layer(packed, state)
        ours = [pad_packed_sequence(output)[0], *flat(final)]
    else:
        ours = flat(layer(x, state, lengths=lengths, resets=resets))
    compare(layer, ours, exact, x, *flat(state))


@backends(F64)
@each_new_cell
def test_dropout(cell, backend):
    layer = layer_of(cell, *SIZES, num_layers=3, dropout=0.4, backend=backend)
    x = randn(T, B, I, dtype=F64, grad=True)
    results = []
    for call in (layer, lambda x: by_hand(layer, x)):
        torch.manual_seed(5)
        results.append(flat(call(x)))
    compare(layer, *results, x)
    assert not torch.equal(results[0][0], layer(x)[0]), "dropout did nothing"
    assert_same(flat(layer.eval()(x)), by_hand(layer, x), 1e-12)


@backends()
@each_new_cell
def test_autocast(cell, backend):
    layer = layer_of(cell, *SIZES, num_layers=2, dtype=torch.float32, backend=backend)
    x = randn(T, B, I, grad=True)
    with torch.autocast(DEVICE, torch.bfloat16):
        result = layer(x)
    assert {t.dtype for t in flat(result)} == {torch.bfloat16}
    exact = by_hand(layer, x)
    assert_same(flat(result), exact, 0.05)
    inputs = [x, *layer.parameters()]
    ours = gradients([t.float() for t in flat(result)], inputs)
    assert all(g.dtype == torch.float32 for g in ours)
    theirs = gradients(exact, inputs)
    assert_same(ours, theirs, 0.1 * max(g.abs().max().item() for g in theirs))


@backends(F64)
@each_new_cell
def test_frozen_weights(cell, backend):
    """What needs no gradient gets none, and the others the same."""
    layer = layer_of(cell, *SIZES, bidirectional=True, backend=backend)
    x = randn(T, B, I, dtype=F64)
    all_of_them = dict(layer.named_parameters())
    exact = dict(zip(all_of_them, gradients(by_hand(layer, x), all_of_them.values())))
    for kind in ("weight_ih", "weight_hh", "bias_hh", "params"):
        for name, weight in all_of_them.items():
            weight.requires_grad_(name.startswith(kind))
        wanted = [name for name in all_of_them if name.startswith(kind)]
        if wanted:
            ours = gradients(layer(x), [all_of_them[name] for name in wanted])
            assert_same(ours, [exact[name] for name in wanted], 1e-10)


@backends(F64)
@each_new_cell
def test_gradcheck(cell, backend):
    layer = layer_of(cell, 2, 2, backend=backend)
    x, state = randn(2, 2, 2, dtype=F64, grad=True), some_hx(cell, 1, 2, 2)
    names = [name for name, _ in layer.named_parameters()]
    weights = [p.detach().clone().requires_grad_() for p in layer.parameters()]
    resets = torch.tensor([[False, False], [False, True]], device=DEVICE)

    def call(x, *tensors):
        weights, state = tensors[: len(names)], tensors[len(names) :]
        state = state if len(state) > 1 else state[0]
        parameters = dict(zip(names, weights))
        return tuple(flat(functional_call(layer, parameters, (x, state), dict(resets=resets))))

    assert gradcheck(call, (x, *weights, *flat(state)))
    assert gradgradcheck(call, (x, *weights, *flat(state)), fast_mode=True)


@backends(F64)
@each_new_cell
def test_torch_func(cell, backend):
    layer = layer_of(cell, *SIZES, bidirectional=True, backend=backend)
    weights = {n: p.detach() for n, p in layer.named_parameters()}
    xs = randn(3, T, B, I, dtype=F64)

    def loss(weights, x):
        return functional_call(layer, weights, (x,))[0].pow(2).sum()

    mapped = vmap(grad(loss), in_dims=(None, 0))(weights, xs)
    for k, x in enumerate(xs):
        value = by_hand(layer, x)[0].pow(2).sum()
        alone = torch.autograd.grad(value, list(layer.parameters()))
        assert_same([g[k] for g in mapped.values()], alone, 1e-10)

    v, eps = randn(T, B, I, dtype=F64), 1e-6
    values, tangents = jvp(lambda x: tuple(flat(layer(x))), (xs[0],), (v,))
    assert_same(values, by_hand(layer, xs[0]), 1e-12)
    ends = by_hand(layer, xs[0] + eps * v), by_hand(layer, xs[0] - eps * v)
    assert_same(tangents, [(a - b) / (2 * eps) for a, b in zip(*ends)], 1e-7)


@backends(F64)
@each_new_cell
@pytest.mark.parametrize("kind", ["plain", "ragged", "resets", "reverse", "no_bias"])
def test_scan(cell, backend, kind):
    """functional.scan is the layer without its input projection; it takes the cell itself."""
    options = dict(bidirectional=True, bias=kind != "no_bias", backend=backend)
    one = layer_of(cell, cell.gates * H, H, **options)
    suffix = "_reverse" if kind == "reverse" else ""
    with torch.no_grad():  # an input projection that does nothing
        getattr(one, "weight_ih_l0" + suffix).copy_(torch.eye(cell.gates * H))
        if kind != "no_bias":
            getattr(one, "bias_ih_l0" + suffix).zero_()
    gx, state = randn(T, B, cell.gates * H, dtype=F64, grad=True), some_hx(cell, 2, B, H)
    lengths = [5, 2, 1] if kind == "ragged" else None
    resets = (torch.rand(T, B) < 0.4).to(DEVICE) if kind == "resets" else None
    exact = by_hand(one, gx, flat(state), lengths, resets)
    side = 1 if suffix else 0
    exact = [exact[0][..., side * H : (side + 1) * H], *(s[side] for s in exact[1:])]
    w_hh, b_hh, params = (
        getattr(one, f"{name}_l0{suffix}", None) for name in ("weight_hh", "bias_hh", "params")
    )
    options = dict(params=params, resets=resets, reverse=bool(suffix), backend=backend)
    steps = gx
    if lengths:
        packed = pack_padded_sequence(gx, lengths)
        steps, options["batch_sizes"] = packed.data, packed.batch_sizes
    start = tuple(s[side] for s in flat(state))
    output, final = functional.scan(cell, steps, w_hh, b_hh, start, **options)
    by_name = functional.scan(cell.name, steps, w_hh, b_hh, start, **options)
    assert_same(flat(by_name), flat((output, final)), 0.0)
    if lengths:
        output = pad_packed_sequence(packed._replace(data=output))[0]
    inputs = [t for t in (gx, w_hh, b_hh, params, *flat(state)) if t is not None]
    assert_same([output, *final], exact, 1e-11)
    assert_same(gradients([output, *final], inputs), gradients(exact, inputs), 1e-10)

"""The private ops against the reference, and torch's own check of their schemas and fakes."""

import pytest
import torch
from helpers import (
    CELLS,
    DEVICE,
    assert_same,
    backend_of,
    backends,
    each_cell,
    flat,
    kernels,
    oracle,
    problem,
    randn,
)

from fastrnn import cells, graph, ops, schemas

KINDS = {
    "dense": {},
    "ragged": dict(batch_sizes=torch.tensor([3, 2, 2, 1])),
    "ready_gx": dict(project=False),
    "resets": dict(resets=True),
}


def arguments(
    cell, batch_sizes=None, resets=False, directions=1, project=True, dtype=torch.float32, size=None
):
    sizes = size or (4, 3, 5, 6)  # T, B, I, H
    input, weights, state = problem(cell, *sizes, directions, True, project, dtype)
    input, weights, state = (
        input.detach(),
        [w.detach() for w in weights],
        [s.detach() for s in state],
    )
    if batch_sizes is not None:
        input = input.flatten(0, 1)[: int(batch_sizes.sum())].clone()
    mask = (torch.rand(input.shape[:-1]) < 0.4).to(DEVICE) if resets else None
    return cell, input, weights, state, batch_sizes, mask, directions, project


@pytest.mark.skipif(not ops.NATIVE_BUILT, reason="the native library is not built")
def test_native_schemas_are_those_of_python(monkeypatch):
    schemas.check_native()
    flat = torch.ops.fastrnn.forward_flat, torch.ops.fastrnn.backward_flat
    for op, schema in zip(flat, (graph.FORWARD_SCHEMA, graph.BACKWARD_SCHEMA)):
        assert str(op.default._schema) == op.default.name() + schema
    monkeypatch.setattr(schemas, "FORWARD", schemas.FORWARD.replace("int save", "bool save"))
    with pytest.raises(ImportError, match="fastrnn::forward must be .*bool save.* got .*int save"):
        schemas.check_native()


@backends(kernels=True)
@pytest.mark.parametrize(
    "cell, kind",
    [(cell, "dense") for cell in CELLS if cell != "lstm"] + [("lstm", kind) for kind in KINDS],
)
def test_opcheck(cell, kind, backend):
    forward, backward = kernels(backend)
    args = arguments(cell, **KINDS[kind])
    _, input, weights, state, batch_sizes, resets, directions, project = args
    saves = [ops.SAVE_NOTHING, ops.SAVE_ALL]
    if backend_of(backend).recomputes:
        saves.append(ops.SAVE_PARTIAL)
    for save in saves:
        torch.library.opcheck(forward, (*args, save))
        output, final, saved = forward(*args, save)
        if save == ops.SAVE_NOTHING:
            continue
        grads = (cell, output, final, input, weights, state, output, saved, batch_sizes, resets)
        every = ops.NEED_WEIGHTS | ops.NEED_INPUT * (kind != "ready_gx")
        for needs in (every | ops.NEED_STATE, every, ops.NEED_INPUT | ops.WEIGHT_BITS[1]):
            torch.library.opcheck(backward, (*grads, directions, project, needs))


@backends(kernels=True, interpreted=True)
@each_cell()
def test_saved_values(cell, backend):
    """saved is [D, N, K+S-1, H]: the cell's values, then the carried states after the step."""
    spec = cells.get(cell)
    forward, _ = kernels(backend)
    args = arguments(cell, directions=3)
    output, final, saved = forward(*args, ops.SAVE_ALL)
    assert saved.shape == (2, 12, spec.saved + spec.states - 1, 6)
    assert forward(*args, ops.SAVE_NOTHING)[2].numel() == 0
    if spec.states > 1:
        c = saved.unflatten(1, (4, 3))[..., -1, :]
        assert_same(final[1], torch.stack([c[0, -1], c[1, 0]]), 0.0)


NEED_ALL = ops.NEED_ALL
SIZES = {  # T, B, I, H: of one step; several blocks of rows; a long sum and a panel in part
    "one_step": (1, 3, 5, 17),
    "blocks": (70, 33, 9, 40),
    "wide": (6, 3, 300, 290),
}


@backends(kernels=True)
@each_cell()
@pytest.mark.parametrize("kind", [*KINDS, "one_step", "blocks", "wide"])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_partial_saving(cell, kind, threads, backend):
    """What backward recomputes is what forward would have saved, to the last bit."""
    spec, (forward, backward) = cells.get(cell), kernels(backend)
    options = dict(KINDS.get(kind, dict(resets=True, directions=3)), size=SIZES.get(kind))
    for dtype in (torch.float32, torch.float64):
        args = arguments(cell, **options, dtype=dtype)
        _, input, weights, state, batch_sizes, resets, directions, project = args
        if not backend_of(backend).recomputes:
            pytest.skip(f"{backend} recomputes by another forward pass")
        torch.set_num_threads(threads)
        output, final, saved = forward(*args, ops.SAVE_ALL)
        same, same_final, part = forward(*args, ops.SAVE_PARTIAL)
        assert_same([output, *final], [same, *same_final], 0.0)
        assert part.shape[2] == spec.kept + spec.states - 1
        plain, again = (
            backward(cell, torch.ones_like(output), final, input, weights, state, output, s,
                     batch_sizes, resets, directions, project, NEED_ALL)
            for s in (saved, part)
        )  # fmt: skip
        assert_same(again, plain, 0.0)


@backends(kernels=True, interpreted=True)
@each_cell()
def test_results_are_fresh(cell, backend):
    """No result shares memory with an argument, so callers may change it in place."""
    args = arguments(cell)
    output, final, _ = kernels(backend)[0](*args, ops.SAVE_NOTHING)
    given = {t.untyped_storage().data_ptr() for t in (args[1], *args[2], *args[3])}
    for tensor in (output, *final):
        assert tensor.is_contiguous()
        assert tensor.untyped_storage().data_ptr() not in given


@backends(kernels=True, interpreted=True)
@each_cell()
def test_backward_changes_nothing_it_reads(cell, backend):
    forward, backward = kernels(backend)
    args = arguments(cell, resets=True)
    _, input, weights, state, batch_sizes, resets, directions, project = args
    output, final, saved = forward(*args, ops.SAVE_ALL)
    reads = [randn(4, 3, 6), *final, input, *weights, *state, output, saved, resets]
    before = [t.clone() for t in reads]
    results = [
        backward(
            cell, reads[0], final, input, weights, state, output, saved, None, resets, 1, True, n
        )
        for n in (NEED_ALL, NEED_ALL, ops.NEED_WEIGHTS)
    ]
    assert all(torch.equal(a, b) for a, b in zip(before, reads))
    assert torch.equal(results[0][0], results[1][0])
    assert results[2][0].numel() == 0 and not results[2][2]
    assert all(torch.equal(a, b) for a, b in zip(results[0][1], results[2][1]))


@backends(kernels=True, interpreted=True)
@each_cell()
def test_any_strides(cell, backend):
    """Nothing is required to be contiguous, not even the gradient that comes in."""
    forward, backward = kernels(backend)
    _, input, weights, state, _, _, _, _ = arguments(cell)

    def strided(t):
        return torch.stack([t, t], -1)[..., 0]

    odd = strided(input), [strided(w) for w in weights], [strided(s) for s in state]
    assert not odd[0].is_contiguous()
    plain = forward(cell, input, weights, state, None, None, 1, True, ops.SAVE_ALL)
    other = forward(cell, *odd, None, None, 1, True, ops.SAVE_ALL)
    assert_same([plain[0], *plain[1]], [other[0], *other[1]], 0.0)
    grad = torch.ones(1, device=DEVICE).expand(4, 3, 6)
    zeros = [torch.zeros_like(s) for s in state]
    a = backward(cell, grad.contiguous(), zeros, input, weights, state, plain[0], plain[2],
                 None, None, 1, True, NEED_ALL)  # fmt: skip
    b = backward(cell, grad, [strided(z) for z in zeros], *odd, strided(plain[0]),
                 strided(plain[2]), None, None, 1, True, NEED_ALL)  # fmt: skip
    assert_same([a[0], *a[1], *a[2]], [b[0], *b[1], *b[2]], 1e-6)


@backends(torch.float64, kernels=True)
@each_cell()
@pytest.mark.parametrize("t", [0, 1])
def test_few_rows_or_steps(cell, backend, t):
    """A ragged batch may have rows, or nothing but rows, of length 0: h0 comes back."""
    batch_sizes = torch.tensor([1] * t, dtype=torch.int64)
    args = arguments(cell, batch_sizes, directions=3, dtype=torch.float64)
    exact = oracle(*args)
    output, final, _ = kernels(backend)[0](*args, ops.SAVE_NOTHING)
    assert_same([output, *final], exact, 1e-12)
    for final, initial in zip(exact[1:], args[3]):
        assert torch.equal(final[:, t:], initial[:, t:])


@pytest.mark.skipif(not ops.NATIVE_BUILT, reason="a contract of the native CPU kernels")
@each_cell()
@pytest.mark.parametrize("reset", [False, True], ids=["plain", "resets"])
@pytest.mark.parametrize(
    "size",
    [(1, 1, 5, 17), (1, 9, 5, 17), (4, 3, 5, 6), (2, 70, 3, 64), (40, 50, 24, 100)],
    ids=["one_row", "one_step", "few", "many", "blocks"],
)
def test_nothing_given_is_zeros(cell, size, reset):
    """No state and no gradients of final states do what zeros do, to the last bit."""
    forward, backward = torch.ops.fastrnn.forward.default, torch.ops.fastrnn.backward.default
    for dtype, threads in ((torch.float32, 1), (torch.bfloat16, 1), (torch.float64, 5)):
        torch.set_num_threads(threads)
        _, input, weights, state, _, resets, *rest = [
            [t.cpu() for t in a] if isinstance(a, list) else a.cpu() if torch.is_tensor(a) else a
            for a in arguments(cell, resets=reset, directions=3, size=size, dtype=dtype)
        ]
        zeros = [torch.zeros_like(s) for s in state]
        expected = forward(cell, input, weights, zeros, None, resets, *rest, ops.SAVE_ALL)
        without = forward(cell, input, weights, [], None, resets, *rest, ops.SAVE_ALL)
        assert_same(flat(without), flat(expected), 0.0)

        output, _, saved = expected
        kept = output, saved, None, resets, *rest
        a = backward(cell, output, zeros, input, weights, zeros, *kept, NEED_ALL)
        b = backward(cell, output, [], input, weights, [], *kept, NEED_ALL - ops.NEED_STATE)
        assert a[2] and not b[2]
        assert_same([b[0], *b[1]], [a[0], *a[1]], 0.0)


@pytest.mark.skipif(not ops.NATIVE_BUILT, reason="a contract of the native CPU kernels")
def test_what_may_be_empty():
    forward, backward = torch.ops.fastrnn.forward.default, torch.ops.fastrnn.backward.default
    _, input, weights, state, *_ = arguments("lstm", directions=3)
    input, weights, state = input.cpu(), [w.cpu() for w in weights], [s.cpu() for s in state]
    dense = "lstm", input, weights, [], None, None, 3, True, ops.SAVE_ALL
    torch.library.opcheck(forward, dense)
    output, final, saved = forward(*dense)
    kept = output, saved, None, None, 3, True
    for needs in (NEED_ALL, ops.NEED_WEIGHTS, NEED_ALL - ops.NEED_STATE):
        torch.library.opcheck(backward, ("lstm", output, [], *dense[1:4], *kept, needs))

    sizes = torch.tensor([3] * 4)
    with pytest.raises(RuntimeError, match="state must be 2 tensors, got 0"):
        forward("lstm", input.flatten(0, 1), weights, [], sizes, None, 3, True, 0)
    with pytest.raises(RuntimeError, match="grad_final must be 2 tensors or none, got 1"):
        backward("lstm", output, final[:1], input, weights, state, *kept, NEED_ALL)


def test_unknown_cell():
    with pytest.raises(ValueError, match="cell must be one of rnn_tanh, .* got 'lstn'"):
        cells.get("lstn")


def test_cell_table():
    expected = dict(
        rnn_tanh=(1, 1, 0),
        rnn_relu=(1, 1, 0),
        rnn_identity=(1, 1, 0),
        lstm=(4, 2, 4),
        gru=(3, 1, 4),
    )
    counts = {c: (cells.get(c).gates, cells.get(c).states, cells.get(c).saved) for c in CELLS}
    assert counts == expected


def test_added_cell_runs_on_the_reference():
    def leaky(x, r, state):
        return (0.5 * state[0] + 0.5 * (x[0] + r[0]).tanh(),)

    cells.add(cells.Cell("leaky", gates=1, states=1, step=leaky, saved=1))
    try:
        from fastrnn import functional

        gx, r, h0 = randn(4, 2, 3), randn(3, 3), randn(2, 3)
        with pytest.warns(UserWarning, match="leaky on its slow reference"):
            output, h = functional.scan("leaky", gx, r, None, h0)
        assert torch.equal(output[-1], h)
        with pytest.raises(RuntimeError, match="native.*leaky"):
            functional.scan("leaky", gx, r, None, h0, backend="native")
    finally:
        del cells.CELLS["leaky"]

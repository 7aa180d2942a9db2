"""The private ops against the reference, and torch's own check of their schemas and fakes."""

import pytest
import torch
from helpers import CELLS, DEVICE, assert_same, backends, each_cell, flat, oracle, problem, randn

from fastrnn import cells, ops

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


@backends(kernels=True)
@pytest.mark.parametrize(
    "cell, kind",
    [(cell, "dense") for cell in CELLS if cell != "lstm"] + [("lstm", kind) for kind in KINDS],
)
def test_opcheck(cell, kind, backend):
    forward, backward = ops.kernels(backend)
    args = arguments(cell, **KINDS[kind])
    _, input, weights, state, batch_sizes, resets, directions, project = args
    saves = [ops.SAVE_NOTHING, ops.SAVE_ALL]
    if ops.recomputes(backend, input):
        saves.append(ops.SAVE_PARTIAL)
    for save in saves:
        torch.library.opcheck(forward, (*args, save))
        output, final, saved = forward(*args, save)
        if save == ops.SAVE_NOTHING:
            continue
        grads = (cell, output, final, input, weights, state, output, saved, batch_sizes, resets)
        torch.library.opcheck(backward, (*grads, directions, project, kind != "ready_gx"))


@backends(kernels=True, interpreted=True)
@each_cell()
def test_saved_values(cell, backend):
    """saved is [D, N, K+S-1, H]: the cell's values, then the carried states after the step."""
    spec = cells.get(cell)
    forward, _ = ops.kernels(backend)
    args = arguments(cell, directions=3)
    output, final, saved = forward(*args, ops.SAVE_ALL)
    assert saved.shape == (2, 12, spec.saved + spec.states - 1, 6)
    assert forward(*args, ops.SAVE_NOTHING)[2].numel() == 0
    if spec.states > 1:
        c = saved.unflatten(1, (4, 3))[..., -1, :]
        assert_same(final[1], torch.stack([c[0, -1], c[1, 0]]), 0.0)


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
    spec, (forward, backward) = cells.get(cell), ops.kernels(backend)
    options = dict(KINDS.get(kind, dict(resets=True, directions=3)), size=SIZES.get(kind))
    for dtype in (torch.float32, torch.float64):
        args = arguments(cell, **options, dtype=dtype)
        _, input, weights, state, batch_sizes, resets, directions, project = args
        if not ops.recomputes(backend, input):
            pytest.skip(f"{backend} recomputes by another forward pass")
        torch.set_num_threads(threads)
        output, final, saved = forward(*args, ops.SAVE_ALL)
        same, same_final, part = forward(*args, ops.SAVE_PARTIAL)
        assert_same([output, *final], [same, *same_final], 0.0)
        assert part.shape[2] == spec.kept + spec.states - 1
        plain, again = (
            backward(cell, torch.ones_like(output), final, input, weights, state, output, s,
                     batch_sizes, resets, directions, project, True)
            for s in (saved, part)
        )  # fmt: skip
        assert_same(again, plain, 0.0)


@backends(kernels=True, interpreted=True)
@each_cell()
def test_results_are_fresh(cell, backend):
    """No result shares memory with an argument, so callers may change it in place."""
    args = arguments(cell)
    output, final, _ = ops.kernels(backend)[0](*args, ops.SAVE_NOTHING)
    given = {t.untyped_storage().data_ptr() for t in (args[1], *args[2], *args[3])}
    for tensor in (output, *final):
        assert tensor.is_contiguous()
        assert tensor.untyped_storage().data_ptr() not in given


@backends(kernels=True, interpreted=True)
@each_cell()
def test_backward_changes_nothing_it_reads(cell, backend):
    forward, backward = ops.kernels(backend)
    args = arguments(cell, resets=True)
    _, input, weights, state, batch_sizes, resets, directions, project = args
    output, final, saved = forward(*args, ops.SAVE_ALL)
    reads = [randn(4, 3, 6), *final, input, *weights, *state, output, saved, resets]
    before = [t.clone() for t in reads]
    results = [
        backward(
            cell, reads[0], final, input, weights, state, output, saved, None, resets, 1, True, n
        )
        for n in (True, True, False)
    ]
    assert all(torch.equal(a, b) for a, b in zip(before, reads))
    assert torch.equal(results[0][0], results[1][0])
    assert results[2][0].numel() == 0
    assert all(torch.equal(a, b) for a, b in zip(results[0][1], results[2][1]))


@backends(kernels=True, interpreted=True)
@each_cell()
def test_any_strides(cell, backend):
    """Nothing is required to be contiguous, not even the gradient that comes in."""
    forward, backward = ops.kernels(backend)
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
                 None, None, 1, True, True)  # fmt: skip
    b = backward(cell, grad, [strided(z) for z in zeros], *odd, strided(plain[0]),
                 strided(plain[2]), None, None, 1, True, True)  # fmt: skip
    assert_same([a[0], *a[1], *a[2]], [b[0], *b[1], *b[2]], 1e-6)


@backends(torch.float64, kernels=True)
@each_cell()
@pytest.mark.parametrize("t", [0, 1])
def test_few_rows_or_steps(cell, backend, t):
    """A ragged batch may have rows, or nothing but rows, of length 0: h0 comes back."""
    batch_sizes = torch.tensor([1] * t, dtype=torch.int64)
    args = arguments(cell, batch_sizes, directions=3, dtype=torch.float64)
    exact = oracle(*args)
    output, final, _ = ops.kernels(backend)[0](*args, ops.SAVE_NOTHING)
    assert_same([output, *final], exact, 1e-12)
    for final, initial in zip(exact[1:], args[3]):
        assert torch.equal(final[:, t:], initial[:, t:])


@pytest.mark.skipif(not ops.NATIVE_BUILT, reason="a contract of the native CPU kernels")
@each_cell()
@pytest.mark.parametrize("size", [(4, 3, 5, 6), (2, 70, 3, 64)], ids=["few", "many"])
def test_no_state_is_zeros(cell, size):
    forward, backward = torch.ops.fastrnn.forward.default, torch.ops.fastrnn.backward.default
    args = [
        [t.cpu() for t in a] if isinstance(a, list) else a.cpu() if torch.is_tensor(a) else a
        for a in arguments(cell, directions=3, size=size)
    ]
    zeros = [torch.zeros_like(s) for s in args[3]]
    expected = forward(*args[:3], zeros, *args[4:], 1)
    without = (*args[:3], [], *args[4:], 1)
    torch.library.opcheck(forward, without)
    assert_same(flat(forward(*without)), flat(expected), 0.0)

    sizes = torch.tensor([size[1]] * size[0])
    packed = (cell, args[1].flatten(0, 1), args[2], [], sizes, None, 3, True, 0)
    with pytest.raises(RuntimeError, match="state must be . tensors, got 0"):
        forward(*packed)
    output, final, saved = forward(*without)
    with pytest.raises(RuntimeError, match="backward takes no empty state"):
        backward(cell, output, final, *args[1:3], [], output, saved, None, None, 3, True, True)


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


def test_registered_cell_runs_on_the_reference():
    def leaky(x, r, state):
        return (0.5 * state[0] + 0.5 * (x + r).squeeze(-2).tanh(),)

    cells.register(cells.CellSpec("leaky", gates=1, states=1, saved=1, step=leaky))
    try:
        from fastrnn import functional

        gx, r, h0 = randn(4, 2, 3), randn(3, 3), randn(2, 3)
        with pytest.warns(UserWarning, match="leaky on its slow reference"):
            output, h = functional.scan("leaky", gx, r, None, h0)
        assert torch.equal(output[-1], h)
        with pytest.raises(RuntimeError, match="native.*leaky"):
            functional.scan("leaky", gx, r, None, h0, backend="native")
        with pytest.raises(ValueError, match="must be new, got 'leaky'"):
            cells.register(cells.get("leaky"))
    finally:
        del cells.CELLS["leaky"]

"""resets: a row enters a step with zero state, in values and in gradients."""

import pytest
import torch
from helpers import DEVICE, assert_same, backends, each_cell, fast, flat, gradients, hx, randn
from torch.nn.utils.rnn import pack_padded_sequence


def pieces(layer, x, cuts, state=None):
    """The pieces of one row run apart, each after the first from zero state."""
    outputs, start = [], 0
    for end in [*cuts, len(x)]:
        if end > start:
            output, final = layer(x[start:end], state)
            outputs.append(output)
        state, start = None, end
    return torch.cat(outputs), final


@backends()
@each_cell()
@pytest.mark.parametrize("cuts", [[3], [0], [1, 2, 7], [8]], ids=str)
def test_equals_the_pieces_run_apart(cell, backend, cuts):
    layer = fast(cell, 4, 7, backend=backend)
    x, state = randn(9, 1, 4, grad=True), hx(cell, 1, 1, 7, grad=True)
    resets = torch.zeros(9, 1, dtype=torch.bool, device=DEVICE)
    resets[cuts] = True
    a, b = layer(x, state, resets=resets), pieces(layer, x, cuts, state)
    assert_same(a, b, 1e-6)
    inputs = [x, *layer.parameters()]
    if cuts != [0]:
        inputs += flat(state)
    assert_same(gradients(a, inputs), gradients(b, inputs), 1e-5)


@backends(interpreted=True)
@each_cell()
def test_no_gradient_crosses(cell, backend):
    layer = fast(cell, 4, 7, backend=backend)
    x, state = randn(9, 3, 4, grad=True), hx(cell, 1, 3, 7, grad=True)
    resets = torch.zeros(9, 3, dtype=torch.bool, device=DEVICE)
    resets[4, 1] = True
    output, _ = layer(x, state, resets=resets)
    grads = torch.autograd.grad(output[6].sum(), [x, *flat(state)])
    assert (grads[0][:4, 1] == 0).all() and (grads[0][4:7, 1] != 0).any()
    assert (grads[0][:4, [0, 2]] != 0).any()
    for g in grads[1:]:
        assert (g[:, 1] == 0).all() and (g[:, [0, 2]] != 0).any()


@backends(interpreted=True)
@each_cell()
def test_nan_does_not_cross(cell, backend):
    layer = fast(cell, 4, 7, backend=backend)
    x = randn(6, 1, 4)
    x[1] = torch.nan
    resets = torch.zeros(6, 1, dtype=torch.bool, device=DEVICE)
    resets[3] = True
    output, final = layer(x, resets=resets)
    assert output[1:3].isnan().all()
    assert output[3:].isfinite().all() and all(s.isfinite().all() for s in flat(final))


@backends(interpreted=True)
@each_cell()
def test_reverse_direction_drops_the_state_from_the_next_step(cell, backend):
    """In reverse too, the step where resets is true is the one entered with zero state."""
    layer = fast(cell, 4, 7, bidirectional=True, backend=backend)
    x = randn(9, 2, 4)
    resets = torch.zeros(9, 2, dtype=torch.bool, device=DEVICE)
    resets[5] = True
    output, _ = layer(x, resets=resets)
    assert_same(output[5:, :, :7], layer(x[5:])[0][..., :7], 1e-6)
    assert_same(output[:6, :, 7:], layer(x[:6])[0][..., 7:], 1e-6)


@backends()
@each_cell()
def test_layouts_agree(cell, backend):
    """batch_first, unbatched, lengths= and PackedSequence take the caller's layout of resets."""
    layer = fast(cell, 4, 7, num_layers=2, bidirectional=True, backend=backend)
    x, lengths = randn(6, 4, 4), [2, 6, 0, 5]
    resets = (torch.rand(6, 4) < 0.4).to(DEVICE)
    whole = layer(x, resets=resets)[0]
    layer.batch_first = True
    other = layer(x.transpose(0, 1), resets=resets.t())[0]
    assert_same(other.transpose(0, 1), whole, 1e-6)
    assert_same(layer(x[:, 2], resets=resets[:, 2])[0], whole[:, 2], 1e-6)
    layer.batch_first = False
    ragged = layer(x, resets=resets, lengths=lengths)[0]
    for row, n in enumerate(lengths):
        if n:
            assert_same(ragged[:n, row], layer(x[:n, row], resets=resets[:n, row])[0], 1e-6)
    rows = [0, 1, 3]
    packed = pack_padded_sequence(x[:, rows], [2, 6, 5], enforce_sorted=False)
    output, _ = layer(packed, resets=resets[:, rows])
    padded, _ = torch.nn.utils.rnn.pad_packed_sequence(output)
    assert_same(padded, ragged[:, rows], 1e-6)


@backends(interpreted=True)
@each_cell()
def test_no_reset_changes_nothing(cell, backend):
    layer = fast(cell, 4, 7, bidirectional=True, backend=backend)
    x = randn(6, 4, 4)
    resets = torch.zeros(6, 4, dtype=torch.bool, device=DEVICE)
    assert_same(layer(x, resets=resets), layer(x), 1e-6)

"""Random configurations (hypothesis): against the reference, and against torch.nn where it can."""

import torch
from helpers import (
    CELLS,
    DEVICE,
    TORCH_CELLS,
    assert_same,
    backends,
    fast,
    flat,
    gradients,
    hx,
    plain,
    randn,
)
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

few = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@st.composite
def configurations(draw, cells=CELLS, lowest_length=0):
    """A layer and a call of it."""
    t, b = draw(st.integers(1, 9)), draw(st.integers(1, 6))
    lengths = st.lists(st.integers(lowest_length, t), min_size=b, max_size=b)
    return {
        "cell": draw(st.sampled_from(cells)),
        "sizes": (t, b, draw(st.integers(1, 20)), draw(st.integers(1, 40))),
        "layer": {
            "num_layers": draw(st.integers(1, 3)),
            "bidirectional": draw(st.booleans()),
            "bias": draw(st.booleans()),
            "batch_first": draw(st.booleans()),
        },
        "lengths": draw(st.none() | lengths),
        "resets": draw(st.booleans()),
        "hx": draw(st.booleans()),
        "dtype": draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16])),
    }


TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-4, torch.bfloat16: 0.1}


def call(layer, c, dtype):
    """(results, gradients) of a configuration, the same numbers for equal configurations."""
    torch.manual_seed(0)
    t, b, i, h = c["sizes"]
    x = randn(t, b, i, dtype=dtype)
    x = (x.transpose(0, 1) if c["layer"]["batch_first"] else x).requires_grad_()
    rows = c["layer"]["num_layers"] * (2 if c["layer"]["bidirectional"] else 1)
    state = hx(c["cell"], rows, b, h, dtype=dtype, grad=True) if c["hx"] else None
    options = {}
    if c["resets"]:
        options["resets"] = (torch.rand(x.shape[:2]) < 0.3).to(DEVICE)
    if c["lengths"] is not None:
        options["lengths"] = c["lengths"]
    result = layer(x, state, **options)
    inputs = [x, *layer.parameters(), *(flat(state) if c["hx"] else [])]
    return flat(result), gradients(result, inputs), x, state


@backends()
@few
@given(c=configurations())
def test_against_the_reference(backend, c):
    dtype = c["dtype"]
    if backend == "triton" and dtype == torch.float64:
        dtype = torch.float32
    _, _, i, h = c["sizes"]
    layer = fast(c["cell"], i, h, dtype=dtype, backend=backend, **c["layer"])
    exact = fast(c["cell"], i, h, dtype=dtype, backend="reference", **c["layer"])
    exact.load_state_dict(layer.state_dict())
    ours, theirs = call(layer, c, dtype), call(exact, c, dtype)
    assert_same(ours[0], theirs[0], TOLERANCE[dtype])
    scale = 1 + max(g.abs().max().item() for g in theirs[1] if g.numel())
    assert_same(ours[1], theirs[1], TOLERANCE[dtype] * scale)


@backends()
@few
@given(c=configurations(cells=TORCH_CELLS, lowest_length=1))
@example(
    {
        "cell": "lstm",
        "sizes": (4, 3, 2, 33),
        "layer": dict(num_layers=2, bidirectional=True, bias=True, batch_first=True),
        "lengths": [2, 4, 1],
        "resets": False,
        "hx": True,
        "dtype": torch.float32,
    }
)
def test_against_torch(backend, c):
    """Ragged batches go through torch.nn as a PackedSequence."""
    c = {**c, "resets": False}
    _, _, i, h = c["sizes"]
    theirs = plain(c["cell"], i, h, **c["layer"])
    ours = fast(c["cell"], i, h, backend=backend, **c["layer"])
    ours.load_state_dict(theirs.state_dict())
    results, grads, x, state = call(ours, c, torch.float32)
    if c["lengths"] is None:
        expected = theirs(x, state)
    else:
        first = c["layer"]["batch_first"]
        packed = pack_padded_sequence(x, c["lengths"], first, enforce_sorted=False)
        output, final = theirs(packed, state)
        total = x.shape[1 if first else 0]
        expected = pad_packed_sequence(output, first, total_length=total)[0], final
    inputs = [x, *theirs.parameters(), *(flat(state) if c["hx"] else [])]
    assert_same(results, expected, 1e-4)
    theirs_grads = gradients(expected, inputs)
    scale = 1 + max(g.abs().max().item() for g in theirs_grads)
    assert_same(grads, theirs_grads, 2e-4 * scale)

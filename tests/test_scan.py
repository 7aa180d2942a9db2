"""functional.scan: the scan over a ready input projection, against the reference and the layers."""

import pytest
import torch
import torch.nn.functional as F
from helpers import DEVICE, assert_same, backends, each_cell, fast, flat, gradients, problem, randn

from fastrnn import functional, reference


def arguments(cell, dtype=torch.float64):
    """(gx, weight_hh, bias_hh, states [B, H])"""
    gx, (weight_hh, bias_hh), state = problem(cell, project=False, dtype=dtype)
    return gx, weight_hh, bias_hh, [s.detach()[0].requires_grad_() for s in state]


@backends(torch.float64)
@each_cell()
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("kind", ["dense", "no_bias", "ragged", "resets"])
def test_against_the_reference(cell, backend, kind, reverse):
    gx, weight_hh, bias_hh, states = arguments(cell)
    options = {"reverse": reverse}
    if kind == "no_bias":
        bias_hh = None
    if kind == "ragged":
        options["batch_sizes"] = torch.tensor([3, 3, 1, 1])
        gx = gx.detach().flatten(0, 1)[:8].requires_grad_()
    if kind == "resets":
        options["resets"] = (torch.rand(gx.shape[:-1]) < 0.3).to(DEVICE)
    a = functional.scan(cell, gx, weight_hh, bias_hh, states, **options, backend=backend)
    b = reference.scan(cell, gx, weight_hh, bias_hh, states, **options)
    assert_same(a, b, 1e-12)
    inputs = [t for t in (gx, weight_hh, bias_hh, *states) if t is not None]
    assert_same(gradients(a, inputs), gradients(b, inputs), 1e-11)


@backends()
@each_cell()
def test_is_the_layer_without_its_input_projection(cell, backend):
    layer = fast(cell, 4, 6, backend=backend)
    x = randn(5, 3, 4)
    gx = F.linear(x, layer.weight_ih_l0, layer.bias_ih_l0)
    zeros = [torch.zeros(3, 6, device=DEVICE)] * (2 if cell == "lstm" else 1)
    output, final = functional.scan(
        cell, gx, layer.weight_hh_l0, layer.bias_hh_l0, zeros, backend=backend
    )
    expected = flat(layer(x))
    assert_same([output, *final], [expected[0], *(s[0] for s in expected[1:])], 1e-6)


@backends()
@each_cell()
def test_state_comes_back_as_it_was_given(cell, backend):
    gx, weight_hh, bias_hh, states = arguments(cell, torch.float32)
    _, final = functional.scan(cell, gx, weight_hh, bias_hh, states, backend=backend)
    assert type(final) is tuple and len(final) == len(states)
    if len(states) == 1:
        _, bare = functional.scan(cell, gx, weight_hh, bias_hh, states[0], backend=backend)
        assert torch.equal(bare, final[0])


@backends()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_autocast(backend, dtype):
    """gx from a product under autocast has another dtype than the parameters."""
    gx, weight_hh, bias_hh, states = arguments("gru", torch.float32)
    rest = weight_hh, bias_hh, states[0]
    with torch.autocast(DEVICE, dtype):
        a = functional.scan("gru", gx.to(dtype), *rest, backend=backend)
    b = functional.scan("gru", gx.to(dtype), *(t.to(dtype) for t in rest), backend=backend)
    assert_same(a, b, 0.02)
    with pytest.raises(ValueError, match="weight_hh must have gx's dtype"):
        functional.scan("gru", gx.to(dtype), *rest, backend=backend)


@backends()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_low_precision(backend, dtype):
    gx, weight_hh, bias_hh, states = arguments("gru", torch.float32)
    low = [t.detach().to(dtype) for t in (gx, weight_hh, bias_hh, states[0])]
    output, final = functional.scan("gru", *low, backend=backend)
    assert output.dtype == final.dtype == dtype
    exact, _ = functional.scan("gru", *(t.float() for t in low), backend="reference")
    assert_same(output.float(), exact, 0.02)

"""First and second derivatives in float64, for every cell on every backend that has float64.

gradcheck compares with finite differences, through every input at once: the sequence, all weights
and all initial states.
"""

import pytest
import torch
from helpers import DEVICE, backend_of, backends, each_cell, problem
from torch.autograd import gradcheck, gradgradcheck

from fastrnn.autograd import recurrent_scan

RAGGED = torch.tensor([3, 3, 2, 1])  # rows of lengths 4, 3, 2

CASES = {
    "dense": {},
    "no_bias": {"bias": False},
    "reverse": {"directions": 2},
    "both": {"directions": 3},
    "ragged": {"batch_sizes": RAGGED},
    "ragged_reverse": {"batch_sizes": RAGGED, "directions": 2},
    "ragged_empty_row": {"batch_sizes": torch.tensor([2, 1])},
    "resets": {"resets": True},
    "resets_both": {"resets": True, "directions": 3},
    "ragged_resets_both": {"batch_sizes": RAGGED, "resets": True, "directions": 3},
    "ready_gx": {"project": False},
    "ready_gx_reverse_no_bias": {"project": False, "directions": 2, "bias": False},
    "one_unit": {"h": 1},
    "one_step": {"t": 1},
}


def scan_of(cell, backend, batch_sizes=None, resets=False, directions=1, project=True, **sizes):
    """(function of the flat differentiable inputs, those inputs) for one case."""
    sizes = {"t": 4, "b": 3, "i": 2, "h": 3, **sizes}
    input, weights, state = problem(cell, directions=directions, project=project, **sizes)
    if batch_sizes is not None:
        rows = int(batch_sizes.sum())
        input = input.detach().flatten(0, 1)[:rows].clone().requires_grad_()
    mask = torch.rand(input.shape[:-1]).to(DEVICE) < 0.4 if resets else None

    def scan(input, *tensors):
        weights, state = tensors[: -len(state_)], tensors[-len(state_) :]
        output, final = recurrent_scan(
            cell,
            input,
            weights,
            state,
            batch_sizes,
            mask,
            directions,
            project,
            backend_of(backend, input.dtype),
        )
        return output, *final

    state_ = state
    return scan, (input, *weights, *state)


@backends(torch.float64)
@each_cell()
@pytest.mark.parametrize("case", CASES)
def test_first_derivatives(cell, backend, case):
    scan, inputs = scan_of(cell, backend, **CASES[case])
    assert gradcheck(scan, inputs)


@backends(torch.float64, kernels=True)
@each_cell()
@pytest.mark.parametrize("case", ["dense", "both", "ragged_reverse", "resets", "ready_gx"])
def test_second_derivatives(cell, backend, case):
    sizes = {"t": 2, "b": 2, "i": 2, "h": 2}
    if "batch_sizes" in CASES[case]:
        sizes["batch_sizes"] = torch.tensor([2, 1])
    scan, inputs = scan_of(cell, backend, **{**CASES[case], **sizes})
    assert gradgradcheck(scan, inputs)


@backends(torch.float64)
@each_cell()
def test_second_derivatives_of_the_weights_alone(cell, backend):
    """The first layer of a model: its input needs no gradient."""
    scan, (input, *rest) = scan_of(cell, backend, t=2, b=2, i=2, h=2)
    assert gradgradcheck(lambda *tensors: scan(input.detach(), *tensors), rest)


@backends(torch.float64)
@each_cell()
def test_gradient_of_a_part(cell, backend):
    """Inputs that need no gradient get none, and change nothing for the others."""
    scan, inputs = scan_of(cell, backend)
    every = torch.autograd.grad(scan(*inputs)[0].sum(), inputs)
    for wanted in range(len(inputs)):
        part = [x.detach().requires_grad_(k == wanted) for k, x in enumerate(inputs)]
        scan(*part)[0].sum().backward()
        assert torch.equal(part[wanted].grad, every[wanted])
        assert all(x.grad is None for k, x in enumerate(part) if k != wanted)


@backends(torch.float64)
@each_cell()
def test_gradient_of_the_final_state_alone(cell, backend):
    scan, inputs = scan_of(cell, backend)
    assert gradcheck(lambda *x: scan(*x)[1:], inputs)

"""Runs the native kernels of one instruction set (FASTRNN_ISA) against float64, for test_native."""

import itertools

import torch
from helpers import CELLS, backend_of, flat, gradients, oracle, problem

from fastrnn import ops
from fastrnn.autograd import recurrent_scan

SIZES = ((2, 1, 3, 5), (9, 3, 17, 33), (6, 19, 70, 65), (5, 3, 16, 32))  # T, B, I, H


def leaf(t: torch.Tensor) -> torch.Tensor:
    return t.detach().double().requires_grad_()


def relative_error(ours, exact) -> float:
    return max(
        ((a - b).abs().max() / (1 + b.abs().max())).item() for a, b in zip(flat(ours), flat(exact))
    )


def error(cell: str, size: tuple[int, ...], directions: int, dtype: torch.dtype) -> float:
    """The largest relative error of values and gradients."""
    input, weights, state = problem(cell, *size, directions, True, True, dtype)
    native = backend_of("native")
    ours = recurrent_scan(cell, input, weights, state, None, None, directions, True, native)
    doubles = leaf(input), [leaf(w) for w in weights], [leaf(s) for s in state]
    exact = oracle(cell, *doubles, directions=directions)
    grads = gradients(ours, [input, *weights, *state])
    exact_grads = gradients(exact, [doubles[0], *doubles[1], *doubles[2]])
    return max(relative_error(ours, exact), relative_error(grads, exact_grads))


def denormal_product() -> float:
    """A bfloat16 denormal times one, by a weight matrix: vdpbf16ps takes it for zero."""
    one = torch.ones(1, 1, dtype=torch.bfloat16)
    input, state = one[None] * 1e-39, torch.zeros_like(one)[None]
    output, _ = recurrent_scan(
        "rnn_identity", input, [one, one], [state], None, None, 1, True, backend_of("native")
    )
    return output.item()


def outputs(input, weights, state, rows: slice) -> torch.Tensor:
    """The LSTM's outputs [T, rows, H] where only some batch rows are there."""
    states = [s[:, rows] for s in state]
    arguments = (input[:, rows], weights, states, None, None, 1, True, backend_of("native"))
    return recurrent_scan("lstm", *arguments)[0].detach()


def changed_rows() -> int:
    """Rows whose output is another one, if only in the last bit, alone than among 19 others."""
    changed = 0
    sizes = itertools.product((1, 3, 6), (4, 9, 17, 40))
    for (t, k), dtype in itertools.product(sizes, (torch.float32, torch.float64, torch.bfloat16)):
        case = problem("lstm", t, 20, k, k + 3, 1, True, True, dtype)
        alone = torch.cat([outputs(*case, slice(b, b + 1)) for b in range(20)], 1)
        changed += (outputs(*case, slice(None)) != alone).any(-1).sum().item()
    return changed


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    errors = {}
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        # rounding to bfloat16 may turn a ReLU's slope from 0 to 1
        cells = [c for c in CELLS if dtype != torch.bfloat16 or c != "rnn_relu"]
        errors[dtype] = max(error(*case, dtype) for case in itertools.product(cells, SIZES, (1, 3)))
    print(ops.BUILD_INFO["isa"], *errors.values(), denormal_product(), changed_rows())

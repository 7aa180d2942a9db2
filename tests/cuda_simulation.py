"""Runs the CUDA kernels in the simulator: what tests and the worker of the seeded bugs share.

A case is one layer with everything at once: ragged rows (some of length zero), both directions,
resets, initial states, more batch rows than one group of blocks owns.
"""

import ctypes
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path

import torch
from devices import H100
from helpers import assert_as_exact, oracle, problem

from fastrnn import ops
from fastrnn.gpu import host
from fastrnn.gpu.engines import Limits
from fastrnn.gpu.scan import CudaScan

ENGINES = ("stepwise", "block", "cluster", "grid")
# kind of numbers -> dtype of the tensors
KINDS = {
    "ieee": torch.float32,
    "tf32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}
SMALL = H100._replace(sms=6)  # so few that groups of batch rows must take turns


class Simulator:
    """The library that buildtools.simulator builds, loaded."""

    def __init__(self, library: Path, namespace: str = "fastrnn_sim"):
        torch.ops.load_library(str(library))
        self.ops = getattr(torch.ops, namespace)
        self._configure = ctypes.CDLL(str(library)).fastrnn_sim_configure
        self._configure.argtypes = [ctypes.c_uint, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
        self._configure.restype = None
        self.configure()

    def configure(self, seed: int = 0, limits: Limits = SMALL) -> None:
        """seed: of the order in which threads run; limits: what the device is said to have."""
        self._configure(seed, *limits)


@contextmanager
def numbers(kind: str):
    """torch's flag for tf32 in recurrent layers, as the kind needs it."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = kind == "tf32"
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def case(cell, kind, h, b, t, i=3, sizes=None, directions=1, resets=False, **layer):
    """Arguments of the op, of random values: (cell, input, weights, state, sizes, resets, ..)."""
    input, weights, state = problem(
        cell, t=t, b=b, i=i, h=h, directions=directions, dtype=KINDS[kind], **layer
    )
    input = input.detach()
    weights, state = ([t.detach() for t in tensors] for tensors in (weights, state))
    if cell == "rnn_relu":
        clear_of_the_kink(weights)
    if sizes is not None:
        input, sizes = input.flatten(0, 1)[: sum(sizes)].clone(), torch.tensor(sizes)
    drop = torch.rand(input.shape[:-1]) < 0.25 if resets else None
    return cell, input, weights, state, sizes, drop, directions, layer.get("project", True)


@torch.no_grad()
def clear_of_the_kink(weights: Iterable[torch.Tensor]) -> None:
    """Small products and biases of +-3: no rounding error turns a unit of rnn_relu on or off."""
    for w in weights:
        w.copy_(w / 4 if w.dim() == 2 else 3 - 6 * (torch.arange(len(w)) % 2))


def on_reference(arguments, dtype: torch.dtype):
    """[output, *final, *gradients] of the reference scan in that dtype."""
    cell, input, weights, state, *rest = arguments
    leaves = [t.to(dtype).requires_grad_() for t in (input, *weights, *state)]
    n = 1 + len(weights)
    result = oracle(cell, leaves[0], leaves[1:n], leaves[n:], *rest)
    grads = [g.to(dtype) for g in output_gradients(result, input.dtype)]
    return [*result, *torch.autograd.grad(result, leaves, grads)]


def output_gradients(like, dtype: torch.dtype) -> list[torch.Tensor]:
    """The same numbers for equal shapes, exact in dtype."""
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(t.shape, generator=generator).to(dtype) for t in like]


def on_kernels(simulator: Simulator, engine: str, kind: str, arguments):
    """[output, *final, *gradients] of the kernels; fails where backward spoils what it is given."""
    scan = CudaScan(simulator.ops, engine)
    with numbers(kind), torch.no_grad():
        output, final, saved = host.forward(scan, *arguments, True)
        plain = host.forward(scan, *arguments, False)
        assert_bits([output, *final], [plain[0], *plain[1]])
        assert not plain[2].numel()
        grads = output_gradients([output, *final], output.dtype)
        given = [t.clone() for t in (output, saved, *grads)]
        cell, input, weights, state, *rest = arguments
        g_input, g_weights, g_state = host.backward(
            scan,
            cell,
            grads[0],
            grads[1:],
            input,
            weights,
            state,
            output,
            saved,
            *rest,
            ops.NEED_ALL,
        )
        assert_bits([output, saved, *grads], given)
    return [output, *final, g_input, *g_weights, *g_state]


def assert_bits(ours, theirs) -> None:
    for a, b in zip(ours, theirs):
        assert a.shape == b.shape and torch.equal(a, b), "other bits"


# Errors that the other computation happens not to make, relative to a tensor's largest value.
FLOORS = {"ieee": 1e-6, "tf32": 2e-3, "bfloat16": 8e-3, "float16": 1e-3, "float64": 1e-14}


def check(simulator: Simulator, engine: str, kind: str, arguments) -> None:
    """The rule for rounding errors: at most twice those of torch's own operations in that dtype."""
    ours = on_kernels(simulator, engine, kind, arguments)
    exact = on_reference(arguments, torch.float64)
    torchs = on_reference(arguments, KINDS[kind])
    for tensor in ours:
        assert not tensor.isnan().any(), "NaN in a result"
    assert_as_exact(ours, torchs, exact, FLOORS[kind])

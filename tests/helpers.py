"""What the tests share: the axes they are parametrised over, and makers of layers and tensors."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import fastrnn
from fastrnn import cells, reference
from fastrnn.backends import Backend, choose

DEVICE = os.environ.get("FASTRNN_TEST_DEVICE", "cpu")
CELLS = tuple(name for name, cell in cells.CELLS.items() if cell.derived is None)
TORCH_CELLS = tuple(c for c in CELLS if cells.get(c).torch_layer)  # those torch.nn has too
LAYERS = tuple(dict.fromkeys(cells.get(c).torch_layer.lower() for c in TORCH_CELLS))


def backend_of(word: str, dtype: torch.dtype = torch.float32, cell: str = CELLS[0]) -> Backend:
    """The backend that serves if a user says `word`; RuntimeError if it cannot."""
    return choose(cell, DEVICE, dtype, word)[0]


def kernels(word: str) -> tuple[Callable, Callable]:
    """The (forward, backward) ops of that backend."""
    backend = backend_of(word)
    return backend.forward, backend.backward


def _refusal(backend: str, dtype: torch.dtype, cell: str = CELLS[0]) -> str | None:
    """Why a backend cannot run the cell here, or None."""
    try:
        backend_of(backend, dtype, cell)
    except RuntimeError as refusal:
        return str(refusal)
    return None


def backends(
    dtype: torch.dtype = torch.float32, *, kernels: bool = False, interpreted: bool = False
):
    """Decorator: the test runs once on every backend that serves the dtype.

    kernels=True leaves the reference out. Triton takes part on a GPU. On a CPU, where its
    interpreter takes milliseconds a step, it takes part in the tests that say interpreted=True, and
    with FASTRNN_TEST_TRITON=all in every one. A native library that is not built is a skip.
    """
    marked = [] if kernels else ["reference"]
    refusal = _refusal("native", dtype)
    skip = [pytest.mark.skip(reason=refusal)] if refusal else []
    marked.insert(0, pytest.param("native", marks=skip))
    everywhere = DEVICE != "cpu" or os.environ.get("FASTRNN_TEST_TRITON") == "all"
    if (interpreted or everywhere) and _refusal("triton", dtype) is None:
        marked.append("triton")
    return pytest.mark.parametrize("backend", marked)


def slow_but(quick, every):
    """Values for parametrize, of which the quick run takes some and --slow all."""
    return [v if v in quick else pytest.param(v, marks=pytest.mark.slow) for v in every]


def each_cell(names=CELLS):
    return pytest.mark.parametrize("cell", names)


def fast(cell: str, *args, **kwargs) -> nn.Module:
    """The fastrnn layer of a cell, on the device under test."""
    kwargs.setdefault("device", DEVICE)
    spec = cells.get(cell)
    if spec.layer:
        return getattr(fastrnn, spec.layer)(*args, **spec.arguments, **kwargs)
    # Only a cell without a layer class may lack kernels: for those that have one it is an error.
    layer = fastrnn.Recurrent(cell, *args, **kwargs)
    refusal = _refusal(layer.backend, layer.weight_ih_l0.dtype, cell)
    return pytest.skip(refusal) if refusal else layer


def plain(cell: str, *args, **kwargs) -> nn.Module:
    """The torch.nn layer of a cell, on the device under test."""
    kwargs.setdefault("device", DEVICE)
    spec = cells.get(cell)
    if not spec.torch_layer:
        raise ValueError(f"torch.nn has no layer of the cell {cell!r}")
    return getattr(nn, spec.torch_layer)(*args, **spec.arguments, **kwargs)


def twins(cell: str, *args, backend: str = "auto", **kwargs) -> tuple[nn.Module, nn.Module]:
    """(fastrnn's layer, torch.nn's layer) with the same weights."""
    ours, theirs = fast(cell, *args, backend=backend, **kwargs), plain(cell, *args, **kwargs)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def randn(*shape: int, dtype=torch.float32, grad: bool = False) -> Tensor:
    return torch.randn(*shape, dtype=dtype, device=DEVICE).requires_grad_(grad)


def hx(cell: str, *shape: int, dtype=torch.float32, grad: bool = False):
    """A random hx of that shape, in the form the layer takes it."""
    states = tuple(randn(*shape, dtype=dtype, grad=grad) for _ in range(cells.get(cell).states))
    return states if len(states) > 1 else states[0]


def flat(result) -> list[Tensor]:
    """The tensors of (output, h_n) or (output, (h_n, c_n)), packed or not, or of a cell."""
    if isinstance(result, nn.utils.rnn.PackedSequence):
        return [result.data]
    if isinstance(result, Tensor):
        return [result]
    return [tensor for part in result for tensor in flat(part)]


def gradients(result, inputs, seed: int = 0) -> list[Tensor]:
    """Gradients of a random weighted sum of all outputs, the same weights for equal shapes."""
    tensors = flat(result)
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.randn(t.shape, generator=generator, dtype=torch.float64) for t in tensors]
    loss = sum((t * w.to(t)).sum() for t, w in zip(tensors, weights))
    return list(torch.autograd.grad(loss, list(inputs)))


def worst(ours, theirs) -> float:
    """The largest absolute difference over two lists of tensors of equal shapes."""
    ours, theirs = flat(ours), flat(theirs)
    assert [t.shape for t in ours] == [t.shape for t in theirs]
    gaps = [(a.double() - b.double()).abs().max().item() for a, b in zip(ours, theirs) if a.numel()]
    assert all(gap == gap for gap in gaps), "NaN in a result"
    return max(gaps, default=0.0)


def assert_same(ours, theirs, tolerance: float) -> None:
    gap = worst(ours, theirs)
    assert gap <= tolerance, f"differs by {gap:.3g}, tolerance {tolerance:.3g}"


def assert_as_exact(ours, theirs, exact, floor: float) -> None:
    """The rule for rounding errors: each tensor's error is at most twice torch.nn's plus a floor.

    Both errors are against float64. The floor is relative to the tensor's size, and stands for the
    cases in which torch.nn happens to round to (nearly) the exact value.
    """
    for a, b, e in zip(flat(ours), flat(theirs), flat(exact)):
        assert a.shape == b.shape == e.shape
        if not a.numel():
            continue
        error, torchs = ((x.double() - e).abs().max().item() for x in (a, b))
        allowed = 2 * torchs + floor * e.abs().max().item()
        assert error <= allowed, (
            f"error {error:.3g}, torch.nn's {torchs:.3g}, allowed {allowed:.3g}"
        )


def problem(
    cell: str, t=5, b=3, i=4, h=6, directions=1, bias=True, project=True, dtype=torch.float64
):
    """Arguments of one layer for the ops: (input, weights, state), all requiring grad."""
    spec, d = cells.get(cell), directions.bit_count()
    gates = spec.gates * h
    rows = [(gates, i)] * project + [(spec.recurrent * h, h)] * (spec.recurrent > 0)
    shapes = rows + [(n,) for n, _ in rows] * bias
    shapes += [(spec.params, h)] if spec.params else []
    shapes += [(t, b, spec.extra * h)] if spec.extra else []
    weights = [(torch.randn(s, dtype=dtype) * h**-0.5).to(DEVICE) for _ in range(d) for s in shapes]
    weights = [w.requires_grad_() for w in weights]
    input = randn(t, b, i if project else gates, dtype=dtype, grad=True)
    state = [randn(d, b, h, dtype=dtype, grad=True) for _ in range(spec.states)]
    return input, weights, state


def oracle(cell, input, weights, state, batch_sizes=None, resets=None, directions=1, project=True):
    """The reference scan's (output, *final)."""
    output, final = reference.forward(
        cell, input, weights, state, batch_sizes, resets, directions, project
    )
    return [output, *final]


def run_python(*arguments: str, cwd, **environment: str) -> subprocess.CompletedProcess:
    """Runs Python in another process, with the fastrnn that this one has imported."""
    here = str(Path(fastrnn.__file__).parents[1])
    path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )

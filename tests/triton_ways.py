"""Every way in which Triton's kernels hold R, and how their results are compared."""

import pytest
import torch
from helpers import oracle
from triton_programs import run_together

from fastrnn import ops
from fastrnn import triton as backend
from fastrnn.triton import config, engine

WAYS = {
    "alone": config.Config(4, 32, 32, "resident", 4),
    "sharing": config.Config(4, 16, 16, "resident", 4, shares=2, together=4),
    "sharing_narrow": config.Config(2, 8, 8, "resident", 4, shares=4),
    "sharing_two_gates": config.Config(8, 8, 16, "resident", 4, shares=2, together=2),
    "streamed": config.Config(4, 16, 16, "streamed", 4),
    "streamed_wide": config.Config(2, 32, 16, "streamed", 4),
    "streamed_deep": config.Config(8, 16, 32, "streamed", 4),
}
# Of a cell without R, whatever the way: each for about half of the ways.
UNITWISE = config.Config(4, 8, 16, "nowhere", 4), config.Config(1, 32, 16, "nowhere", 1)
ZONE = 64


def use(way: str, monkeypatch) -> None:
    """Kernels run in that way; programs that tell each other something run side by side."""

    def chosen(direction, layer, run):
        return run(WAYS[way] if layer.spec.recurrent else UNITWISE[len(way) % 2])[0]

    monkeypatch.setattr(engine, "choose", chosen)
    if WAYS[way].shares > 1:
        run_together(monkeypatch, seed=len(way))


def zoned(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(a copy of the tensor, the buffer around it that is otherwise NaN, or a line far outside)."""
    poison = torch.nan if tensor.is_floating_point() else 99
    buffer = torch.full((tensor.numel() + 2 * ZONE,), poison, dtype=tensor.dtype)
    inside = buffer[ZONE:-ZONE].view(tensor.shape)
    return inside.copy_(tensor), buffer


@pytest.fixture
def zones(monkeypatch):
    """Kernels run on copies between zones of NaN, which they must leave as they are."""
    launch = engine._launch

    def guarded(kernel, layer, option, tensors, events, **constants):
        tensors = Tensors(tensors)
        pairs = [None if t is None else zoned(t) for t in tensors]
        # The same tensor twice stays the same: a cell with one array for dx and dr.
        pairs = [pairs[tensors.index_of(i)] for i in range(len(pairs))]
        launch(kernel, layer, option, [p and p[0] for p in pairs], events, **constants)
        for tensor, pair in zip(tensors, pairs):
            if pair is not None:
                tensor.copy_(pair[0])
                for edge in (pair[1][:ZONE], pair[1][-ZONE:]):
                    assert edge.isnan().all() if edge.is_floating_point() else (edge == 99).all()

    class Tensors(list):
        def index_of(self, i):
            return next(j for j, t in enumerate(self) if t is self[i])

    monkeypatch.setattr(engine, "_launch", guarded)


def run_both(cell, input, weights, state, sizes, resets, directions, project):
    """([output, *final, *gradients] of the Triton ops, the same of the reference in float64)."""
    tensors = [t.detach() for t in (input, *weights, *state)]
    count = len(weights)
    x, w, s = tensors[0], tensors[1 : 1 + count], tensors[1 + count :]
    output, final, saved = backend.forward(cell, x, w, s, sizes, resets, directions, project, True)
    exact = [t.double().requires_grad_() for t in tensors]
    result = oracle(
        cell, exact[0], exact[1 : 1 + count], exact[1 + count :], sizes, resets, directions, project
    )
    grads = [torch.randn_like(r).to(input.dtype) for r in result]
    if not output.numel():
        return [output, *final], result
    given = [(r, g.double()) for r, g in zip(result, grads) if r.requires_grad]  # else constant
    expected = torch.autograd.grad(
        [r for r, _ in given], exact, [g for _, g in given], allow_unused=True,
        materialize_grads=True,
    )  # fmt: skip
    before = [t.clone() for t in (output, saved)]
    g_input, g_weights, g_state = backend.backward(
        cell, grads[0], grads[1:], x, w, s, output, saved, sizes, resets, directions, project,
        ops.NEED_ALL,
    )  # fmt: skip
    assert torch.equal(before[0], output) and torch.equal(before[1], saved)
    return [output, *final, g_input, *g_weights, *g_state], [*result, *expected]


def assert_close(ours, exact, tolerance: float) -> None:
    for i, (a, e) in enumerate(zip(ours, exact)):
        assert a.shape == e.shape
        scale = e.abs().max().item() if e.numel() else 1.0
        gap = (a.double() - e).abs().max().item() if e.numel() else 0.0
        assert gap <= tolerance * max(scale, 1.0), f"tensor {i} differs by {gap:.3g} of {scale:.3g}"

"""Random problems for compiled cells, and their exact solutions by a plain loop in float64."""

import torch
from cell_libraries import POLICIES
from torch import Tensor

EVERYTHING = 127  # all bits of `needs`


class Problem:
    """The arguments of one layer, random ones, and what a plain loop makes of them."""

    def __init__(
        self, name, t=5, b=3, i=4, h=17, directions=1, bias=True, project=True, lengths=None,
        resets=False, dtype=torch.float64,
    ):  # fmt: skip
        self.policy = policy = POLICIES[name]
        rows = [sum(n > k for n in lengths) for k in range(t)] if lengths else None
        count, width = directions.bit_count(), policy.gates * h
        if lengths:
            b = len(lengths)
        shapes = [(width, i), (width, h)] + [(width,), (width,)] * bias
        if not project:
            i, shapes = width, [(width, h)] + [(width,)] * bias
        shapes += [(policy.params, h)] * bool(policy.params)

        def randn(*shape, scale=1.0):
            return (torch.randn(shape, dtype=torch.float64) * scale).to(dtype)

        self.batch_sizes = torch.tensor(rows) if lengths else None
        self.input = randn(sum(rows), i) if lengths else randn(t, b, i)
        self.weights = [randn(*s, scale=0.5 / s[-1] ** 0.5) for _ in range(count) for s in shapes]
        self.state = [randn(count, b, h) for _ in range(policy.states)]
        self.resets = torch.rand(self.input.shape[:-1]) < 0.3 if resets else None
        self.rest = self.batch_sizes, self.resets, directions, project

    def clear_of_the_kink(self):
        """Biases of +-2 in the last gate, a relu's: no rounding error turns a unit on or off."""
        for w in self.weights:
            if w.dim() == 1:
                gate = w[len(w) * (self.policy.gates - 1) // self.policy.gates :]
                gate.copy_(2 - 4 * (torch.arange(len(gate)) % 2))

    def ours(self, save=1, needs=EVERYTHING):
        """[output, *final, grad_input, *grad_weights, *grad_state]"""
        layer = self.input, self.weights, self.state
        name = self.policy.name
        output, final, saved = torch.ops.fastrnn.forward(name, *layer, *self.rest, save)
        given = self.gradients([output, *final])
        grads = torch.ops.fastrnn.backward(
            name, given[0], given[1:], *layer, output, saved, *self.rest, needs
        )
        return [output, *final, grads[0], *grads[1], *grads[2]]

    def exact(self):
        """The same in float64."""
        wide = [t.double().requires_grad_() for t in (self.input, *self.weights, *self.state)]
        weights, state = wide[1 : 1 + len(self.weights)], wide[1 + len(self.weights) :]
        results = scan(self.policy, wide[0], weights, state, *self.rest)
        loss = sum((r * g.double()).sum() for r, g in zip(results, self.gradients(results)))
        return [*results, *torch.autograd.grad(loss, wide, materialize_grads=True)]

    def gradients(self, results):
        generator = torch.Generator().manual_seed(1)
        dtype = self.input.dtype
        return [
            torch.randn(r.shape, generator=generator, dtype=torch.float64).to(dtype)
            for r in results
        ]


def assert_close(ours, exact, tolerance):
    assert [t.shape for t in ours] == [t.shape for t in exact]
    for place, (a, b) in enumerate(zip(ours, exact)):
        assert not a.isnan().any(), f"NaN in result {place}"
        if a.numel():
            error = (a.double() - b).abs().max() / (1 + b.abs().max())
            assert error < tolerance, f"result {place} differs by {error:.3g}"


def scan(policy, input, weights, state, batch_sizes=None, resets=None, directions=1, project=True):
    """A plain loop: (output, *final states), as the op orders them; input dense or packed."""
    count, (t, b) = directions.bit_count(), _sizes(input, state, batch_sizes)
    rows = [b] * t if batch_sizes is None else batch_sizes.tolist()
    packed = input.flatten(0, 1) if batch_sizes is None else input
    starts = [None if resets is None else r for r in _split(resets, rows)]
    outputs, finals = [], []
    for d in range(count):
        own = list(weights[d * len(weights) // count : (d + 1) * len(weights) // count])
        p = own.pop().unbind() if policy.params else ()
        gx, w_hh, b_hh = _projected(packed, own, project)
        carried = [s[d] for s in state]
        steps = [None] * t
        reverse = directions == 2 or d == 1
        xs = gx.split(rows)
        for k in reversed(range(t)) if reverse else range(t):
            before = [s[: rows[k]] for s in carried]
            if resets is not None:
                before = [torch.where(starts[k][:, None], 0.0, s) for s in before]
            r = before[0] @ w_hh.T + b_hh
            after = policy.step(xs[k].chunk(policy.gates, 1), r.chunk(policy.gates, 1), before, p)
            carried = [torch.cat([a, s[rows[k] :]]) for a, s in zip(after, carried)]
            steps[k] = after[0]
        outputs.append(torch.cat(steps) if t else packed.new_empty(0, w_hh.shape[1]))
        finals.append(carried)
    output = torch.cat(outputs, 1)
    output = output if batch_sizes is not None else output.view(t, b, output.shape[1])
    return [output, *(torch.stack(s) for s in zip(*finals))]


def _sizes(input, state, batch_sizes):
    return len(input if batch_sizes is None else batch_sizes), state[0].shape[1]


def _split(resets, rows):
    return [None] * len(rows) if resets is None else resets.flatten().split(rows)


def _projected(rows: Tensor, own: list[Tensor], project: bool) -> tuple[Tensor, Tensor, Tensor]:
    """(W_ih x + b_ih, W_hh, b_hh)"""
    zero = rows.new_zeros(())
    if not project:
        return rows, own[0], own[1] if len(own) > 1 else zero
    b_ih, b_hh = own[2:] or (zero, zero)
    return rows @ own[0].T + b_ih, own[1], b_hh

"""A backend whose kernels are the reference scan and torch's derivative of it.

It holds the Python layers to the contract of the ops, for every cell there is: needs no library.
"""

from concurrent.futures import ThreadPoolExecutor

import torch

from fastrnn import backends, cells, graph, ops, reference, schemas

DEFINED = torch.library.Library("fastrnn", "FRAGMENT")
SEEN: list[int] = []  # `needs` of each call of backward


def _forward(cell, input, weights, state, batch_sizes, resets, directions, project, save):
    output, final = reference.forward(
        cell, input, weights, state, batch_sizes, resets, directions, project
    )
    spec, (d, _, h) = cells.get(cell), state[0].shape
    size = (d, input.shape[:-1].numel(), spec.saved + spec.states - 1, h) if save else 0
    return output.contiguous(), [f.clone() for f in final], input.new_zeros(size)


def _backward(*call):
    """In a thread of its own, as torch records no derivatives inside an op."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_gradients, *call).result()


def _gradients(
    cell, grad_output, grad_final, input, weights, state, output, saved, batch_sizes, resets,
    directions, project, needs,
):  # fmt: skip
    SEEN.append(needs)
    bits = ops.weight_bits(cell, len(weights), directions, project)
    bits = [ops.NEED_INPUT, *bits, *[ops.NEED_STATE] * len(state)]
    leaves = [t.detach().requires_grad_() for t in (input, *weights, *state)]
    split = 1 + len(weights)
    with torch.enable_grad():
        results = reference.forward(
            cell, leaves[0], leaves[1:split], leaves[split:], batch_sizes, resets, directions,
            project,
        )  # fmt: skip
        results = [results[0], *results[1]]
    given = [torch.zeros_like(output) if grad_output is None else grad_output, *grad_final]
    grads = torch.autograd.grad(results, leaves, given, materialize_grads=True)
    wanted = [g.contiguous() if needs & b else g.new_empty(0) for g, b in zip(grads, bits)]
    return wanted[0], wanted[1:split], wanted[split:] if needs & ops.NEED_STATE else []


class Loop(backends.Backend):
    name, title, prefix = "loop", "the loops of a test", "loop_"

    def __init__(self):
        pairs = ("forward", schemas.FORWARD, _forward), ("backward", schemas.BACKWARD, _backward)
        for name, schema, function in pairs:
            DEFINED.define(f"loop_{name}{schema}")
            DEFINED.impl(f"loop_{name}", function, "CompositeExplicitAutograd")
        self.forward, self.backward = ops.register_rules(
            "fastrnn::loop_forward", "fastrnn::loop_backward"
        )
        graph.define(self.prefix, ("CPU", "CUDA"), self.forward, self.backward)

    def automatic(self, device):
        return False


_LOOP: list[Loop] = []  # ops are defined once a process


def add() -> None:
    _LOOP or _LOOP.append(Loop())
    backends.add(_LOOP[0])


def remove() -> None:
    backends._BACKENDS.pop("loop")
    backends._choose_cached.cache_clear()

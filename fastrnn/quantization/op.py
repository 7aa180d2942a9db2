"""The op of quantised layers: fakes, counts, and the error in place of a derivative.

    fastrnn::quantized(str cell, Tensor input, Tensor[] weights, Tensor[] state,
                       Tensor? batch_sizes, Tensor? resets, int directions, int hidden)
        -> (Tensor output, Tensor[] final)

All L layers at once. input, batch_sizes, resets and directions as `fastrnn.ops` has them, input in
float32; weights for each direction of each layer: scales, W_ih and W_hh as `panels.py` makes them,
then params [P, H] where the cell has any; state S tensors [L*D, B, H], where input is not packed
perhaps none: zeros; output [T, B, D*H] or [N, D*H], final S tensors [L*D, B, H]. `quantized_flat`,
for compiled and exported graphs, has state (None: zeros) and final as one [S, L*D, B, H].
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import cells, flops, graph, ops

NO_GRADIENT = (
    "a quantised layer is for inference and has no derivative: call it under torch.no_grad() or "
    "with tensors that require none, and train the model that was given to fastrnn.quantize"
)


def _directions(spec: cells.Cell, weights) -> int:
    """L*D"""
    return len(weights) // (3 + bool(spec.params))


def _sizes(cell: str, input: Tensor, weights, state: Tensor | None, hidden: int) -> tuple:
    """[S, L*D, B, H]"""
    b, spec = input.shape[1] if state is None else state.shape[-2], cells.get(cell)
    return spec.states, _directions(spec, weights), b, hidden


def _output(input: Tensor, directions: int, hidden: int) -> Tensor:
    return input.new_empty((*input.shape[:-1], directions.bit_count() * hidden))


def _fake(cell, input, weights, state, batch_sizes, resets, directions, hidden):
    ops.check_devices(input, weights, state)
    sizes = _sizes(cell, input, weights, state[0] if state else None, hidden)
    final = [input.new_empty(sizes[1:]) for _ in range(sizes[0])]
    return _output(input, directions, hidden), final


def _fake_flat(cell, input, weights, state, batch_sizes, resets, directions, hidden):
    ops.check_devices(input, weights, () if state is None else (state,))
    sizes = _sizes(cell, input, weights, state, hidden)
    return _output(input, directions, hidden), input.new_empty(sizes)


def _flops(
    cell, input, weights, state, batch_sizes, resets, directions, hidden, *, out_val=None
) -> int:
    """For each line of input the products with all W_ih and W_hh."""
    spec, d = cells.get(cell), directions.bit_count()
    features = [input.shape[-1]] * d + [d * hidden] * (_directions(spec, weights) - d)
    slots = spec.gates, spec.recurrent
    numbers = sum(hidden * (slots[0] * k + slots[1] * hidden) for k in features)
    return 2 * flops.valid_rows(input, batch_sizes) * numbers


def _refuse(below, *arguments):
    raise RuntimeError(NO_GRADIENT)


if ops.NATIVE_BUILT:
    for name, fake in (("quantized", _fake), ("quantized_flat", _fake_flat)):
        torch.library.register_fake(f"fastrnn::{name}", fake)
        flops.count_by(_flops, getattr(torch.ops.fastrnn, name).default)
    graph.differentiable("quantized_flat", _refuse)
    QUANTIZED = torch.ops.fastrnn.quantized.default
    QUANTIZED_FLAT = torch.ops.fastrnn.quantized_flat.default

"""Recurrent layers as functions: layers x directions, padded or packed, one scan per layer."""

from __future__ import annotations

import numbers
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from . import backends, cells, checks, ops, torch_private
from .autograd import recurrent_scan, single_step
from .cells import Cell
from .reference import BOTH, FORWARD, REVERSE

__all__ = ["Packing", "pack_lengths", "recurrent", "scan", "step"]


def recurrent(
    cell: str,
    input: Tensor,
    hx: Sequence[Tensor] | None,
    layers: Sequence[Sequence[Tensor]],
    batch_sizes: Tensor | None = None,
    resets: Tensor | None = None,
    bidirectional: bool = False,
    proj: bool = False,
    dropout: float = 0.0,
    training: bool = False,
    backend: str = "auto",
    recompute_gates: bool = False,
) -> tuple[Tensor, Sequence[Tensor]]:
    """L layers of D directions, as the layers call it after their checks.

    Args:
        cell: a name in `fastrnn.cells.CELLS`
        input: `[T, B, I]`, or packed `[N, I]` with batch_sizes
        hx: S tensors `[L*D, B, H]`; None, for a dense input: zeros
        layers: L lists of weights, both directions together: those of a direction in torch.nn's
            order, then the cell's params `[P, H]` if it has any
        batch_sizes: `[T]` int64 on the CPU, falling, as in PackedSequence; None: dense
        resets: `[T, B]`, or packed `[N]`; bool
        bidirectional: D is 2
        proj: the weights have torch.nn's weight_hr (LSTM)
        dropout: acts on the output of each layer but the last, with torch.nn's random numbers
        training: whether dropout acts
        backend: "auto", "native" (cpu or cuda), "triton" or "reference"
        recompute_gates: keep less for backward, as the layers say

    Returns output `[T, B, D*H]` or `[N, D*H]` and S final states `[L*D, B, H]`, in the input's
    dtype, or in torch.autocast's; computed in float32 where the backend has no kernel for bfloat16
    or float16.

    Raises ValueError for an unknown cell or backend, RuntimeError where the backend cannot serve.
    """
    device = "cpu" if input.is_cpu else input.device.type
    dtype = given = input.dtype
    if torch_private.any_autocast() and ops.autocasts(device):
        given = None  # input, hx and weights may have any dtypes here
        if layers[0][0].dtype != torch.float64:
            dtype = torch.get_autocast_dtype(device)
    chosen, _ = backends.choose(cell, device, dtype, backend, proj)
    compute = chosen.compute_dtype(dtype)
    if compute is not given:
        input, hx = input.to(compute), hx and [s.to(compute) for s in hx]
        layers = [[w.to(compute) for w in weights] for weights in layers]

    d = 2 if bidirectional else 1
    directions = BOTH if bidirectional else FORWARD
    if len(layers) == 1:
        input, final = recurrent_scan(
            cell, input, layers[0], hx, batch_sizes, resets, directions, True, chosen,
            recompute_gates,
        )  # fmt: skip
    else:
        finals = []
        for index, weights in enumerate(layers):
            if index and dropout:
                input = F.dropout(input, dropout, training)
            state = hx and [s[index * d : (index + 1) * d] for s in hx]
            input, layer_final = recurrent_scan(
                cell, input, weights, state, batch_sizes, resets, directions, True, chosen,
                recompute_gates,
            )  # fmt: skip
            finals.append(layer_final)
        final = [torch.cat(parts) for parts in zip(*finals)]
    if compute != dtype:
        input, final = input.to(dtype), [s.to(dtype) for s in final]
    return input, final


def step(
    cell: str,
    input: Tensor,
    hx: Sequence[Tensor] | None,
    weights: Sequence[Tensor],
    proj: bool = False,
    backend: str = "auto",
) -> Sequence[Tensor]:
    """One time step of one layer, as `recurrent` computes it.

    Args:
        cell: as in `recurrent`
        input: `[B, I]`
        hx: S tensors `[B, H]`; None: zeros
        weights: of one direction, as in `recurrent`
        proj: the weights have weight_hr
        backend: as in `recurrent`

    Returns S next states `[B, H]`. Raises as `recurrent`.
    """
    if not torch_private.any_autocast():
        device = "cpu" if input.is_cpu else input.device.type
        chosen, _ = backends.choose(cell, device, input.dtype, backend, proj)
        if chosen.compute_dtype(input.dtype) is input.dtype:
            return single_step(cell, input, weights, hx, chosen)
    state = hx and [s.unsqueeze(0) for s in hx]
    _, final = recurrent(cell, input.unsqueeze(0), state, [weights], proj=proj, backend=backend)
    return [s[0] for s in final]


def scan(
    cell: str | Cell,
    gx: Tensor,
    weight_hh: Tensor | None,
    bias_hh: Tensor | None,
    state: Tensor | Sequence[Tensor],
    *,
    params: Tensor | None = None,
    batch_sizes: Tensor | None = None,
    resets: Tensor | None = None,
    reverse: bool = False,
    backend: str = "auto",
) -> tuple[Tensor, Tensor | tuple[Tensor, ...]]:
    """The scan alone, over a ready input projection: for cells whose input is not W x + b.

    Args:
        cell: one made by `fastrnn.cell`, or a name in `fastrnn.cells.CELLS`: "rnn_tanh",
            "rnn_relu", "rnn_identity", "lstm", "gru"
        gx: `[T, B, G*H]`, or packed `[N, G*H]` with batch_sizes; biases of the input included
        weight_hh: `[G*H, H]`; None for a cell without a recurrent product
        bias_hh: `[G*H]` or None
        state: S tensors `[B, H]` (lstm: (h, c)); the tensor itself where S is 1
        params: `[P, H]`, for a cell with parameters of its own
        batch_sizes: `[T]` int64 on the CPU, falling, as in PackedSequence; None for a dense gx
        resets: `[T, B]`, or packed `[N]`; bool; true: the row enters that step with zero state
        reverse: from the last step to the first
        backend: "auto", "native" (cpu or cuda), "triton" or "reference"

    Returns output `[T, B, H]` or `[N, H]`, and the final state in the form that state has.

    Raises ValueError for wrong shapes, dtypes and devices, RuntimeError where a backend asked for
    cannot serve.
    """
    cell = checks.cell(cell)
    bare = isinstance(state, Tensor)
    states = (state,) if bare else tuple(state)
    checks.scan(cells.get(cell), gx, weight_hh, bias_hh, states, params, batch_sizes, resets)
    chosen, _ = backends.choose(cell, gx.device.type, gx.dtype, backend)
    compute = chosen.compute_dtype(gx.dtype)
    weights = [w for w in (weight_hh, bias_hh, params) if w is not None]
    output, final = recurrent_scan(
        cell,
        gx.to(compute),
        [w.to(compute) for w in weights],
        [s.to(compute).unsqueeze(0) for s in states],
        None if batch_sizes is None else batch_sizes.contiguous(),
        resets,
        REVERSE if reverse else FORWARD,
        False,
        chosen,
    )
    finals = tuple(s[0].to(gx.dtype) for s in final)
    return output.to(gx.dtype), finals[0] if bare else finals


class Packing:
    """Where the valid rows of a padded batch lie: padded `[T, B, ..]` <-> packed `[N, ..]`.

    Rows are taken in order of falling length, so that the rows of a step are the first rows of the
    state, as in PackedSequence. Everything here is index arithmetic: no loop over T or B. Made by
    `pack_lengths`, which checks. Raises nothing of its own.
    """

    def __init__(self, batch_sizes: Tensor, order: Tensor, inverse: Tensor, index: Tensor):
        self.batch_sizes = batch_sizes  # [T'] int64 on the CPU, T' the greatest length
        self.order = order  # [B]: order[k] is the batch row at place k
        self.inverse = inverse  # [B]: the place of each batch row
        self.index = index  # [N]: place in the flattened [T*B] of each packed row

    def pack(self, padded: Tensor) -> Tensor:
        """`[T, B, ..]` -> `[N, ..]`"""
        return padded.flatten(0, 1).index_select(0, self.index)

    def pad(self, packed: Tensor, t: int, b: int) -> Tensor:
        """`[N, ..]` -> `[T, B, ..]` with zeros outside the lengths."""
        padded = packed.new_zeros((t * b, *packed.shape[1:]))
        return padded.index_copy(0, self.index, packed).unflatten(0, (t, b))

    def sort(self, state: Tensor) -> Tensor:
        """`[L*D, B, H]` in the caller's order of rows -> in falling order of lengths."""
        return state.index_select(1, self.order)

    def unsort(self, state: Tensor) -> Tensor:
        """`[L*D, B, H]` in falling order of lengths -> in the caller's order of rows."""
        return state.index_select(1, self.inverse)


def pack_lengths(lengths: Tensor | Sequence[int], t: int, b: int, device: torch.device) -> Packing:
    """The packing of a padded batch `[T, B, ..]` whose row b has lengths[b] valid steps, 0 to T.

    lengths: `[B]` integers, a Tensor on any device or a sequence; t, b: T and B; device: that of
    the batch. Raises TypeError for lengths that are no integers, ValueError where they are not one
    for each row, or not between 0 and T.
    """
    if isinstance(lengths, Tensor):
        if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
            raise TypeError(f"lengths must be integers, got {lengths.dtype}")
        lengths = lengths.detach().to("cpu", torch.int64)
    else:
        lengths = [n.item() if isinstance(n, Tensor) and n.dim() == 0 else n for n in lengths]
        if not all(isinstance(n, numbers.Integral) and not isinstance(n, bool) for n in lengths):
            raise TypeError(f"lengths must be integers, got {lengths}")
        lengths = torch.tensor(lengths, dtype=torch.int64)
    if lengths.shape != (b,):
        raise ValueError(
            f"lengths must have shape [{b}] (one for each batch row), got {list(lengths.shape)}"
        )
    if b and not 0 <= int(lengths.min()) <= int(lengths.max()) <= t:
        raise ValueError(
            f"lengths must lie between 0 and {t} (the time steps of input), got "
            f"{int(lengths.min())} to {int(lengths.max())}"
        )
    falling, order = lengths.sort(descending=True, stable=True)
    steps = torch.arange(int(falling[0]) if b else 0)
    valid = steps[:, None] < falling  # [T', B]: falling, so valid rows come first in each step
    step, place = valid.nonzero(as_tuple=True)
    return Packing(
        valid.sum(1),
        order.to(device),
        order.argsort().to(device),
        (step * b + order[place]).to(device),
    )


def pack_resets(resets: Tensor, batch_sizes: Tensor, order: Tensor | None) -> Tensor:
    """resets [T, B] in the caller's order of rows -> [N] as a PackedSequence lays out its rows."""
    if order is not None:
        resets = resets.index_select(1, order)
    places = torch.arange(resets.shape[1])
    return resets[(places < batch_sizes[:, None]).to(resets.device)]

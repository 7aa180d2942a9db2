"""Recurrent layers as functions: layers x directions, padded or packed, one scan per layer."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from . import (
    backends,
    cells,
    checks,
    extras,
    ops,
    per_sample,
    projection,
    reference,
    torch_private,
)
from .autograd import recurrent_scan, single_step
from .cells import Cell
from .ragged import Packing, pack_lengths
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
    lengths: Tensor | None = None,
) -> tuple[Tensor, Sequence[Tensor]]:
    """L layers of D directions, as the layers call it after their checks.

    Args:
        cell: a name in `fastrnn.cells.CELLS`
        input: `[T, B, I]`, or packed `[N, I]` with batch_sizes
        hx: S tensors `[L*D, B, H]`; None, without batch_sizes: zeros
        layers: L lists of weights, both directions together: those of a direction in torch.nn's
            order, then the cell's params `[P, H]` if it has any, then its extra slots, rows as
            input's, `[T, B, E*H]` or `[N, E*H]`, or drawn, if it has any
        batch_sizes: `[T]` int64 on the CPU, falling, as in PackedSequence; None: dense
        resets: `[T, B]`, or packed `[N]`; bool
        bidirectional: D is 2
        proj: the weights have torch.nn's weight_hr (LSTM)
        dropout: acts on the output of each layer but the last, with torch.nn's random numbers
        training: whether dropout acts
        backend: "auto", "native" (cpu or cuda), "triton" or "reference"
        recompute_gates: keep less for backward, as the layers say
        lengths: `[B]` int64 on the CPU, of an input `[T, B, I]`: the valid steps of each row

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
    if lengths is not None:
        if not (chosen.reads_lengths or torch.compiler.is_compiling()):
            rest = proj, dropout, training, backend, recompute_gates
            return _packed(lengths, cell, input, hx, layers, resets, bidirectional, *rest)
        batch_sizes = lengths  # as the ops take them
    compute = chosen.compute_dtype(dtype)
    if compute is not given:
        input, hx = input.to(compute), hx and [s.to(compute) for s in hx]
        layers = [[w.to(compute) for w in weights] for weights in layers]

    d = 2 if bidirectional else 1
    directions = BOTH if bidirectional else FORWARD
    scan = projection.recurrent_scan if proj and not chosen.projects else recurrent_scan
    if len(layers) == 1:
        input, final = scan(
            cell, input, layers[0], hx, batch_sizes, resets, directions, True, chosen,
            recompute_gates,
        )  # fmt: skip
    else:
        finals = []
        for index, weights in enumerate(layers):
            if index and dropout:
                input = F.dropout(input, dropout, training)
            state = hx and [s[index * d : (index + 1) * d] for s in hx]
            input, layer_final = scan(
                cell, input, weights, state, batch_sizes, resets, directions, True, chosen,
                recompute_gates,
            )  # fmt: skip
            finals.append(layer_final)
        final = [torch.cat(parts) for parts in zip(*finals)]
    if compute != dtype:
        input, final = input.to(dtype), [s.to(dtype) for s in final]
    return input, final


def _packed(lengths, cell, input, hx, layers, resets, bidirectional, *rest):
    """`recurrent` of a padded batch, by one of its valid rows."""
    per_sample.refuse_lengths(sum(layers, []))
    t, b, _ = input.shape
    if hx is None:
        directions = BOTH if bidirectional else FORWARD
        zeros = reference.zeros(cell, input, layers[0], directions)
        hx = [s.repeat(len(layers), 1, 1) for s in zeros]
    packing = pack_lengths(lengths, t, b, input.device)
    d = 2 if bidirectional else 1
    pick = functools.partial(extras.pick, f=packing.pack, rows=packing.order)
    layers = [extras.change(cell, weights, d, pick) for weights in layers]
    output, final = recurrent(
        cell, packing.pack(input), [packing.sort(s) for s in hx], layers, packing.batch_sizes,
        None if resets is None else packing.pack(resets), bidirectional, *rest,
    )  # fmt: skip
    return packing.pad(output, t, b), [packing.unsort(s) for s in final]


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
        own = chosen.projects or not proj
        if own and chosen.compute_dtype(input.dtype) is input.dtype:
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
    extra: Tensor | Sequence[Tensor] | None = None,
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
        weight_hh: `[G*H, H]`, or `[R*H, H]`; for a cell whose product is in N heads `[N, G*H/N,
            H/N]`: each head's block has its units' rows gate by gate; None for a cell without a
            recurrent product
        bias_hh: `[G*H]` or `[R*H]`, or None
        state: S tensors `[B, H]` (lstm: (h, c)); the tensor itself where S is 1
        params: `[P, H]`, for a cell with parameters of its own
        extra: E tensors `[T, B, H]`, or packed `[N, H]`, for a cell with extra slots
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
    spec = cells.get(cell)
    checks.scan(spec, gx, weight_hh, bias_hh, states, params, batch_sizes, resets)
    slots = extras.of_scan(spec, extra, gx, states[0].shape[-1])
    chosen, _ = backends.choose(cell, gx.device.type, gx.dtype, backend)
    compute = chosen.compute_dtype(gx.dtype)
    weights = [w for w in (weight_hh, bias_hh, params, *slots) if w is not None]
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

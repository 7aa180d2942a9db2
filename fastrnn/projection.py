"""LSTM's `proj_size` on a backend whose kernels have none: the projection goes into W_hh.

    m = o tanh(c),  h = W_hr m,  r = W_hh h + b_hh = (W_hh W_hr) m + b_hh

So m [H] is the hidden state of a layer without projection, whose recurrent matrix is W_hh W_hr
[G*H, H], and all h are one product after the scan. A row's first step has W_hh h_0 instead, which
comes with the input: h_0 stands beside x there, zeros elsewhere, and W_hh beside W_ih. All of it
is plain torch but the scan, and is differentiated as such.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from . import autograd, per_sample, reference, torch_private
from .backends import Backend


def recurrent_scan(
    cell: str,
    input: Tensor,
    weights: Sequence[Tensor],
    state: Sequence[Tensor] | None,
    batch_sizes: Tensor | None,
    resets: Tensor | None,
    directions: int,
    project: bool,
    backend: Backend,
    recompute_gates: bool = False,
) -> tuple[Tensor, Sequence[Tensor]]:
    """`autograd.recurrent_scan` of weights with weight_hr; project is True."""
    rest = batch_sizes, resets, directions, project
    if torch_private.expanded(weights):
        state = reference.zeros(cell, input, weights, directions) if state is None else state
        scan = functools.partial(recurrent_scan, backend=backend, recompute_gates=recompute_gates)
        return per_sample.by_rows(scan, cell, input, weights, state, *rest)
    d = 2 if directions == reference.BOTH else 1
    count = len(weights) // d
    named = [
        reference.name_weights(cell, weights[i * count : (i + 1) * count], project)
        for i in range(d)
    ]
    given = state
    if given is not None:
        firsts = _initial(given[0], input, *rest[:3])
        input = torch.cat([input, *firsts], -1)
        state = [given[0].new_zeros(given[1].shape), *given[1:]]
    folded = []
    for i, (w_ih, w_hh, b_ih, b_hh, w_hr, params, _) in enumerate(named):
        if given is not None:
            beside = [w_hh if i == k else torch.zeros_like(w_hh) for k in range(d)]
            w_ih = torch.cat([w_ih, *beside], -1)
        folded += [w for w in (w_ih, w_hh @ w_hr, b_ih, b_hh, params) if w is not None]
    m, (m_n, *others) = autograd.recurrent_scan(
        cell, input, folded, state, *rest, backend, recompute_gates
    )
    projections = [weights[4] for weights in named]
    output = torch.cat([F.linear(o, w) for o, w in zip(m.chunk(d, -1), projections)], -1)
    h_n = torch.stack([F.linear(last, w) for last, w in zip(m_n, projections)])
    if given is not None and batch_sizes is not None:  # a row without steps gives h_0 back
        h_n = torch.where(_with_steps(input, batch_sizes, h_n), h_n, given[0])
    return output, [h_n, *others]


def _with_steps(input: Tensor, batch_sizes: Tensor, h_n: Tensor) -> Tensor:
    """[B, 1] bool"""
    if input.dim() == 3:
        return (batch_sizes > 0).to(h_n.device).unsqueeze(-1)
    rows = int(batch_sizes[0]) if len(batch_sizes) else 0
    return (torch.arange(h_n.shape[1], device=h_n.device) < rows).unsqueeze(-1)


def _initial(
    h_0: Tensor, input: Tensor, batch_sizes: Tensor | None, resets: Tensor | None, directions: int
) -> list[Tensor]:
    """For each direction h_0 at each row's first step in its order, zeros elsewhere: [.., P]."""
    reverses = [r for bit, r in ((1, False), (2, True)) if directions & bit]
    first = _first_padded if input.dim() == 3 else _first_packed
    placed = [first(h, input, batch_sizes, r) for h, r in zip(h_0, reverses)]
    if resets is not None:
        placed = [p.masked_fill(resets.unsqueeze(-1), 0) for p in placed]
    return placed


def _first_padded(h: Tensor, input: Tensor, lengths: Tensor | None, reverse: bool) -> Tensor:
    steps = torch.arange(len(input), device=input.device).unsqueeze(-1)
    at = 0
    if reverse:
        at = len(input) - 1 if lengths is None else lengths.to(input.device) - 1
    return torch.where((steps == at).unsqueeze(-1), h, torch.zeros_like(h))


def _first_packed(h: Tensor, input: Tensor, batch_sizes: Tensor, reverse: bool) -> Tensor:
    rows = int(batch_sizes[0]) if len(batch_sizes) else 0
    lines = torch.arange(rows)
    if reverse:
        ends = (batch_sizes.unsqueeze(-1) > lines).sum(0) - 1  # each row's last step
        lines = lines + (batch_sizes.cumsum(0) - batch_sizes)[ends]
    placed = h.new_zeros(len(input), h.shape[-1])
    return placed.index_copy(0, lines.to(input.device), h[:rows])

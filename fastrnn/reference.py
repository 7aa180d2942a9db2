"""The scan in plain differentiable torch: the oracle, and the engine where no kernel serves.

Slow and obviously right. Any device, any dtype, any number of derivatives, `proj_size` too.

Ragged batches use one packed form, that of `PackedSequence`: the rows of all steps lie in one
buffer [N, ..], `batch_sizes` [T] tells how many rows each step has, and they fall. So the rows of a
step are the first rows of the state, and a row that has ended simply stops being touched. A padded
batch with lengths is walked in full, and what a row that has ended gives is dropped: nothing here
hangs on values, so that it can be traced.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from . import cells, drawn, per_sample, torch_private

FORWARD, REVERSE, BOTH = 1, 2, 3


def scan(
    cell: str,
    gx: Tensor,  # [T, B, G*H] or packed [N, G*H]
    weight_hh: Tensor | None,  # [R*H, H], or [G*H, P] with weight_hr; in heads [N, G*H/N, H/N];
    # None: no recurrent product
    bias_hh: Tensor | None,  # [R*H]
    state: Sequence[Tensor],  # S tensors [B, H]; the first is [B, P] with weight_hr
    *,
    batch_sizes: Tensor | None = None,  # [T] int64 on the CPU, falling; None: dense
    resets: Tensor | None = None,  # [T, B] or packed [N], bool
    reverse: bool = False,
    weight_hr: Tensor | None = None,  # [P, H]: h is projected (https://arxiv.org/abs/1402.1128)
    params: Tensor | None = None,  # [P, H]: the cell's own, P as many as it has
    ended: Tensor | None = None,  # [T, B] bool, of a dense gx: the row keeps its state there
    extra: Tensor | None = None,  # [T, B, E*H] or packed [N, E*H]: the extra slots of x; or drawn
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One direction over a ready input projection gx: (output [T, B, H] or [N, H], final states).

    A row enters a step with zero state where resets is true. The final state of a row is the one
    after its last step in scan order; a row without steps gives its initial state back.
    """
    spec = cells.get(cell)
    x_steps = gx.unflatten(-1, (spec.gates, -1))  # [T, B, G, H] or [N, G, H]
    if extra is not None:
        if extra.dim() == 1:
            h = x_steps.shape[-1]
            extra = drawn.lines(extra, spec.extra, h, gx.shape[:-1], batch_sizes)
        x_steps = torch.cat([x_steps, extra.unflatten(-1, (spec.extra, -1))], -2)
    reset_steps: Sequence[Tensor | None]
    if batch_sizes is None:
        x_steps = x_steps.unbind(0)
        reset_steps = [None] * len(x_steps) if resets is None else resets.unbind(0)
    else:
        sizes = batch_sizes.tolist() or [0]  # a step without rows: results that can be derived
        x_steps = x_steps.split(sizes)
        reset_steps = [None] * len(x_steps) if resets is None else resets.split(sizes)

    parameters = () if params is None else (params.unbind(),)
    early, *late = _products(spec, weight_hh, bias_hh)
    current = tuple(state)
    outputs = [gx.new_empty(0)] * len(x_steps)
    order = range(len(x_steps))
    for t in reversed(order) if reverse else order:
        x, reset = x_steps[t], reset_steps[t]  # x: [rows, G + E, H]
        rows = x.shape[0]
        entering = tuple(s[:rows] for s in current)
        if reset is not None:
            # where, not a product: neither NaN nor gradient may cross a reset.
            entering = tuple(s.masked_fill(reset.unsqueeze(-1), 0) for s in entering)
        r: tuple[Tensor, ...] = ()
        if weight_hh is not None:
            r = early(entering[spec.feeds])
        after = spec.step(x.unbind(-2), r, entering, *parameters, *late)
        after = tuple(a.expand(rows, x.shape[-1]) for a in after)  # a mean may be [rows, 1]
        if weight_hr is not None:
            after = (F.linear(after[0], weight_hr), *after[1:])
        outputs[t] = after[0]
        if ended is not None:
            keep = ended[t].unsqueeze(-1)
            after = tuple(torch.where(keep, old, new) for new, old in zip(after, current))
            outputs[t] = outputs[t].masked_fill(keep, 0)
        if rows < current[0].shape[0]:
            after = tuple(torch.cat([new, old[rows:]]) for new, old in zip(after, current))
        current = after
    return _join(outputs, gx, current[0], dense=batch_sizes is None), current


def _products(
    spec: cells.Cell, weight_hh: Tensor | None, bias_hh: Tensor | None
) -> list[Callable[[Tensor], tuple[Tensor, ...]]]:
    """What makes r of a state, and what gives late slots, if the cell has some."""
    counts = [spec.early, *[spec.late] * bool(spec.late)]
    if not spec.late:
        parts = [(weight_hh, bias_hh)]
    else:
        rows = [count * weight_hh.shape[1] for count in counts]
        biases = (None, None) if bias_hh is None else bias_hh.split(rows)
        parts = zip(weight_hh.split(rows), biases)

    def slots(count: int, weight: Tensor, bias: Tensor | None, h: Tensor) -> tuple[Tensor, ...]:
        return _product(h, weight, bias).unflatten(-1, (count, -1)).unbind(-2)

    return [functools.partial(slots, count, *part) for count, part in zip(counts, parts)]


def _product(h: Tensor, weight_hh: Tensor, bias_hh: Tensor | None) -> Tensor:
    """W_hh h + b_hh [rows, G*H]."""
    if weight_hh.dim() == 2:
        return F.linear(h, weight_hh, bias_hh)
    n, rows, own = weight_hh.shape
    blocks = weight_hh.unflatten(1, (rows // own, own))  # [N, G, H/N, H/N]
    r = torch.einsum("bnk,nguk->bgnu", h.unflatten(-1, (n, own)), blocks).flatten(1)
    return r if bias_hh is None else r + bias_hh


def _join(outputs: list[Tensor], gx: Tensor, h: Tensor, dense: bool) -> Tensor:
    """[T, B, H] or [N, H] from the outputs of the steps, also where there are no steps."""
    if not outputs:
        return gx.new_empty((*gx.shape[:-1], h.shape[-1]))
    return torch.stack(outputs) if dense else torch.cat(outputs)


def forward(
    cell: str,
    input: Tensor,  # [T, B, I] or packed [N, I]; project=False: the ready gx, D = 1
    weights: Sequence[Tensor],  # for each direction those of `name_weights`
    state: Sequence[Tensor],  # S tensors [D, B, H]
    batch_sizes: Tensor | None,  # [T], of a padded input its rows' lengths [B]
    resets: Tensor | None,
    directions: int,
    project: bool,
) -> tuple[Tensor, list[Tensor]]:
    """`torch.ops.fastrnn.forward` without `save`: one layer, D directions (forward, then reverse).

    Returns output [T, B, D*H] or [N, D*H] and the S final states [D, B, H].
    """
    reverses = [reverse for bit, reverse in ((FORWARD, False), (REVERSE, True)) if directions & bit]
    per_direction = len(weights) // len(reverses)
    ended = None
    if batch_sizes is not None and input.dim() == 3:  # lengths
        steps = torch.arange(len(input), device=input.device)
        ended = steps[:, None] >= batch_sizes.to(input.device)
        # Neither values nor gradients, NaN too, come from a step that is dropped.
        input = input.masked_fill(ended.unsqueeze(-1), 0)
        weights = _without_ended(cell, weights, per_direction, ended)
        resets = ended if resets is None else resets | ended
        batch_sizes = None
    outputs, finals = [], []
    for d, reverse in enumerate(reverses):
        w_ih, w_hh, b_ih, b_hh, w_hr, params, extra = name_weights(
            cell, weights[d * per_direction : (d + 1) * per_direction], project
        )
        output, final = scan(
            cell,
            F.linear(input, w_ih, b_ih) if project else input,
            w_hh,
            b_hh,
            [s[d] for s in state],
            batch_sizes=batch_sizes,
            resets=resets,
            reverse=reverse,
            weight_hr=w_hr,
            params=params,
            ended=ended,
            extra=extra,
        )
        outputs.append(output)
        finals.append(final)
    output = outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)
    return output, [torch.stack(states) for states in zip(*finals)]


def _without_ended(
    cell: str, weights: Sequence[Tensor], per_direction: int, ended: Tensor
) -> Sequence[Tensor]:
    """The weights, with zeros in the extra slots of the steps past a row's length."""
    if not cells.get(cell).extra or weights[-1].dim() == 1:
        return weights
    weights = list(weights)
    for place in range(per_direction - 1, len(weights), per_direction):
        weights[place] = weights[place].masked_fill(ended.unsqueeze(-1), 0)
    return weights


def zeros(
    cell: str, input: Tensor, weights: Sequence[Tensor], directions: int
) -> tuple[Tensor, ...]:
    """Initial states for a dense input: S tensors [D, B, H], the first [D, B, P] if projected."""
    spec = cells.get(cell)
    d, b = 2 if directions == BOTH else 1, input.shape[-2]
    h, p = weights[0].shape[0] // spec.gates, cells.hidden(spec, input, weights, True)
    h0 = input.new_zeros(d, b, p)
    return (h0, *(h0 if p == h else input.new_zeros(d, b, h) for _ in range(1, spec.states)))


def in_its_precision(
    cell, input, weights, state, batch_sizes, resets, directions, project
) -> tuple[Tensor, list[Tensor]]:
    """`forward` in float32 for lower precisions, results in that of the input."""
    if torch_private.expanded(weights):
        return per_sample.by_rows(
            in_its_precision, cell, input, weights, state, batch_sizes, resets, directions, project
        )
    low = input.dtype in (torch.bfloat16, torch.float16)
    compute = torch.float32 if low else input.dtype
    weights, state = [w.to(compute) for w in weights], [s.to(compute) for s in state]
    output, final = forward(
        cell, input.to(compute), weights, state, batch_sizes, resets, directions, project
    )
    return output.to(input.dtype), [f.to(input.dtype) for f in final]


def second_derivatives(
    primal: Callable[..., tuple[Tensor, ...]],
    cotangents: Sequence[Tensor],
    primals: Sequence[Tensor],
    grads: Sequence[Tensor | None],
) -> tuple[Tensor, ...]:
    """Gradients of (*cotangents, *primals), through primal's vector-Jacobian product.

    grads: the gradients of what that product gives for each of primals; None stands for zeros.
    """
    split = len(cotangents)

    def gradient(*tensors):
        _, vjp = torch.func.vjp(primal, *tensors[split:])
        return vjp(tuple(tensors[:split]))

    _, vjp = torch.func.vjp(gradient, *cotangents, *primals)
    return vjp(tuple(torch.zeros_like(p) if g is None else g for g, p in zip(grads, primals)))


def name_weights(cell: str, weights: Sequence[Tensor], project: bool) -> tuple[Tensor | None, ...]:
    """(w_ih, w_hh, b_ih, b_hh, w_hr, params, extra) of a direction's flat list; None if absent."""
    rest, spec = list(weights), cells.get(cell)
    extra = rest.pop() if spec.extra else None
    params = rest.pop() if spec.params else None
    w_ih = rest.pop(0) if project else None
    w_hh = rest.pop(0) if spec.recurrent else None
    w_hr = rest.pop() if rest and rest[-1].dim() == 2 else None
    b_ih = rest.pop(0) if project and rest else None
    b_hh = rest.pop(0) if rest else None
    return w_ih, w_hh, b_ih, b_hh, w_hr, params, extra

"""A layer with zoneout or recurrent dropout as a loop over steps, masks drawn as it says."""

import torch
from torch import Tensor, nn

from fastrnn import cells
from fastrnn.masks import draw


def by_hand(
    layer: nn.Module, x: Tensor, state: list[Tensor] | None = None, lengths=None, resets=None
) -> list[Tensor]:
    """[output, *final states]: step by step, masks drawn as `fastrnn.masks` says."""
    spec, d, (t, b, _) = cells.get(layer.cell), 1 + layer.bidirectional, x.shape
    hidden, masks, finals = layer.hidden_size, [], []
    for _ in range(layer.num_layers * d):  # all of them before the first step
        zones = _zones(layer, x, t, b, hidden)
        drops = [None] * (t + 1)
        if layer.training and (rate := layer.recurrent_dropout):
            count = t if layer.recurrent_mask == "step" else 1
            shape = (t, b, hidden) if count == t else (b, hidden)
            drops = draw(x, shape, 1 - rate) / (1 - rate)
            drops = [*drops] if count == t else [drops] * t
            first = drops[0]
            if count == t and state is not None:
                first = draw(x, (b, hidden), 1 - rate) / (1 - rate)
            drops.append(first)  # of what the first step sees
        masks.append((zones, drops))
    for k in range(layer.num_layers):
        sides = []
        for side, suffix in enumerate(("", "_reverse")[:d]):
            w_ih, w_hh, b_ih, b_hh = (
                getattr(layer, f"{n}_l{k}{suffix}") for n in
                ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )  # fmt: skip
            zones, drops = masks[k * d + side]
            now = [x.new_zeros(b, hidden)] * spec.states
            now = now if state is None else [s[k * d + side] for s in state]
            outputs, mask = [None] * t, drops[t]
            for i in reversed(range(t)) if side else range(t):
                if resets is not None:
                    now = [s.masked_fill(resets[i][:, None], 0) for s in now]
                seen = now if mask is None else [now[0] * mask, *now[1:]]
                gates = [
                    a.split(hidden, 1) for a in (x[i] @ w_ih.T + b_ih, seen[0] @ w_hh.T + b_hh)
                ]
                new = spec.step(*gates, tuple(seen))
                new = [z[i] * s + (1 - z[i]) * n for z, s, n in zip(zones, now, new)]
                if lengths is not None:
                    over = (torch.tensor(lengths, device=x.device) <= i)[:, None]
                    outputs[i] = new[0].masked_fill(over, 0)
                    kept = mask if mask is None else torch.where(over, mask, drops[i])
                    now, mask = [torch.where(over, s, n) for s, n in zip(now, new)], kept
                else:
                    outputs[i], now, mask = new[0], new, drops[i]
            sides.append(torch.stack(outputs))
            finals.append(now)
        x = torch.cat(sides, -1)
    return [x, *(torch.stack(s) for s in zip(*finals))]


def _zones(layer, x, t, b, hidden) -> list[Tensor]:
    """For each state its share of the old one at every step [T, B, H]."""
    states = cells.get(layer.cell).states
    rates = layer.zoneout or (0.0,) * states
    if not layer.training:
        return [x.new_full((t, b, hidden), rate) for rate in rates]
    on = [rate for rate in rates if rate]
    if len({*on}) == 1:
        drawn = list(draw(x, (t, b, len(on) * hidden), on[0]).split(hidden, -1))
    else:
        drawn = [draw(x, (t, b, hidden), rate) for rate in on]
    return [drawn.pop(0) if rate else x.new_zeros(t, b, hidden) for rate in rates]

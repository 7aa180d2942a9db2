"""A layer with zoneout or recurrent dropout as a loop over steps, masks drawn as it says."""

import torch
from torch import Tensor, nn

from fastrnn import cells, drawn


def by_hand(
    layer: nn.Module, x: Tensor, state: list[Tensor] | None = None, lengths=None, resets=None
) -> list[Tensor]:
    """[output, *final states]: step by step, with the masks that `fastrnn.masks` draws."""
    spec, d, (t, b, _) = cells.get(layer.cell), 1 + layer.bidirectional, x.shape
    hidden, finals = layer.hidden_size, []
    masks = _masks(layer, x, t, b, hidden, d)
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


def _masks(layer, x, t, b, hidden, d) -> list[tuple[list[Tensor], list[Tensor | None]]]:
    """For each direction of each layer: what each state keeps of the old one at every step [T, B,
    H], and what h is multiplied with after each step, then before the first [B, H]."""
    states = cells.get(layer.cell).states
    rates, drop = layer.zoneout or (0.0,) * states, layer.recurrent_dropout
    count = layer.num_layers * d
    if not layer.training:
        return [([x.new_full((t, b, hidden), rate) for rate in rates], [None] * (t + 1))] * count
    slots = [(drawn.ZONEOUT, rate) for rate in rates if rate]
    if drop:
        same = layer.recurrent_mask == "sequence"
        slots.append((drawn.DROPOUT if same else drawn.DROPOUT_EACH_STEP, drop))
    times = torch.tensor([*range(t), drawn.BEFORE], device=x.device).unsqueeze(-1).expand(-1, b)
    rows = torch.arange(b, device=x.device).expand(t + 1, b)
    found = []
    for numbers in drawn.of_call(x, tuple(slots), count):
        made = list(drawn.masks(numbers, len(slots), hidden, times, rows).split(hidden, -1))
        zones = [made.pop(0)[:t] if rate else x.new_zeros(t, b, hidden) for rate in rates]
        found.append((zones, [*made[0]] if drop else [None] * (t + 1)))
    return found

"""A layer of any cell as a loop over rows and steps, for cells that torch.nn has not."""

import torch
from helpers import fast
from new_cells import block_gru, ind_rnn, light_gru, min_gru, peephole_lstm, slstm
from torch import Tensor, nn
from torch.nn import functional as F

from fastrnn import cells

F64 = torch.float64


NEW = (light_gru, peephole_lstm, slstm, ind_rnn, min_gru)
TITLES = [cell.title for cell in NEW]
# And one in heads, of which the layers made here have two.
EVERY = (*NEW, block_gru)
EVERY_TITLE = [cell.title for cell in EVERY]


def layer_of(cell: cells.Cell, *sizes: int, dtype=F64, **options) -> nn.Module:
    """A layer whose backend serves the cell; else the test is skipped."""
    if cell.in_heads:
        options = {"heads": 2, **options}
    return fast(cell.name, *sizes, dtype=dtype, **options)


def dense(blocks: Tensor) -> Tensor:
    """weight_hh of a layer in heads [N, G*H/N, H/N] as a matrix [G*H, H]."""
    n, rows, own = blocks.shape
    gates = blocks.view(n, rows // own, own, own).unbind(1)
    return torch.cat([torch.block_diag(*gate) for gate in gates])


def by_hand(
    layer: nn.Module,
    x: Tensor,  # [T, B, I]
    state: tuple[Tensor, ...] | None = None,  # S tensors [L*D, B, H]
    lengths: list[int] | None = None,
    resets: Tensor | None = None,  # [T, B]
    extra: tuple[Tensor, ...] = (),  # E tensors [T, B, H]
) -> list[Tensor]:
    """[output [T, B, D*H], *S final states]: each row alone, a step after the other."""
    (t, b, _), finals = x.shape, []
    d = 2 if layer.bidirectional else 1
    if state is None:
        state = (x.new_zeros(layer.num_layers * d, b, layer.hidden_size),) * layer.states
    for k in range(layer.num_layers):
        if k:
            x = F.dropout(x, layer.dropout, layer.training)
        sides = []
        for side, suffix in enumerate(("", "_reverse")[:d]):
            weights = _weights(layer, f"_l{k}{suffix}")
            rows = [
                _row(layer, weights, x[: t if lengths is None else lengths[row], row],
                     [s[k * d + side, row] for s in state],
                     None if resets is None else resets[:, row], side == 1,
                     [e[:, row] for e in extra])
                for row in range(b)
            ]  # fmt: skip
            sides.append(torch.stack([F.pad(o, (0, 0, 0, t - len(o))) for o, _ in rows], 1))
            finals.append([torch.stack(states) for states in zip(*(f for _, f in rows))])
        x = torch.cat(sides, -1)
    return [x, *(torch.stack(states) for states in zip(*finals))]


def _weights(layer: nn.Module, suffix: str) -> list[Tensor | None]:
    kinds = "weight_ih", "weight_hh", "bias_ih", "bias_hh", "params"
    return [getattr(layer, kind + suffix, None) for kind in kinds]


def _row(layer, weights, x, state, resets, reverse, extra) -> tuple[Tensor, list[Tensor]]:
    """(output [steps, H], final states) of one row [steps, I] in one direction."""
    w_ih, w_hh, b_ih, b_hh, params = weights
    h, cell, outputs = layer.hidden_size, layer.definition, {}
    if layer.heads is not None:
        w_hh = dense(w_hh)
    for t in reversed(range(len(x))) if reverse else range(len(x)):
        if resets is not None and resets[t]:
            state = [torch.zeros_like(s) for s in state]
        r = () if w_hh is None else F.linear(state[cell.feeds], w_hh, b_hh).split(h)
        more = [] if params is None else [params.unbind()]
        if cell.late:
            r, more = r[: cell.early], [*more, _product(cell, w_hh, b_hh)]
        slots = (*F.linear(x[t], w_ih, b_ih).split(h), *(e[t] for e in extra))
        state = cell(slots, r, tuple(state), *more)
        outputs[t] = state[0]
    steps = [outputs[t] for t in sorted(outputs)]
    return torch.stack(steps) if steps else x.new_zeros(0, layer.hidden_size), list(state)


def _product(cell, w_hh: Tensor, b_hh: Tensor | None):
    """What a cell with late slots is given for its product."""
    h = w_hh.shape[1]
    return lambda asked: F.linear(asked, w_hh, b_hh).split(h)[cell.early :]

"""The recurrent cell by hand, and what back-propagation through time does to its gradient.

1. Two steps of tanh(x Wx + b), tanh(y Wy + x Wx + b) for 4 rows of 2 columns, written out; then any
   number of steps; then the same through the cell and through the layer, side by side.
2. Autograd through the unrolled steps against the layer's backward pass: the same gradients.
3. How much of a gradient is left after 1, 2, 3 ... steps back, for RNN, LSTM and GRU (--plot).
4. What clipping does where gradients explode (--plot-clipping).

  python examples/unrolled_cell.py
  python examples/unrolled_cell.py --steps 50 --plot gradients.png --plot-clipping clipping.png
"""

from __future__ import annotations

import argparse
import math

import common
import torch
from torch import nn

ROWS, COLUMNS, UNITS = 4, 2, 5
CHANGED = "weights enlarged or gates held open"


def two_steps(x0, x1, wx, wy, b):
    """The unrolled graph as it is first drawn: one line a step. x0, x1 [4, 2]; wx [2, 5]."""
    y0 = torch.tanh(x0 @ wx + b)
    y1 = torch.tanh(y0 @ wy + x1 @ wx + b)
    return y0, y1


def unrolled(x, wx, wy, b):
    """The same lines for any number of steps. x [T, 4, 2] -> [T, 4, 5]"""
    outputs = [torch.tanh(x[0] @ wx + b)]
    for step in x[1:]:
        outputs.append(torch.tanh(outputs[-1] @ wy + step @ wx + b))
    return torch.stack(outputs)


def with_cell(cell, x):
    """One call of the cell a step; the first call starts from zeros."""
    state, outputs = None, []
    for step in x:
        state = cell(step, state)
        outputs.append(state)
    return torch.stack(outputs)


def share_weights(wx, wy, b, *modules) -> None:
    """The modules keep their weights transposed, and have a second bias that adds nothing here."""
    with torch.no_grad():
        for module in modules:
            ih, hh, bias_ih, bias_hh = module.parameters()
            ih.copy_(wx.t())
            hh.copy_(wy.t())
            bias_ih.copy_(b)
            bias_hh.zero_()


def side_by_side(args) -> list[tuple[str, float]]:
    """Prints the forward passes and compares all gradients; returns the greatest differences."""
    kinds = common.namespace(args.layer)
    cell, layer = kinds.RNNCell(COLUMNS, UNITS), kinds.RNN(COLUMNS, UNITS)
    wx, wy, b = (torch.randn(n, UNITS) for n in (COLUMNS, UNITS, 1))
    share_weights(wx, wy, b[0], cell, layer)
    leaves = [t.requires_grad_() for t in (torch.randn(args.steps, ROWS, COLUMNS), wx, wy, b)]
    x = leaves[0]
    by_hand = unrolled(x, wx, wy, b)
    others = {type(cell).__name__: with_cell(cell, x), type(layer).__name__: layer(x)[0]}
    if args.steps >= 2:
        others["two lines by hand"] = torch.stack(two_steps(x[0], x[1], wx, wy, b))
    show(by_hand, others)
    differences = [
        (f"output, {name}", greatest(output, by_hand[: len(output)]))
        for name, output in others.items()
    ]
    toward = torch.randn_like(by_hand)
    everything = {"materialize_grads": True}  # one step does not use Wy
    expected = torch.autograd.grad((by_hand * toward).sum(), leaves, **everything)
    for module in (cell, layer):
        name = type(module).__name__
        weights = list(module.parameters())[:3]
        found = torch.autograd.grad((others[name] * toward).sum(), [x, *weights], **everything)
        found = [found[0], found[1].t(), found[2].t(), found[3][None]]
        for letter, got, want in zip(("x", "Wx", "Wy", "b"), found, expected, strict=True):
            differences.append((f"gradient of {letter}, {name}", greatest(got, want)))
    return differences


def greatest(a, b) -> float:
    return (a - b).abs().max().item()


def show(by_hand, others) -> None:
    """The first row of the batch, step by step."""
    steps = min(len(by_hand), 4)
    print(f"outputs of row 1, the first {steps} steps (float64, shown to 6 digits)")
    for name, output in {"any number of steps by hand": by_hand, **others}.items():
        print(f"  {name}")
        for step, values in enumerate(output[:steps, 0].tolist()):
            print(f"    step {step}: " + " ".join(f"{value: .6f}" for value in values))


def enlarge_or_open(kind: str, module, amount: float) -> None:
    """Holds open the gate that keeps the state (LSTM forget, GRU update); enlarges RNN weights."""
    gate, units = 1, module.hidden_size  # i f g o and r z n: the second in both
    with torch.no_grad():
        if kind == "RNN":
            module.weight_hh_l0.mul_(amount)
        else:
            module.bias_ih_l0[gate * units : (gate + 1) * units] = amount


def gradient_norms(module, distance: int) -> list[float]:
    """Mean norm over rows of d(loss)/d(x at T - d) for d = 0 ... distance, the first being 1."""
    torch.manual_seed(1)
    x = torch.randn(distance + 1, 16, 8, requires_grad=True)
    output = module(x)[0]
    (gradient,) = torch.autograd.grad((output[-1] * torch.randn_like(output[-1])).sum(), x)
    norms = gradient.norm(dim=2).mean(1).flip(0)
    return (norms / norms[0]).tolist()


def vanishing(args) -> dict[str, dict[str, list[float]]]:
    """Gradient norms as the layers are initialised, and with larger weights or open gates."""
    kinds = common.namespace(args.layer)
    changes = {"RNN": 3.0, "LSTM": 4.0, "GRU": 4.0}
    labels = {
        "RNN": "RNN, recurrent weights x 3",
        "LSTM": "LSTM, bias of forget gate 4",
        "GRU": "GRU, bias of update gate 4",
    }
    found = {"as initialised": {}, CHANGED: {}}
    for kind, amount in changes.items():
        torch.manual_seed(args.seed)
        module = getattr(kinds, kind)(8, 64)
        found["as initialised"][kind] = gradient_norms(module, args.distance)
        enlarge_or_open(kind, module, amount)
        found[CHANGED][labels[kind]] = gradient_norms(module, args.distance)
    print(f"\nnorm of the gradient {args.distance} steps back, as a share of that at the last step")
    for group, curves in found.items():
        for label, norms in curves.items():
            print(f"  {group:35s} {label:28s} {norms[-1]:.1e}")
    return found


def draw_vanishing(path: str, found) -> None:
    figure = common.new_figure(9.5, 4.2)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (group, curves) in zip(panels, found.items(), strict=True):
        for style, (label, norms) in zip(common.STYLES, curves.items(), strict=False):
            axes.plot(range(len(norms)), norms, style, label=label)
        axes.set(title=group, xlabel="distance in time [steps back]", yscale="log")
        axes.grid(alpha=0.3)
        axes.legend()
    panels[0].set_ylabel("gradient norm, relative to distance 0")
    common.save_figure(figure, path)


def clipping(args, clip: float | None) -> list[tuple[float, float]]:
    """(loss, norm of the gradient) at each step of SGD of a ReLU RNN that learns to sum up 30
    numbers. Its recurrent weights start as the identity (Le, Jaitly and Hinton, 2015), on the edge
    between vanishing and exploding."""
    torch.manual_seed(args.seed)
    kinds = common.namespace(args.layer)
    layer, head = kinds.RNN(1, 32, nonlinearity="relu"), nn.Linear(32, 1)
    nn.init.eye_(layer.weight_hh_l0)
    parameters = [*layer.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.001)
    curve = []
    for _ in range(args.clip_steps):
        x = torch.rand(30, 32, 1)
        loss = (head(layer(x)[0][-1]) - x.sum(0)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(parameters, clip or math.inf)
        optimizer.step()
        curve.append((loss.item(), norm.item()))
    return curve


def compare_clipping(args) -> None:
    curves = {"not clipped": clipping(args, None), "clipped at norm 1": clipping(args, 1.0)}
    print(f"\nReLU RNN learns to sum up 30 numbers, {args.clip_steps} steps of SGD")
    for label, curve in curves.items():
        losses, norms = zip(*curve, strict=True)
        last = sum(losses[-20:]) / len(losses[-20:])
        print(
            f"  {label:18s} greatest gradient {max(norms):.1e}, mean of the last losses {last:.3g}"
        )
    if not args.plot_clipping:
        return
    figure = common.new_figure(9.5, 4.2)
    for axes, column, name in zip(
        figure.subplots(1, 2),
        (1, 0),
        ("norm of the gradient, before clipping", "loss"),
        strict=True,
    ):
        for style, (label, curve) in zip(("k:", "k-"), curves.items(), strict=True):
            axes.plot([point[column] for point in curve], style, label=label, linewidth=1)
        axes.set(xlabel="step of SGD", ylabel=name, yscale="log")
        axes.grid(alpha=0.3)
        axes.legend()
    common.save_figure(figure, args.plot_clipping)


def parse(argv=None) -> argparse.Namespace:
    parser = common.parser(__doc__)
    add = common.options(parser, "what to show")
    add("--steps", type=common.WHOLE, default=10, help="steps of the unrolled cell")
    add("--distance", type=common.WHOLE, default=100, help="steps back to follow the gradient")
    add("--clip-steps", type=common.WHOLE, default=300, help="steps of training for clipping")
    add("--plot-clipping", metavar="FILE", help="draw what clipping does into FILE")
    common.add_common_options(parser, checkpoint=None, device=False)
    return parser.parse_args(argv)


def main(argv=None) -> None:
    args = parse(argv)
    common.check_outputs(args)
    torch.manual_seed(args.seed)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        differences = side_by_side(args)
        print("\ngreatest difference from the steps by hand")
        for name, value in differences:
            print(f"  {name:32s} {value:.1e}")
        if max(value for _, value in differences) > 1e-10:
            common.fail("the results differ")
        found = vanishing(args)
        if args.plot:
            draw_vanishing(args.plot, found)
        compare_clipping(args)
    finally:
        torch.set_default_dtype(before)


if __name__ == "__main__":
    main()

"""Lets every cell learn the same text for the same time, and draws how far each came.

The task is char_lm.py's: the next character of a text. Every cell gets as many hidden units as make
a model of --parameters, the same rows in the same order, the same optimiser, and --seconds of
training, from which reading the validation text and compiling kernels are left out. Cells take
turns, so that a busy hour of the machine is all cells'. One thread.
With no arguments: all cells of torch.nn and fastrnn's zoo, on the English documentation that ships
inside Python, in some seven minutes; Ctrl-C ends it early and shows what was reached.

  python examples/which_cell.py --plot cells.png                   all cells
  python examples/which_cell.py --text book.txt --seconds 60       any UTF-8 text
  python examples/which_cell.py --cells lstm,gru,MinGRU,SLSTM      some of them
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import common
import torch
from char_lm import CharModel, Trainer, bits_per_character
from text_rows import load_data

# The numbers of steps after which the validation text is read: 16, 23, 32, 45, ..
LOOKS = frozenset(round(16 * 2 ** (k / 2)) for k in range(40))
TURNS = 20  # that each cell has
HIDDEN_STEP = 8  # hidden units come in such steps, which heads divide
# Okabe and Ito's colours, which all eyes tell apart, and a line style for each turn of them.
COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7")
LINES = ("-", "--", ":")


def parameters(args, vocabulary: int, cell: str, hidden: int) -> int:
    """How many numbers a model of that many hidden units learns."""
    model = CharModel(vocabulary, args.layer, cell, hidden, args.layers, args.embedding, 0.0)
    return sum(p.numel() for p in model.parameters())


def hidden_units(args, vocabulary: int, cell: str) -> int:
    """The most hidden units with no more than --parameters."""
    if parameters(args, vocabulary, cell, HIDDEN_STEP) > args.parameters:
        common.fail(f"--parameters {args.parameters:,} is too few for any {common.title(cell)}")
    low, high = 1, 2
    while parameters(args, vocabulary, cell, high * HIDDEN_STEP) <= args.parameters:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        fits = parameters(args, vocabulary, cell, middle * HIDDEN_STEP) <= args.parameters
        low, high = (middle, high) if fits else (low, middle)
    return low * HIDDEN_STEP


class Run:
    """A cell's training; points are (steps, seconds of training, bits per character)."""

    def __init__(self, args, data, cell: str):
        vocabulary, self.train, self.valid = data
        self.cell, self.hidden = cell, hidden_units(args, len(vocabulary), cell)
        chosen = {"cell": cell, "hidden": self.hidden, "dropout": 0.0}
        self.args = argparse.Namespace(**{**vars(args), **chosen})
        self.begin(vocabulary).train_step()  # compiles what has to be
        self.trainer = self.begin(vocabulary)
        self.parameters = sum(p.numel() for p in self.trainer.model.parameters())
        self.seconds, self.points = 0.0, []

    def begin(self, vocabulary: str) -> Trainer:
        torch.manual_seed(self.args.seed)
        return Trainer(self.args, vocabulary, self.train, self.valid)

    def until(self, seconds: float) -> None:
        """Goes on until so many seconds of training are over."""
        trainer = self.trainer
        while self.seconds < seconds:
            start = time.perf_counter()
            trainer.train_step()
            self.seconds += time.perf_counter() - start
            if trainer.step in LOOKS or self.seconds >= self.args.seconds:
                window = 4 * self.args.window
                bits = bits_per_character(trainer.model, trainer.valid_rows, window)
                self.points.append((trainer.step, self.seconds, bits))

    def after(self, steps: int) -> float:
        """Bits per character after so many steps."""
        return next(bits for done, _, bits in self.points if done == steps)


def ranked(found: list[Run]) -> list[Run]:
    """The best first."""
    return sorted(found, key=lambda one: one.points[-1][2])


def table(found: list[Run]) -> str:
    """A Markdown table, the best first; the columns of steps are those that all have come to."""
    shared = set.intersection(*({p[0] for p in one.points} for one in found))
    steps = max(shared) if shared else 0
    head = ["cell", "hidden units", "parameters", "steps a second"]
    head += [f"bits after {steps:,} steps"] * bool(steps) + ["bits at the end"]
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    for one in ranked(found):
        done, seconds, bits = one.points[-1]
        row = [common.title(one.cell), f"{one.hidden}", f"{one.parameters:,}"]
        row.append(f"{done / seconds:.1f}")
        if steps:
            row.append(f"{one.after(steps):.3f}")
        lines.append("| " + " | ".join([*row, f"{bits:.3f}"]) + " |")
    return "\n".join(lines)


def draw(path: str, found: list[Run], name: str) -> None:
    """Bits per character against seconds of training; the legend in the order of the ends."""
    figure, limit = common.new_figure(8.0, 5.0), found[0].args.parameters
    axes = figure.subplots()
    for place, one in enumerate(ranked(found)):
        turn, colour = divmod(place, len(COLOURS))
        _, seconds, bits = zip(*one.points, strict=True)
        label = f"{common.title(one.cell)}  {bits[-1]:.2f}"
        style = {"color": COLOURS[colour], "linestyle": LINES[turn % len(LINES)]}
        axes.plot(seconds, bits, label=label, linewidth=1.3, **style)
    axes.set(
        title=f"{name}, one thread, models of at most {limit:,} parameters",
        xlabel="seconds of training",
        ylabel="bits per character of text kept for validation",
        xscale="log",
    )
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda value, _: "")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right center", title="bits at the end", frameon=False)
    common.save_figure(figure, path)


def cell_names(text: str) -> list[str]:
    """An argparse type: names of cells with commas between them."""
    names = text.split(",")
    for name in names:
        if name not in common.cells():
            known = ", ".join(common.cells())
            raise argparse.ArgumentTypeError(f"expected some of {known}, got {name!r}")
    return list(dict.fromkeys(names))


def parse(argv=None) -> argparse.Namespace:
    parser = common.parser(__doc__)
    add = common.options(parser, "text")
    add("--text", metavar="FILE", help="any UTF-8 text instead of Python's documentation")
    add("--validation", type=common.SHARE, default=0.1, help="share kept for validation")
    add = common.options(parser, "models")
    add("--cells", type=cell_names, metavar="NAME,..", help="which cells; all if not given")
    add("--parameters", type=common.WHOLE, default=100_000, help="numbers that a model learns")
    add("--layers", type=common.WHOLE, default=2, help="recurrent layers")
    add("--embedding", type=common.WHOLE, default=64, help="numbers that stand for a character")
    add = common.options(parser, "training")
    add("--seconds", type=common.POSITIVE, default=25.0, help="of training of each cell")
    add("--batch", type=common.WHOLE, default=16, help="rows read side by side")
    add("--window", type=common.WHOLE, default=64, help="characters before the gradient is cut")
    add("--lr", type=common.POSITIVE, default=3e-3, help="learning rate of Adam")
    add("--clip", type=common.POSITIVE, default=1.0, help="largest norm of the gradient")
    common.add_common_options(parser, checkpoint=None)
    return parser.parse_args(argv)


def main(argv=None) -> None:
    args = parse(argv)
    common.check_outputs(args)
    torch.set_num_threads(1)
    data = load_data(args)
    cells = args.cells or (common.CELLS if args.layer == "torch" else common.cells())
    runs = [Run(args, data, cell) for cell in cells]
    try:
        with common.progress(TURNS * len(runs), "turn") as bar:
            for turn in range(1, TURNS + 1):
                for run in runs:
                    run.until(args.seconds * turn / TURNS)
                    bar.update(1)
    except KeyboardInterrupt:
        print("\ninterrupted")
    found = [run for run in runs if run.points]
    if not found:
        common.fail("interrupted before the first cell had read the validation text")
    print(f"\n{table(found)}")
    if args.plot:
        draw(args.plot, found, Path(args.text).stem if args.text else "Python's documentation")


if __name__ == "__main__":
    main()

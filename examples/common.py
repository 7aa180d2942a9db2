"""What the example programs share: layers, options, messages, progress, checkpoints, pictures."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import math
import operator
import os
import pickle
import sys
from pathlib import Path
from typing import NoReturn
from zipfile import is_zipfile

import torch
from torch import nn

CELLS = ("lstm", "gru", "rnn")
LAYERS = ("fastrnn", "torch")
_LIMITS = {
    "above": operator.gt,
    "at_least": operator.ge,
    "below": operator.lt,
    "at_most": operator.le,
}


def fail(message: str) -> NoReturn:
    """Ends the program with one line on stderr and exit status 1."""
    raise SystemExit(f"{Path(sys.argv[0]).name}: {message}")


def require(module: str, purpose: str):
    """Imports an optional package, or says what to install."""
    package = module.partition(".")[0]
    try:
        importlib.import_module(package)
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
    fail(
        f"{purpose} needs {package}: pip install {package} "
        "(or pip install '.[examples]' in the repository, for all the example programs)"
    )


def namespace(layer: str):
    """The classes RNN, LSTM, GRU and RNNCell, LSTMCell, GRUCell of fastrnn or torch.nn."""
    if layer == "torch":
        return argparse.Namespace(**{n: getattr(nn, n) for n in _names()})
    try:
        import fastrnn
    except ModuleNotFoundError as error:
        if error.name != "fastrnn":
            raise
        fail("fastrnn is not installed: pip install . in the repository, or use --layer torch")
    return argparse.Namespace(**{n: getattr(fastrnn, "Fast" + n) for n in _names()})


def _names() -> list[str]:
    return [cell.upper() + suffix for cell in CELLS for suffix in ("", "Cell")]


def zoo():
    """`fastrnn.zoo`, or nothing where fastrnn is not installed."""
    try:
        return importlib.import_module("fastrnn.zoo")
    except ModuleNotFoundError as error:
        if error.name != "fastrnn":
            raise
    return argparse.Namespace(__all__=[])


def cells() -> list[str]:
    """All kinds of recurrent layers: torch.nn's, and those of fastrnn's zoo."""
    return [*CELLS, *zoo().__all__]


def title(cell: str) -> str:
    """LSTM for lstm; the zoo's cells are classes' names already."""
    return cell.upper() if cell in CELLS else cell


def recurrent(layer: str, cell: str, *sizes: int, **options) -> nn.Module:
    """A recurrent layer. Either kind draws its parameters in the same order, so one seed makes
    one and the same model."""
    if cell in CELLS:
        return getattr(namespace(layer), cell.upper())(*sizes, **options)
    if layer == "torch":
        fail(f"torch.nn has no {cell}: --layer torch goes with --cell {', '.join(CELLS)}")
    try:
        return getattr(zoo(), cell)(*sizes, **options)
    except ValueError as error:  # such as sizes that its heads do not divide
        fail(f"{cell}: {error}")


def detach(state):
    """Cuts the graph between two windows of truncated back-propagation through time."""
    if isinstance(state, tuple):
        return tuple(s.detach() for s in state)
    return None if state is None else state.detach()


def number(kind, **limits):
    """An argparse type: a number of `kind` within limits such as at_least=0, below=1."""
    noun = "a whole number" if kind is int else "a number"
    wanted = " and".join(f" {name.replace('_', ' ')} {value}" for name, value in limits.items())

    def parse(text: str):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or not all(_LIMITS[n](value, v) for n, v in limits.items()):
            raise argparse.ArgumentTypeError(f"expected {noun}{wanted}, got {text!r}")
        return value

    return parse


WHOLE, COUNT = number(int, at_least=1), number(int, at_least=0)
POSITIVE, NOT_NEGATIVE = number(float, above=0), number(float, at_least=0)
SHARE, DROPOUT = number(float, above=0, below=1), number(float, at_least=0, below=1)


def parser(description: str) -> argparse.ArgumentParser:
    """A parser whose help is a program's own docstring."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def options(parser: argparse.ArgumentParser, title: str):
    """An add_argument for one group of options that shows the default in brackets."""
    group = parser.add_argument_group(title)

    def add(*names, help, default=None, **rest):
        shown = help if default is None else f"{help} [{default}]"
        group.add_argument(*names, help=shown, default=default, **rest)

    return add


def _device(text: str) -> torch.device:
    try:
        device = torch.device(text)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise argparse.ArgumentTypeError(f"{text}: {str(error).splitlines()[0]}") from None
    return device


def add_common_options(parser, *, checkpoint: str | None, device: bool = True) -> None:
    """The options that every program has, and those that most have."""
    add = options(parser, "common")
    add("--layer", choices=LAYERS, default="fastrnn", help="whose recurrent layers")
    if device:
        add("--device", type=_device, default="cpu", help="cpu, cuda, cuda:1, ...")
    add("--seed", type=int, default=0, help="of all random numbers")
    add("--plot", metavar="FILE", help="draw a picture into FILE (.png, .pdf, .svg)")
    if checkpoint:
        add("--checkpoint", metavar="FILE", default=checkpoint, help="the model")


def check_outputs(args) -> None:
    """Says before the work, not after it, that a result could not be written."""
    for option in ("plot", "plot_clipping", "checkpoint"):
        path = getattr(args, option, None)
        if path and not Path(path).absolute().parent.is_dir():
            fail(f"--{option.replace('_', '-')} {path}: there is no folder {Path(path).parent}")
        if path and option != "checkpoint":
            require("matplotlib", "--plot")


def read_text(path) -> str:
    """The text of a UTF-8 file, or one line that says what is wrong with the file."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        fail(f"{path} is not UTF-8 text (byte {error.start}): is it a binary file?")
    except OSError as error:
        fail(f"cannot read {path}: {error.strerror}")
    if "\0" in text:
        fail(f"{path} is not text: it contains NUL bytes")
    if not text.strip():
        fail(f"{path} is empty")
    return text


class _Quiet:
    """Stands in for a tqdm bar where tqdm is missing: only the printed lines remain."""

    def update(self, n=1):
        """Counts nothing."""

    def set_postfix_str(self, text, refresh=True):
        """Shows nothing."""

    def write(self, text):
        print(text, flush=True)


@contextlib.contextmanager
def progress(total: int, unit: str, initial: int = 0, quiet: bool = False):
    """A tqdm bar that counts `unit`s, or plain lines with one remark when tqdm is missing."""
    if quiet:
        yield _Quiet()
        return
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        print("(no progress bar: pip install tqdm)", file=sys.stderr)
        yield _Quiet()
        return
    with tqdm(total=total, initial=initial, unit=unit, unit_scale=True, mininterval=0.5) as bar:
        yield bar


def save_checkpoint(path: str, content: dict) -> None:
    """Writes beside the target first, so that an interrupted save leaves the old file whole."""
    partial = f"{path}.partial"
    try:
        torch.save(content, partial)
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:
        fail(f"cannot write the checkpoint {path}: {error}")


def load_checkpoint(path: str, program: str) -> dict:
    """Reads what save_checkpoint wrote for the same program; tensors and plain values only."""
    if not Path(path).is_file():
        fail(f"there is no checkpoint {path}: train first, or name one with --checkpoint FILE")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True) if is_zipfile(path) else 0
    except (OSError, RuntimeError, pickle.UnpicklingError):
        content = None
    if not isinstance(content, dict) or content.get("program") != program:
        fail(f"{path} was not written by {program}.py")
    return content


def new_figure(width: float = 7.0, height: float = 4.2):
    """A matplotlib figure that needs no display."""
    require("matplotlib", "--plot")
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


STYLES = ("k-", "k--", "k:", "k-.")  # told apart without colour


def draw_lines(path: str, series: dict, title: str, xlabel: str, ylabel: str, **scales) -> None:
    """One picture of lines: label -> (xs, ys); scales such as yscale="log" go to the axes."""
    figure = new_figure()
    axes = figure.subplots()
    for (label, (xs, ys)), style in zip(series.items(), STYLES, strict=False):
        axes.plot(xs, ys, style, label=label, linewidth=1.2)
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel, **scales)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=len(series))
    save_figure(figure, path)


def draw_confusion(path: str, counts: torch.Tensor, labels: list[str], what: str) -> None:
    """The confusion matrix in percent of each row, dark where it is high."""
    percent = (100 * counts / counts.sum(1, keepdim=True).clamp(min=1)).tolist()
    side = 2.2 + 0.34 * len(labels)
    figure = new_figure(side, side)
    axes = figure.subplots()
    axes.imshow(percent, cmap="Greys", vmin=0, vmax=100)
    middle = {"ha": "center", "va": "center"}
    for row, values in enumerate(percent):
        for column, value in enumerate(values):
            if value >= 0.5:
                axes.text(column, row, f"{value:.0f}", color="kw"[value > 50], **middle)
    axes.set_xticks(range(len(labels)), labels, rotation=90)
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel=f"guessed {what} (% of row)", ylabel=f"true {what}")
    save_figure(figure, path)


def save_figure(figure, path: str) -> None:
    """Writes the picture in the format that the name's ending says."""
    try:
        figure.savefig(path, dpi=90)
    except (OSError, ValueError) as error:
        fail(f"cannot draw {path}: {error}")
    print(f"picture: {path}")

"""Hears spoken digits as they are said: audio in frames of 10 ms, a decision after each.

--data FOLDER has recordings <digit>_<speaker>_<take>.wav as for speech_digits.py. A GRU that reads
forward only learns to name the digit that is ending; then the recordings of speakers held out,
with pauses and noise, go through it one frame at a time by fastrnn.Stream, and the time of every
frame is taken: its half, 99% and 99.9% points, and the share of real time that all of it takes.

  python examples/streaming.py --data recordings                    train in a minute, then listen
  python examples/streaming.py --data recordings --plot times.png   and draw the times of frames
  python examples/streaming.py --listen call.wav                    with the saved model
"""

from __future__ import annotations

import argparse
import time

import common
import sound
import torch
from speech_digits import read_folder
from torch import Tensor, nn
from torch.nn import functional as F

NOTHING, DIGITS = 0, 10  # classes: nothing ends here, then digit d as d + 1
FRAME = sound.HOP / sound.RATE  # seconds
SAID = 12  # frames at a recording's end and after it that are to name its digit
SMOOTH, SURE, APART = 5, 0.6, 25  # frames averaged; a probability; frames between two reports
LATE = 30  # frames after its end that a digit may be reported
MODEL_OPTIONS = ("cell", "hidden")
WINDOW = torch.hann_window(sound.WINDOW)


class Listener(nn.Module):
    """Two recurrent layers that read forward, and scores of nothing and ten digits."""

    def __init__(self, layer: str, cell: str, hidden: int):
        super().__init__()
        self.recurrent = common.recurrent(layer, cell, sound.BINS, hidden, num_layers=2)
        self.head = nn.Linear(hidden, 1 + DIGITS)

    def forward(self, frames: Tensor) -> Tensor:
        """frames [T, B, BINS] -> scores [T, B, 11]"""
        return self.head(self.recurrent(frames)[0])


def features(windows: Tensor, warp: float = 1.0) -> Tensor:
    """Log-mel frames [.., BINS] of windows of samples [.., WINDOW], none of which looks ahead."""
    spectrum = torch.fft.rfft(windows * WINDOW, sound.TRANSFORM)
    return ((spectrum.abs().square() @ sound.FILTERS[warp] + 1e-3).log() - 1) / 3


def scene(recordings: list, noise: float, draw: torch.Generator | None) -> tuple[Tensor, list]:
    """Recordings with pauses of 0.2 to 0.8 s between them, over a noise: samples [N], and of each
    its digit, its first frame and the one where it has ended."""
    pauses = ((0.2 + 0.6 * torch.rand(len(recordings) + 1, generator=draw)) * sound.RATE).int()
    pieces, said, at = [torch.zeros(int(pauses[0]))], [], int(pauses[0])
    for (digit, samples), pause in zip(recordings, pauses[1:].tolist(), strict=True):
        end = at + len(samples)
        said.append((digit, at // sound.HOP, (end - sound.WINDOW) // sound.HOP + 1))
        pieces += [samples, torch.zeros(pause)]
        at = end + pause
    samples = torch.cat(pieces)
    return samples + noise * torch.randn(len(samples), generator=draw), said


def targets(said: list, count: int) -> Tensor:
    """The class of each frame; -1 where a digit is being said, which may be named or not."""
    classes = torch.full((count,), NOTHING)
    for digit, first, end in said:
        classes[first:end] = -1
        classes[max(first, end - SAID // 2) : end + SAID // 2] = digit + 1
    return classes


def training_batch(recordings: list, size: int, digits: int) -> tuple[Tensor, Tensor]:
    """Scenes of so many digits: frames [T, B, BINS], classes [T, B]."""
    rows, classes = [], []
    for _ in range(size):
        chosen = [recordings[i] for i in torch.randint(len(recordings), (digits,)).tolist()]
        speed = 0.85 + 0.3 * torch.rand(()).item()
        varied = [(digit, sound.resample(samples, speed)) for digit, samples in chosen]
        samples, said = scene(varied, 10 ** (-2.5 + 1.5 * torch.rand(()).item()), None)
        warp = sound.WARPS[int(torch.randint(len(sound.WARPS), ()))]  # another voice
        frames = features(samples.unfold(0, sound.WINDOW, sound.HOP), warp)
        rows.append(frames + 0.2 * torch.randn(sound.BINS))  # another microphone
        classes.append(targets(said, len(rows[-1])))
    pad = nn.utils.rnn.pad_sequence
    return pad(rows), pad(classes, padding_value=-1)


def train(args, learnt: list) -> Listener:
    model = build(args)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    with common.progress(args.steps, "step") as bar:
        for step in range(args.steps):
            frames, classes = training_batch(learnt, args.batch, args.digits)
            loss = F.cross_entropy(model(frames).flatten(0, 1), classes.flatten(), ignore_index=-1)
            optimizer.param_groups[0]["lr"] = args.lr * (1 - step / args.steps)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            bar.set_postfix_str(f"loss {loss.item():.3f}", refresh=False)
            bar.update()
    options = {name: getattr(args, name) for name in MODEL_OPTIONS}
    content = {"program": "streaming", "model": model.state_dict(), "options": options}
    common.save_checkpoint(args.checkpoint, content)
    print(f"loss {loss.item():.3f}; saved {args.checkpoint}")
    return model


def build(args) -> Listener:
    return Listener(args.layer, *(getattr(args, name) for name in MODEL_OPTIONS))


def stepper(model: Listener, layer: str, weights: str):
    """A function of one frame [1, BINS] that gives scores [1, 11] and remembers the frames before:
    a Stream, or the layer that is handed its last state."""
    if layer != "torch":
        import fastrnn

        stream = fastrnn.Stream([model.recurrent, model.head], 1, getattr(torch, weights))
        scores = torch.empty(1, 1 + DIGITS)
        return lambda frame: stream(frame, out=scores)
    state = None

    def step(frame: Tensor) -> Tensor:
        nonlocal state
        output, state = model.recurrent(frame.unsqueeze(0), state)
        return model.head(output[0])

    return step


class Decider:
    """Reports a digit where its probability, averaged over some frames, is large."""

    def __init__(self):
        self.recent, self.at, self.last = torch.zeros(SMOOTH, 1 + DIGITS), 0, -APART

    def hear(self, scores: Tensor) -> int | None:
        self.recent[self.at % SMOOTH] = scores[0].softmax(-1)
        self.at += 1
        sure, label = self.recent.mean(0).max(0)
        if label == NOTHING or sure < SURE or self.at - self.last < APART:
            return None
        self.last = self.at
        return int(label) - 1


@torch.inference_mode()
def listen(samples: Tensor, step) -> tuple[list[tuple[int, int]], Tensor]:
    """Frame by frame: (frame, digit) of each report, and seconds [frames, 2] that the model and all
    of a frame took."""
    heard, seconds, decider = [], [], Decider()
    for f, window in enumerate(samples.unfold(0, sound.WINDOW, sound.HOP)):
        began = time.perf_counter()
        frame = features(window.unsqueeze(0))
        ready = time.perf_counter()
        scores = step(frame)
        done = time.perf_counter()
        digit = decider.hear(scores)
        seconds.append((done - ready, time.perf_counter() - began))
        if digit is not None:
            heard.append((f, digit))
    return heard, torch.tensor(seconds, dtype=torch.float64)


def judge(said: list, heard: list[tuple[int, int]]) -> tuple[int, int, int]:
    """How many recordings were named right, named wrong; and reports where nothing was said."""
    right = wrong = 0
    used = set()
    for digit, first, end in said:
        near = [i for i, (f, _) in enumerate(heard) if first <= f < end + LATE and i not in used]
        used.update(near)
        right += bool(near) and heard[near[-1]][1] == digit
        wrong += bool(near) and heard[near[-1]][1] != digit
    return right, wrong, len(heard) - len(used)


def tell_times(seconds: Tensor, plot: str | None) -> None:
    """Half, 99% and 99.9% points of the frames' times, and what all of them are of real time."""
    points = torch.tensor([0.5, 0.99, 0.999], dtype=torch.float64)
    names = "the model", "all of a frame"
    for name, column in zip(names, seconds.T, strict=True):
        half, most, nearly = (1e6 * torch.quantile(column, points)).tolist()
        share = column.mean().item() / FRAME
        print(
            f"{name}: p50 {half:.1f} us, p99 {most:.1f} us, p99.9 {nearly:.1f} us, "
            f"real-time factor {share:.5f}"
        )
    if plot:
        draw(plot, dict(zip(names, (1e6 * seconds).T.tolist(), strict=True)))


def draw(path: str, series: dict[str, list[float]]) -> None:
    """A histogram of microseconds, both axes logarithmic."""
    figure = common.new_figure()
    axes = figure.subplots()
    low, high = min(map(min, series.values())), max(map(max, series.values()))
    bins = torch.logspace(*torch.tensor([low, high]).log10().tolist(), 80).tolist()
    for (name, values), shade in zip(series.items(), ("0.1", "0.6"), strict=True):
        axes.hist(values, bins, label=name, color=shade, alpha=0.8)
    axes.set(xscale="log", yscale="log", xlabel="microseconds", ylabel="frames of 10 ms")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=2)
    common.save_figure(figure, path)


def parse(argv=None) -> argparse.Namespace:
    parser = common.parser(__doc__)
    add = common.options(parser, "recordings")
    add("--data", metavar="FOLDER", help="holds <digit>_<speaker>_<take>.wav")
    add("--held-out", metavar="A,B", help="speakers to listen to [the last]")
    add("--listen", metavar="FILE", help="report the digits in it, with the saved model")
    add = common.options(parser, "model and training")
    add("--cell", choices=common.CELLS, default="gru", help="kind of recurrent layer")
    add("--hidden", type=common.WHOLE, default=64, help="hidden units")
    add("--weights", choices=("float32", "bfloat16"), default="float32", help="of the stream")
    add("--steps", type=common.WHOLE, default=800, help="batches to train on")
    add("--batch", type=common.WHOLE, default=16, help="scenes at once")
    add("--digits", type=common.WHOLE, default=3, help="in a scene")
    add("--lr", type=common.POSITIVE, default=5e-3, help="learning rate at first; falls to 0")
    common.add_common_options(parser, checkpoint="streaming.pt", device=False)
    args = parser.parse_args(argv)
    if not (args.data or args.listen):
        parser.error("--data FOLDER: a folder of recordings is needed, see the text above")
    return args


def run_saved(args) -> None:
    saved = common.load_checkpoint(args.checkpoint, "streaming")
    vars(args).update(saved["options"])
    model = build(args)
    model.load_state_dict(saved["model"])
    heard, seconds = listen(sound.read_wave(args.listen), stepper(model, args.layer, args.weights))
    for frame, digit in heard:
        print(f"{frame * FRAME:7.2f} s  {digit}")
    tell_times(seconds, args.plot)


def run(args) -> None:
    """Trains, then listens to speakers held out."""
    speakers = read_folder(args.data)
    names = args.held_out.split(",") if args.held_out else list(speakers)[-1:]
    if not set(names) < set(speakers):
        common.fail(f"--held-out {','.join(names)}: expected some of {', '.join(speakers)}")
    held = sum((speakers.pop(name) for name in names), [])
    torch.manual_seed(args.seed)
    model = train(args, sum(speakers.values(), []))
    order = torch.randperm(len(held), generator=torch.Generator().manual_seed(0)).tolist()
    draw_pauses = torch.Generator().manual_seed(0)
    samples, said = scene([held[i] for i in order], 0.01, draw_pauses)
    heard, seconds = listen(samples, stepper(model, args.layer, args.weights))
    right, wrong, false = judge(said, heard)
    minutes = len(samples) / sound.RATE / 60
    print(
        f"{len(said)} digits of {', '.join(names)}, {minutes:.1f} minutes: {right / len(said):.1%} "
        f"right, {wrong / len(said):.1%} wrong, {false / minutes:.1f} false reports a minute"
    )
    tell_times(seconds, args.plot)


def main(argv=None) -> None:
    args = parse(argv)
    common.check_outputs(args)
    run_saved(args) if args.listen else run(args)


if __name__ == "__main__":
    main()

"""Writes down spoken digits, of speakers that it has never heard.

--data FOLDER has recordings <digit>_<speaker>_<take>.wav, 16 bit, one channel, such as those of the
Free Spoken Digit Dataset (CC BY-SA 4.0, github.com/Jakobovski/free-spoken-digit-dataset). Those of
one speaker are joined to sequences of digits; a bidirectional GRU learns to write them down from
log-mel frames by connectionist temporal classification (CTC: where a digit begins is not told).
Some speakers are held out, and never trained on.

  python examples/speech_digits.py --data recordings                       train, some minutes
  python examples/speech_digits.py --data recordings --held-out theo,lucas
  python examples/speech_digits.py --data recordings --resume              go on after Ctrl-C
  python examples/speech_digits.py --read my_number.wav                    with the saved model
"""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path

import common
import sound
import torch
from torch import Tensor, nn
from torch.nn import functional as F

STRIDE = 3  # frames a step: 30 ms
NAME = re.compile(r"(\d)_([^_]+)_(\w+)\.wav")
MODEL_OPTIONS = ("cell", "hidden", "dropout")


class Reader(nn.Module):
    """Two convolutions, two bidirectional layers, scores of a blank and ten digits for every step.

    A convolution over time and pitch finds the same shape at another pitch too: voices differ so.
    """

    def __init__(self, layer: str, cell: str, hidden: int, dropout: float):
        super().__init__()
        self.layer = layer
        self.front = nn.Sequential(
            nn.Conv2d(1, 16, 5, (STRIDE, 2), 2), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 16, 3, (1, 2), 1), nn.BatchNorm2d(16), nn.ReLU(),
        )  # fmt: skip
        sizes = (16 * sound.BINS // 4, hidden), (2 * hidden, hidden)
        self.recurrent = nn.ModuleList(
            common.recurrent(layer, cell, *size, bidirectional=True) for size in sizes
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * hidden, 11)

    def forward(self, frames: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """frames [B, F, BINS], their counts [B] -> log-probabilities [T, B, 11], steps [B]."""
        x = self.front(frames.unsqueeze(1)).permute(2, 0, 1, 3).flatten(2)
        steps = (counts + STRIDE - 1) // STRIDE
        for recurrent in self.recurrent:
            x = self.run(recurrent, self.dropout(x), steps)
        return F.log_softmax(self.head(self.dropout(x)), -1), steps

    def run(self, recurrent: nn.Module, x: Tensor, lengths: Tensor) -> Tensor:
        """One layer over rows of any lengths."""
        if self.layer != "torch":
            return recurrent(x, lengths=lengths)[0]
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
        return nn.utils.rnn.pad_packed_sequence(recurrent(packed)[0], total_length=len(x))[0]


def read_folder(folder: str) -> dict[str, list[tuple[int, Tensor]]]:
    """Speaker -> his recordings: digits and samples."""
    speakers: dict[str, list[tuple[int, Tensor]]] = {}
    for path in sorted(Path(folder).glob("*.wav")):
        found = NAME.fullmatch(path.name)
        if found:
            speakers.setdefault(found[2], []).append((int(found[1]), sound.read_wave(path)))
    if len(speakers) < 2:
        common.fail(f"--data {folder}: expected <digit>_<speaker>_<take>.wav of 2 speakers or more")
    return speakers


def training_batch(speakers: dict, size: int, most: int, strength: float):
    """Sequences of as many digits, 1 to `most`, each of one speaker: frames, counts, digits."""
    names, pieces, digits = list(speakers), [], []
    length = int(torch.randint(1, most + 1, ()))
    for _ in range(size):
        own = speakers[names[int(torch.randint(len(names), ()))]]
        chosen = [own[i] for i in torch.randint(len(own), (length,)).tolist()]
        digits.append([digit for digit, _ in chosen])
        pieces.append(sound.varied([samples for _, samples in chosen], strength))
    return *sound.batch(pieces), digits


def test_batch(recordings: list, size: int):
    """Every recording of a speaker once, in sequences of `size`, the same at every call."""
    draw = torch.Generator().manual_seed(0)
    order = torch.randperm(len(recordings), generator=draw).split(size)
    rows = [[recordings[i] for i in part.tolist()] for part in order]
    pieces = [sound.frames(sound.join([s for _, s in row], draw, 0.01)) for row in rows]
    return *sound.batch(pieces), [[digit for digit, _ in row] for row in rows]


def loss_of(scores: Tensor, steps: Tensor, digits: list[list[int]]) -> Tensor:
    """CTC's: 0 is the blank, digit d is d + 1. [B]"""
    targets = torch.tensor(sum(digits, [])) + 1
    counts = torch.tensor([len(row) for row in digits])
    return F.ctc_loss(scores.cpu(), targets, steps, counts, reduction="none", zero_infinity=True)


def written(scores: Tensor, steps: Tensor) -> list[list[int]]:
    """The likeliest label of every step; repeats count once, blanks not at all."""
    best = scores.argmax(-1).T.cpu()
    rows = [row[:n].unique_consecutive() for row, n in zip(best, steps.tolist(), strict=True)]
    return [(row[row > 0] - 1).tolist() for row in rows]


def mistakes(said: list[int], heard: list[int]) -> int:
    """The fewest insertions, deletions and replacements between two sequences."""
    costs = list(range(len(heard) + 1))
    for i, a in enumerate(said, 1):
        before, costs[0] = costs[0], i
        for j, b in enumerate(heard, 1):
            before, costs[j] = costs[j], min(before + (a != b), costs[j] + 1, costs[j - 1] + 1)
    return costs[-1]


class Trainer:
    """Everything that a run needs to go on: the model, the optimiser, the curve."""

    def __init__(self, args, learnt: dict, held: dict):
        self.args, self.learnt, self.held = args, learnt, held
        self.model = build(args).to(args.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=args.lr)
        self.step, self.curve = 0, []

    def train_step(self) -> float:
        """One batch, short and clear at first; returns the loss of a digit."""
        done = self.step / self.args.steps
        most = 1 + int((self.args.digits - 1) * min(1, 4 * done))
        sizes = self.args.batch, most, min(1, 0.2 + 2 * done)
        frames, counts, digits = training_batch(self.learnt, *sizes)
        self.optimizer.param_groups[0]["lr"] = self.args.lr * (1 - done)
        losses = loss_of(*self.model(frames.to(self.args.device), counts), digits)
        loss = losses.sum() / sum(map(len, digits))
        if not torch.isfinite(loss):
            common.fail("the loss is no longer finite: try a lower --lr")
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        return loss.item()

    @torch.no_grad()
    def word_errors(self) -> dict[str, float]:
        """Speaker held out -> mistakes in his sequences, by the digits in them."""
        self.model.eval()
        rates = {}
        for speaker, recordings in self.held.items():
            frames, counts, digits = test_batch(recordings, self.args.digits)
            heard = written(*self.model(frames.to(self.args.device), counts))
            wrong = sum(map(mistakes, digits, heard))
            rates[speaker] = wrong / len(recordings)
        self.model.train()
        return rates

    def evaluate(self, loss: float) -> str:
        rates = self.word_errors()
        self.curve.append((self.step, loss, sum(rates.values()) / len(rates)))
        each = ", ".join(f"{speaker} {rate:.1%}" for speaker, rate in rates.items())
        return f"step {self.step:6d}   loss {loss:.3f}   word errors of speakers held out: {each}"

    def save(self) -> None:
        """The model, and all else that --resume needs."""
        content = {"program": "speech_digits", "model": self.model.state_dict()}
        content["options"] = {name: getattr(self.args, name) for name in MODEL_OPTIONS}
        content["held"], content["optimizer"] = list(self.held), self.optimizer.state_dict()
        content["step"], content["curve"] = self.step, self.curve
        content["random"] = torch.get_rng_state()
        common.save_checkpoint(self.args.checkpoint, content)

    def resume(self, saved: dict) -> None:
        """Takes up a saved run where it stopped."""
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.step, self.curve = saved["step"], saved["curve"]
        torch.set_rng_state(saved["random"])
        if self.step >= self.args.steps:
            common.fail(f"the checkpoint is at step {self.step}: give more with --steps")


def build(args) -> Reader:
    return Reader(args.layer, *(getattr(args, name) for name in MODEL_OPTIONS))


@torch.no_grad()
def confusion(model: Reader, recordings: list, device) -> Tensor:
    """How often a recording of digit [row], heard alone, is most like digit [column]."""
    model.eval()
    taken = torch.zeros(10, 10)
    for part in range(0, len(recordings), 50):
        rows = recordings[part : part + 50]
        frames, counts = sound.batch([sound.alone(samples) for _, samples in rows])
        said = model(frames.to(device), counts)
        costs = torch.stack([loss_of(*said, [[d]] * len(rows)) for d in range(10)])
        for (digit, _), guess in zip(rows, costs.argmin(0).tolist(), strict=True):
            taken[digit, guess] += 1
    return taken


def train(args) -> None:
    """The training loop; Ctrl-C ends it early and keeps what was reached."""
    saved = common.load_checkpoint(args.checkpoint, "speech_digits") if args.resume else None
    if saved:
        vars(args).update(saved["options"], held_out=",".join(saved["held"]))
    speakers = read_folder(args.data)
    names = args.held_out.split(",") if args.held_out else list(speakers)[-2:]
    if not set(names) < set(speakers):
        common.fail(f"--held-out {','.join(names)}: expected some of {', '.join(speakers)}")
    held = {name: speakers.pop(name) for name in names}
    torch.manual_seed(args.seed)
    trainer = Trainer(args, speakers, held)
    if saved:
        trainer.resume(saved)
    sizes = f"{sum(map(len, speakers.values()))} recordings of {', '.join(speakers)} to learn"
    print(f"{sizes}, {sum(map(len, held.values()))} of {', '.join(held)} held out")
    began = time.perf_counter()
    try:
        with common.progress(args.steps, "step", trainer.step) as bar:
            while trainer.step < args.steps:
                loss = trainer.train_step()
                bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
                bar.update()
                if trainer.step % args.evaluate_every == 0 or trainer.step == args.steps:
                    bar.write(trainer.evaluate(loss))
                    trainer.save()
    except KeyboardInterrupt:
        trainer.save()
        print(f"\ninterrupted at step {trainer.step}; --resume goes on from {args.checkpoint}")
        return
    counts = confusion(trainer.model, sum(held.values(), []), args.device)
    alone, rate = counts.diagonal().sum() / counts.sum(), trainer.curve[-1][2]
    print(f"speakers held out: word error rate {rate:.2%}; heard alone, {alone:.1%} right")
    print(f"{time.perf_counter() - began:.0f} s; saved {args.checkpoint}")
    if args.plot:
        common.draw_confusion(args.plot, counts, [str(d) for d in range(10)], "digit")


@torch.no_grad()
def read(args) -> None:
    """The digits in each file, by the saved model."""
    saved = common.load_checkpoint(args.checkpoint, "speech_digits")
    vars(args).update(saved["options"])
    model = build(args)
    model.load_state_dict(saved["model"])
    model.eval()
    for path in args.read:
        frames, counts = sound.batch([sound.alone(sound.read_wave(path))])
        print(f"{path}: {' '.join(map(str, written(*model(frames, counts))[0]))}")


def parse(argv=None) -> argparse.Namespace:
    parser = common.parser(__doc__)
    add = common.options(parser, "recordings")
    add("--data", metavar="FOLDER", help="holds <digit>_<speaker>_<take>.wav")
    add("--held-out", metavar="A,B", help="speakers to test on [the last two]")
    add("--digits", type=common.WHOLE, default=5, help="the most in a sequence")
    add("--read", nargs="+", metavar="FILE", help="write down these, with the saved model")
    add = common.options(parser, "model and training")
    add("--cell", choices=common.CELLS, default="gru", help="kind of recurrent layer")
    add("--hidden", type=common.WHOLE, default=64, help="hidden units, each direction")
    add("--dropout", type=common.DROPOUT, default=0.3, help="after each layer")
    add("--steps", type=common.WHOLE, default=2000, help="batches to train on")
    add("--batch", type=common.WHOLE, default=24, help="sequences at once")
    add("--lr", type=common.POSITIVE, default=3e-3, help="learning rate at first; falls to 0")
    add("--evaluate-every", type=common.WHOLE, default=200, metavar="N", help="steps")
    add("--resume", action="store_true", help="go on from the checkpoint")
    common.add_common_options(parser, checkpoint="speech_digits.pt")
    args = parser.parse_args(argv)
    if not (args.data or args.read):
        parser.error("--data FOLDER: a folder of recordings is needed, see the text above")
    return args


def main(argv=None) -> None:
    args = parse(argv)
    common.check_outputs(args)
    read(args) if args.read else train(args)


if __name__ == "__main__":
    main()

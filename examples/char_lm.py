"""Trains a character-level language model on a text and lets it write.

With no arguments: an LSTM, about a minute on two cores, on the English documentation that ships
inside Python (pydoc_data.topics). The text is cut into --batch rows that are read side by side in
windows of --window characters; the state is carried from window to window, the gradient is not
(truncated back-propagation through time).

  python examples/char_lm.py                                   train, save char_lm.pt, write
  python examples/char_lm.py --text book.txt --cell gru        any UTF-8 text
  python examples/char_lm.py --generate --prompt "The with "   write with the saved model
  python examples/char_lm.py --resume --steps 4000             go on where the checkpoint stopped
  torchrun --nproc-per-node 2 examples/char_lm.py --distributed    a process a core, the same curve

Several processes share the rows of a batch; with --dropout they draw other numbers than one.
"""

from __future__ import annotations

import argparse
import math
import time

import common
import torch
from team import Team, team
from text_rows import check_prompt, load_data
from torch import nn
from torch.nn import functional as F

ALONE = Team()
MODEL_OPTIONS = ("cell", "hidden", "layers", "embedding", "dropout")


class CharModel(nn.Module):
    """Embedding, recurrent layers, and one score for each character of the vocabulary."""

    def __init__(self, vocabulary, layer, cell, hidden, layers, embedding, dropout):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.recurrent = common.recurrent(
            layer, cell, embedding, hidden, num_layers=layers, dropout=dropout if layers > 1 else 0
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, vocabulary)

    def forward(self, ids, state=None):
        """ids [T, B] and the state so far -> scores of the next character [T, B, V], new state."""
        output, state = self.recurrent(self.embedding(ids), state)
        return self.head(self.dropout(output)), state


@torch.no_grad()
def bits_per_character(model, rows, window: int, team=ALONE) -> float:
    """Mean code length of the rows [N, B] when read from their start with the state carried."""
    model.eval()
    total, state = 0.0, None
    mine = rows[:, team.rows(rows.size(1))]
    for start in range(0, rows.size(0) - 1, window):
        chunk = mine[start : start + window + 1]
        scores, state = model(chunk[:-1], state)
        total += F.cross_entropy(scores.flatten(0, 1), chunk[1:].flatten(), reduction="sum").item()
    model.train()
    return team.total(total) / ((rows.size(0) - 1) * rows.size(1) * math.log(2))


class Trainer:
    """Everything a run needs to go on: the model, the optimiser, the state, the curves."""

    def __init__(self, args, vocabulary, train, valid, team=ALONE):
        self.args, self.vocabulary, self.team = args, vocabulary, team
        self.train_rows, self.valid_rows = train.to(args.device), valid.to(args.device)
        self.model = build(args, vocabulary).to(args.device)
        self.averaged = team.average(self.model)
        self.mine = self.train_rows[:, team.rows(args.batch)]
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=args.lr)
        self.step, self.state = 0, None
        self.curve, self.recent = [], []
        self.best, self.best_model, self.waited = math.inf, None, 0

    def train_step(self) -> float:
        """One window of every row; returns the loss in bits per character."""
        window, team = self.args.window, self.team
        position = self.step % ((self.mine.size(0) - 1) // window)
        if position == 0:
            self.state = None
        chunk = self.mine[position * window : (position + 1) * window + 1]
        scores, state = self.averaged(chunk[:-1], self.state)
        # This process's share of the mean over all rows; backward averages over the processes.
        loss = F.cross_entropy(scores.flatten(0, 1), chunk[1:].flatten())
        loss = loss * (chunk.size(1) * team.size / self.args.batch)
        mean = team.total(loss.item()) / team.size
        if not math.isfinite(mean):
            common.fail("the loss is no longer finite: try a lower --lr or --clip")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.args.clip)
        self.optimizer.step()
        self.state = common.detach(state)
        self.step += 1
        self.recent.append(mean / math.log(2))
        return self.recent[-1]

    def evaluate(self) -> str:
        """Extends the curves, remembers the best model, saves; returns a line for the reader."""
        window = 4 * self.args.window
        valid = bits_per_character(self.model, self.valid_rows, window, self.team)
        train = sum(self.recent) / len(self.recent)
        self.recent = []
        self.curve.append((self.step, train, valid))
        self.waited += 1
        if valid < self.best:
            self.best, self.waited = valid, 0
            self.best_model = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.save()
        mark = " *" if self.waited == 0 else ""
        return f"step {self.step:6d}   train {train:.4f}   validation {valid:.4f} bits/char{mark}"

    def save(self) -> None:
        """The best model for writing, and the rest for --resume."""
        content = {name: getattr(self, name) for name in RESUMED}
        content["state"] = self.team.whole(self.state)
        if self.team.rank:
            return
        content["program"] = "char_lm"
        content["options"] = {name: getattr(self.args, name) for name in MODEL_OPTIONS}
        content["vocabulary"] = self.vocabulary
        content["windows"] = [*self.train_rows.shape, self.args.window]
        content["last"] = self.model.state_dict()
        content["optimizer"] = self.optimizer.state_dict()
        content["random"] = torch.get_rng_state()
        common.save_checkpoint(self.args.checkpoint, content)

    def resume(self, saved: dict) -> None:
        """Takes up a saved run exactly where it stopped."""
        if saved["windows"] != [*self.train_rows.shape, self.args.window]:
            common.fail("--resume needs --text, --batch, --window, --validation as they were")
        self.model.load_state_dict(saved["last"])
        self.optimizer.load_state_dict(saved["optimizer"])
        for name in RESUMED:
            setattr(self, name, saved[name])
        self.state = self.team.share(self.state)
        torch.set_rng_state(saved["random"])


RESUMED = ("step", "state", "curve", "best", "best_model", "waited")


def build(args, vocabulary) -> CharModel:
    """The model that the options describe."""
    return CharModel(len(vocabulary), args.layer, *(getattr(args, n) for n in MODEL_OPTIONS))


def train(args, team=ALONE) -> Trainer:
    """The training loop; Ctrl-C ends it early and keeps what was reached."""
    saved = common.load_checkpoint(args.checkpoint, "char_lm") if args.resume else None
    if saved:
        vars(args).update(saved["options"])  # --layer stays free: both load the same weights
    torch.manual_seed(args.seed)
    data = load_data(args, saved and saved["vocabulary"])
    check_prompt(args.prompt, data[0])
    trainer = Trainer(args, *data, team)
    if saved:
        trainer.resume(saved)
    if team.rank:  # its rows have masks of their own
        torch.manual_seed(args.seed + team.rank)
    size = sum(p.numel() for p in trainer.model.parameters())
    print(f"{args.layers}-layer {common.title(args.cell)} of {args.layer}, {size:,} parameters")
    if trainer.step >= args.steps:
        common.fail(f"the checkpoint is at step {trainer.step}: give more with --steps")
    characters = args.batch * args.window
    began, first = time.perf_counter(), trainer.step
    try:
        done = trainer.step * characters
        with common.progress(args.steps * characters, "char", done, team.rank > 0) as bar:
            while trainer.step < args.steps:
                bits = trainer.train_step()
                bar.set_postfix_str(f"{bits:.3f} bits/char", refresh=False)
                bar.update(characters)
                if trainer.step % args.evaluate_every == 0 or trainer.step == args.steps:
                    bar.write(trainer.evaluate())
                    if trainer.waited >= args.patience > 0:
                        bar.write(f"no better for {trainer.waited} evaluations: stopped")
                        break
    except KeyboardInterrupt:
        if trainer.best_model is None:
            common.fail("interrupted before the first evaluation, nothing saved")
        print(f"\ninterrupted; --resume goes on from the last evaluation in {args.checkpoint}")
    seconds = time.perf_counter() - began
    done = (trainer.step - first) * characters
    speed = f"{done:,} characters in {seconds:.1f} s ({done / seconds:,.0f} characters/s)"
    print(f"best validation {trainer.best:.4f} bits/char; {speed}; saved {args.checkpoint}")
    trainer.model.load_state_dict(trainer.best_model)
    return trainer


@torch.no_grad()
def write(model, vocabulary, args) -> None:
    """Streams text: one character in, one state carried, one character out."""
    model.eval()
    prompt = args.prompt or ("\n" if "\n" in vocabulary else vocabulary[0])
    ids = torch.tensor([[vocabulary.index(c)] for c in prompt], device=args.device)  # [T, 1]
    scores, state = model(ids)
    print(prompt, end="", flush=True)
    for _ in range(args.length):
        if args.temperature == 0:
            choice = scores[-1, 0].argmax()
        else:
            chances = torch.softmax(scores[-1, 0] / args.temperature, -1)
            choice = torch.multinomial(chances, 1)
        print(vocabulary[int(choice)], end="", flush=True)
        scores, state = model(choice.view(1, 1), state)
    print()


def plot(path: str, curve) -> None:
    """Bits per character against the step, for the text trained on and the text kept."""
    steps, train, valid = zip(*curve, strict=True)
    series = {"text trained on (mean since the point before)": (steps, train)}
    series["text kept for validation"] = (steps, valid)
    axes = {"xlabel": "training step (windows read)", "ylabel": "bits per character"}
    common.draw_lines(path, series, title="Character-level language model", **axes)


def parse(argv=None) -> argparse.Namespace:
    parser = common.parser(__doc__)
    add = common.options(parser, "text")
    add("--text", metavar="FILE", help="any UTF-8 text instead of Python's documentation")
    add("--validation", type=common.SHARE, default=0.1, help="share kept for validation")
    add = common.options(parser, "model")
    add("--cell", choices=common.cells(), default="lstm", help="kind of recurrent layer")
    add("--hidden", type=common.WHOLE, default=256, help="hidden units")
    add("--layers", type=common.WHOLE, default=1, help="recurrent layers")
    add("--embedding", type=common.WHOLE, default=64, help="numbers that stand for a character")
    add("--dropout", type=common.DROPOUT, default=0.0, help="between layers and before the scores")
    add = common.options(parser, "training")
    add("--steps", type=common.WHOLE, default=1500, help="windows to train on")
    add("--batch", type=common.WHOLE, default=32, help="rows read side by side")
    add("--window", type=common.WHOLE, default=64, help="characters before the gradient is cut")
    add("--lr", type=common.POSITIVE, default=3e-3, help="learning rate of Adam")
    add("--clip", type=common.POSITIVE, default=1.0, help="largest norm of the gradient")
    add("--evaluate-every", type=common.WHOLE, default=150, metavar="N", help="steps")
    add("--patience", type=common.COUNT, default=5, help="evaluations without gain before stopping")
    add("--resume", action="store_true", help="go on from the checkpoint")
    add("--distributed", action="store_true", help="over the processes that torchrun starts")
    add = common.options(parser, "writing")
    add("--generate", action="store_true", help="only write, with the model of the checkpoint")
    add("--prompt", default="", help="how the written text begins")
    add("--length", type=common.COUNT, default=400, help="characters to write")
    add("--temperature", type=common.NOT_NEGATIVE, default=0.7, help="0: always the likeliest")
    common.add_common_options(parser, checkpoint="char_lm.pt")
    return parser.parse_args(argv)


def main(argv=None) -> None:
    args = parse(argv)
    common.check_outputs(args)
    if args.generate:
        saved = common.load_checkpoint(args.checkpoint, "char_lm")
        vars(args).update(saved["options"])
        check_prompt(args.prompt, saved["vocabulary"])
        model = build(args, saved["vocabulary"]).to(args.device)
        model.load_state_dict(saved["best_model"])
        torch.manual_seed(args.seed)
        write(model, saved["vocabulary"], args)
        return
    members, trainer = team(args), None
    try:
        trainer = train(args, members)
    finally:
        if trainer:
            trainer.averaged = None  # before the processes part
        members.end()
    if members.rank:
        return
    if args.plot:
        plot(args.plot, trainer.curve)
    torch.manual_seed(args.seed)
    write(trainer.model, trainer.vocabulary, args)


if __name__ == "__main__":
    main()

"""Trains a character-level language model on a text and lets it write.

With no arguments: an LSTM, about a minute on two cores, on the English documentation that ships
inside Python (pydoc_data.topics). The text is cut into --batch rows that are read side by side in
windows of --window characters; the state is carried from window to window, the gradient is not
(truncated back-propagation through time).

  python examples/char_lm.py                                   train, save char_lm.pt, write
  python examples/char_lm.py --text book.txt --cell gru        any UTF-8 text
  python examples/char_lm.py --generate --prompt "The with "   write with the saved model
  python examples/char_lm.py --resume --steps 4000             go on where the checkpoint stopped
"""

from __future__ import annotations

import argparse
import math
import time

import common
import torch
from torch import nn
from torch.nn import functional as F

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


def read_text(path: str | None) -> str:
    """The text of a UTF-8 file, or of Python's own documentation."""
    if path is None:
        try:
            from pydoc_data.topics import topics
        except ImportError:
            common.fail("this Python comes without pydoc_data.topics: give a text with --text FILE")
        return "\n".join(topics[name] for name in sorted(topics))
    return common.read_text(path)


def as_rows(ids: torch.Tensor, rows: int) -> torch.Tensor:
    """One long text [N] as `rows` texts that run in parallel, time first: [N // rows, rows]."""
    return ids[: ids.numel() // rows * rows].view(rows, -1).t().contiguous()


def load_data(args, vocabulary: str | None = None):
    """Vocabulary, training rows and validation rows; the last part of the text validates."""
    text = read_text(args.text)
    name = args.text or "pydoc_data.topics"
    cut = int(len(text) * (1 - args.validation))
    train_need = args.batch * (args.window + 1)
    if cut < train_need or len(text) - cut < 2:
        common.fail(
            f"{name} is too short: {len(text):,} characters, and --batch {args.batch} --window "
            f"{args.window} need {math.ceil(train_need / (1 - args.validation)) + 2:,}"
        )
    if vocabulary is None:
        vocabulary = "".join(sorted(set(text)))
    elif not set(text) <= set(vocabulary):
        common.fail(f"{name} has characters that the checkpoint's model does not know")
    index = {character: i for i, character in enumerate(vocabulary)}
    ids = torch.tensor([index[character] for character in text])
    valid_rows = min(args.batch, (len(text) - cut) // 2)
    print(
        f"{name}: {len(text):,} characters, {len(vocabulary)} different, {len(text) - cut:,} kept"
    )
    return vocabulary, as_rows(ids[:cut], args.batch), as_rows(ids[cut:], valid_rows)


@torch.no_grad()
def bits_per_character(model, rows, window: int) -> float:
    """Mean code length of the rows [N, B] when read from their start with the state carried."""
    model.eval()
    total, state = 0.0, None
    for start in range(0, rows.size(0) - 1, window):
        chunk = rows[start : start + window + 1]
        scores, state = model(chunk[:-1], state)
        total += F.cross_entropy(scores.flatten(0, 1), chunk[1:].flatten(), reduction="sum").item()
    model.train()
    return total / ((rows.size(0) - 1) * rows.size(1) * math.log(2))


class Trainer:
    """Everything a run needs to go on: the model, the optimiser, the state, the curves."""

    def __init__(self, args, vocabulary, train, valid):
        self.args, self.vocabulary = args, vocabulary
        self.train_rows, self.valid_rows = train.to(args.device), valid.to(args.device)
        self.model = build(args, vocabulary).to(args.device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=args.lr)
        self.step, self.state = 0, None
        self.curve, self.recent = [], []
        self.best, self.best_model, self.waited = math.inf, None, 0

    def train_step(self) -> float:
        """One window of every row; returns the loss in bits per character."""
        window = self.args.window
        position = self.step % ((self.train_rows.size(0) - 1) // window)
        if position == 0:
            self.state = None
        chunk = self.train_rows[position * window : (position + 1) * window + 1]
        scores, state = self.model(chunk[:-1], self.state)
        loss = F.cross_entropy(scores.flatten(0, 1), chunk[1:].flatten())
        if not torch.isfinite(loss):
            common.fail("the loss is no longer finite: try a lower --lr or --clip")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.args.clip)
        self.optimizer.step()
        self.state = common.detach(state)
        self.step += 1
        self.recent.append(loss.item() / math.log(2))
        return self.recent[-1]

    def evaluate(self) -> str:
        """Extends the curves, remembers the best model, saves; returns a line for the reader."""
        valid = bits_per_character(self.model, self.valid_rows, 4 * self.args.window)
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
        torch.set_rng_state(saved["random"])


RESUMED = ("step", "state", "curve", "best", "best_model", "waited")


def build(args, vocabulary) -> CharModel:
    """The model that the options describe."""
    return CharModel(len(vocabulary), args.layer, *(getattr(args, n) for n in MODEL_OPTIONS))


def check_prompt(prompt: str, vocabulary: str) -> None:
    """Says before a training, not after it, that the model cannot read the prompt."""
    unknown = sorted(set(prompt) - set(vocabulary))
    if unknown:
        common.fail(f"--prompt has characters that the model does not know: {unknown}")


def train(args) -> Trainer:
    """The training loop; Ctrl-C ends it early and keeps what was reached."""
    saved = common.load_checkpoint(args.checkpoint, "char_lm") if args.resume else None
    if saved:
        vars(args).update(saved["options"])  # --layer stays free: both load the same weights
    torch.manual_seed(args.seed)
    data = load_data(args, saved and saved["vocabulary"])
    check_prompt(args.prompt, data[0])
    trainer = Trainer(args, *data)
    if saved:
        trainer.resume(saved)
    size = sum(p.numel() for p in trainer.model.parameters())
    print(f"{args.layers}-layer {args.cell.upper()} of {args.layer}, {size:,} parameters")
    if trainer.step >= args.steps:
        common.fail(f"the checkpoint is at step {trainer.step}: give more with --steps")
    characters = args.batch * args.window
    began, first = time.perf_counter(), trainer.step
    try:
        with common.progress(args.steps * characters, "char", trainer.step * characters) as bar:
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
    add("--cell", choices=common.CELLS, default="lstm", help="kind of recurrent layer")
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
    trainer = train(args)
    if args.plot:
        plot(args.plot, trainer.curve)
    torch.manual_seed(args.seed)
    write(trainer.model, trainer.vocabulary, args)


if __name__ == "__main__":
    main()

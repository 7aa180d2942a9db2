"""Says from which language a surname comes.

--model chapter is the network that recurrent networks are taught with: letter by letter, a name at
a time, hidden = i2h(cat(x, h)), output = log_softmax(i2o(cat(x, h))), NLL loss, plain SGD. Its
hidden state is linear, so fastrnn runs a whole name as one rnn_identity scan; --layer torch runs
the literal loop, to the same numbers. --model fast reads names of different lengths at once.

  python examples/name_classifier.py                        names of several countries from faker
  python examples/name_classifier.py --data FOLDER          <Language>.txt in it, a name a line
  python examples/name_classifier.py --model chapter        the network of the teaching chapter
  python examples/name_classifier.py --predict Nowak Rossi  ask the saved model (no NAME: type them)
"""

from __future__ import annotations

import argparse
import string
import sys
import time
import unicodedata
from pathlib import Path

import common
import torch
from torch import nn
from torch.nn import functional as F

LETTERS = string.ascii_letters + " .,;'"
LANGUAGES = "Czech Dutch English Estonian Finnish French German Italian Polish Slovak Spanish"
CODES = "cs_CZ nl_NL en_GB et_EE fi_FI fr_FR de_DE it_IT pl_PL sk_SK es_ES"
LOCALES = dict(zip(LANGUAGES.split(), CODES.split(), strict=True))
MODEL_OPTIONS = ("model", "cell", "hidden")


class ChapterModel(nn.Module):
    """hidden = i2h(cat(x, h)), output = log_softmax(i2o(cat(x, h))): two linear layers."""

    def __init__(self, layer: str, cell: str, hidden: int, languages: int):
        super().__init__()
        self.i2h = nn.Linear(len(LETTERS) + hidden, hidden)
        self.i2o = nn.Linear(len(LETTERS) + hidden, languages)
        self.run = self.loop if layer == "torch" else self.scan

    def forward(self, ids, lengths):
        """ids [T, 1] of one name -> log-probabilities [1, languages] after its last letter."""
        x = F.one_hot(ids[: int(lengths[0])], len(LETTERS)).to(self.i2h.weight.dtype)
        return self.run(x)

    def loop(self, x):
        """The chapter, word for word. x [T, 1, letters]."""
        hidden = x.new_zeros(1, self.i2h.out_features)
        for letter in x:
            combined = torch.cat((letter, hidden), 1)
            hidden = self.i2h(combined)
            output = F.log_softmax(self.i2o(combined), 1)
        return output

    def scan(self, x):
        """The same in one scan: i2h(cat(x, h)) = (Wx x + b) + Wh h. x [T, 1, letters]."""
        from fastrnn.functional import scan

        wx, wh = self.i2h.weight.split([x.size(2), self.i2h.out_features], 1)
        start = x.new_zeros(1, self.i2h.out_features)
        hidden, _ = scan("rnn_identity", F.linear(x, wx, self.i2h.bias), wh, None, start)
        before_last = hidden[-2] if len(x) > 1 else start
        return F.log_softmax(self.i2o(torch.cat((x[-1], before_last), 1)), 1)


class FastModel(nn.Module):
    """Embedded letters, one recurrent layer over a ragged batch, its final state to the scores."""

    def __init__(self, layer: str, cell: str, hidden: int, languages: int):
        super().__init__()
        self.layer = layer
        self.embedding = nn.Embedding(len(LETTERS), 32)
        self.recurrent = common.recurrent(layer, cell, 32, hidden)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(hidden, languages)

    def forward(self, ids, lengths):
        """ids [T, B], lengths [B] -> log-probabilities [B, languages]."""
        x = self.embedding(ids)
        if self.layer == "torch":
            x = nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
            state = self.recurrent(x)[1]
        else:
            state = self.recurrent(x, lengths=lengths)[1]
        h_n = state[0] if isinstance(state, tuple) else state
        return F.log_softmax(self.head(self.dropout(h_n[-1])), 1)


def encode(name: str) -> torch.Tensor:
    return torch.tensor([LETTERS.index(letter) for letter in name])


class Names:
    """Names of known language as tensors: ids [T, N], lengths [N], languages [N]."""

    def __init__(self, pairs, languages: list[str]):
        self.lengths = torch.tensor([len(name) for name, _ in pairs])
        self.targets = torch.tensor([languages.index(language) for _, language in pairs])
        self.ids = torch.zeros(int(self.lengths.max()), len(pairs), dtype=torch.long)
        for column, (name, _) in enumerate(pairs):
            self.ids[: len(name), column] = encode(name)

    def batches(self, size: int, order, device):
        """Yields (ids [T, B], lengths [B], targets [B]), cut to the longest name of the batch."""
        for rows in order.split(size):
            lengths = self.lengths[rows]
            ids = self.ids[: int(lengths.max()), rows]
            yield ids.to(device), lengths, self.targets[rows].to(device)


def fold(name: str) -> str:
    """To the letters of the model: accents go, whatever else is unknown goes too."""
    decomposed = unicodedata.normalize("NFD", name.strip())
    return "".join(letter for letter in decomposed if letter in LETTERS).strip()


def read_names(args) -> dict[str, list[str]]:
    """Language -> its names, each once, sorted."""
    if args.data is None:
        faker = common.require("faker", "name_classifier.py without --data FOLDER")
        raw = {}
        for language, locale in LOCALES.items():
            source = faker.Faker(locale)
            source.seed_instance(0)
            drawn = [source.last_name() for _ in range(2000)]
            raw[language] = [name for name in drawn if " " not in name]  # some have 40 letters
    else:
        files = sorted(Path(args.data).glob("*.txt"))
        if len(files) < 2:
            common.fail(f"--data {args.data}: expected a folder with <Language>.txt of 2 languages")
        raw = {file.stem: common.read_text(file).splitlines() for file in files}
    names = {key: sorted({fold(line) for line in lines} - {""}) for key, lines in raw.items()}
    for language, known in names.items():
        if not known:
            common.fail(f"{language}.txt has no name in the letters {LETTERS!r}")
    return names


def split(names: dict[str, list[str]], seed: int, limit: int):
    """Languages, training names, test names. A name that several languages share goes to one side
    with all of them, so that nothing tested has been seen."""
    pairs = [(name, language) for language, known in names.items() for name in known]
    unique = sorted({name for name, _ in pairs})
    order = torch.randperm(len(unique), generator=torch.Generator().manual_seed(seed)).tolist()
    chosen = [unique[i] for i in order][: limit or None]
    tested = set(chosen[: max(1, len(chosen) // 5)])
    learnt = set(chosen) - tested
    if not learnt:
        common.fail("too few names: at least 2 are needed")
    languages = list(names)
    sides = [[pair for pair in pairs if pair[0] in side] for side in (learnt, tested)]
    return languages, Names(sides[0], languages), Names(sides[1], languages)


def build(args, languages: int) -> nn.Module:
    kind = ChapterModel if args.model == "chapter" else FastModel
    return kind(args.layer, args.cell, args.hidden, languages)


def train_epoch(model, optimizer, names: Names, args, bar) -> float:
    """One pass over all names in a new order; returns the mean loss."""
    model.train()
    total, seen = 0.0, 0
    order = torch.randperm(len(names.targets))
    for ids, lengths, targets in names.batches(args.batch, order, args.device):
        loss = F.nll_loss(model(ids, lengths), targets)
        optimizer.zero_grad()
        loss.backward()
        if args.clip:
            nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        optimizer.step()
        total, seen = total + loss.item() * len(targets), seen + len(targets)
        bar.set_postfix_str(f"loss {total / seen:.3f}", refresh=False)
        bar.update(len(targets))
    if not total < float("inf"):
        common.fail("the loss is no longer finite: try a lower --lr, or --clip 1")
    return total / seen


@torch.no_grad()
def confusion(model, names: Names, languages: int, args) -> torch.Tensor:
    """How often a name of language [row] is taken for one of language [column]."""
    model.eval()
    counts = torch.zeros(languages, languages)
    order = torch.arange(len(names.targets))
    for ids, lengths, targets in names.batches(args.batch, order, args.device):
        places = targets.cpu(), model(ids, lengths).argmax(1).cpu()
        counts.index_put_(places, torch.tensor(1.0), accumulate=True)
    return counts


def scores(counts: torch.Tensor) -> tuple[float, float]:
    """Share of names that are right, and the mean of that share over the languages."""
    present = counts.sum(1) > 0
    each = counts.diagonal()[present] / counts.sum(1)[present]
    return float(counts.diagonal().sum() / counts.sum()), float(each.mean())


def train(args) -> None:
    languages, learnt, tested = split(read_names(args), args.seed, args.limit)
    torch.manual_seed(args.seed)
    model = build(args, len(languages)).to(args.device)
    kind = torch.optim.SGD if args.model == "chapter" else torch.optim.Adam
    optimizer = kind(model.parameters(), lr=args.lr, fused=True)
    guess = tested.targets.bincount().max() / len(tested.targets)
    sizes = f"{len(learnt.targets):,} names to learn, {len(tested.targets):,} to test"
    print(f"{len(languages)} languages, {sizes}; always the commonest: {guess:.1%} right")
    with common.progress(args.epochs * len(learnt.targets), "name") as bar:
        for epoch in range(1, args.epochs + 1):
            began = time.perf_counter()
            loss = train_epoch(model, optimizer, learnt, args, bar)
            seconds = time.perf_counter() - began
            counts = confusion(model, tested, len(languages), args)
            right, mean = scores(counts)
            shares = f"right {right:.1%}   mean over languages {mean:.1%}"
            bar.write(f"epoch {epoch:3d}   loss {loss:.4f}   {shares}   {seconds:.2f} s")
    content = {"program": "name_classifier", "languages": languages, "model": model.state_dict()}
    content["options"] = {name: getattr(args, name) for name in MODEL_OPTIONS}
    common.save_checkpoint(args.checkpoint, content)
    print(f"saved {args.checkpoint}")
    if args.plot:
        common.draw_confusion(args.plot, counts, languages, "language")


@torch.no_grad()
def predict(args) -> None:
    """Three guesses for each name, from the options or typed in."""
    saved = common.load_checkpoint(args.checkpoint, "name_classifier")
    vars(args).update(saved["options"])
    model = build(args, len(saved["languages"]))
    model.load_state_dict(saved["model"])
    model.eval()
    for line in args.predict or sys.stdin:
        name = fold(line)
        if not name:
            print(f"{line.strip()!r} has none of the letters {LETTERS!r}")
            continue
        chances = model(encode(name)[:, None], torch.tensor([len(name)]))[0].exp()
        best = chances.topk(min(3, len(chances)))
        guesses = [f"{saved['languages'][i]} {p:.0%}" for p, i in zip(*best, strict=True)]
        print(f"{line.strip()}: {', '.join(guesses)}", flush=True)


def parse(argv=None) -> argparse.Namespace:
    parser = common.parser(__doc__)
    add = common.options(parser, "names")
    add("--data", metavar="FOLDER", help="holds <Language>.txt; without it: names from faker")
    add("--limit", type=common.WHOLE, metavar="N", help="use N names only")
    add("--predict", nargs="*", metavar="NAME", help="ask the saved model; no NAME: read names")
    add = common.options(parser, "model and training")
    add("--model", choices=("chapter", "fast"), default="fast", help="which network")
    add("--cell", choices=common.CELLS, default="lstm", help="of the fast model")
    add("--hidden", type=common.WHOLE, help="hidden units [chapter 128, fast 64]")
    add("--epochs", type=common.WHOLE, help="passes over the names [chapter 4, fast 12]")
    add("--batch", type=common.WHOLE, help="names at once [chapter always 1, fast 256]")
    add("--lr", type=common.POSITIVE, help="learning rate [chapter 0.005, fast 0.01]")
    add("--clip", type=common.NOT_NEGATIVE, help="largest gradient norm [chapter none, fast 1]")
    common.add_common_options(parser, checkpoint="name_classifier.pt")
    args = parser.parse_args(argv)
    if args.model == "chapter" and (args.batch or 1) != 1:
        parser.error("--model chapter learns from one name at a time: leave --batch out")
    chapter = {"hidden": 128, "epochs": 4, "batch": 1, "lr": 0.005, "clip": 0.0}
    fast = {"hidden": 64, "epochs": 12, "batch": 256, "lr": 0.01, "clip": 1.0}
    for option, value in (chapter if args.model == "chapter" else fast).items():
        if getattr(args, option) is None:
            setattr(args, option, value)
    return args


def main(argv=None) -> None:
    args = parse(argv)
    common.check_outputs(args)
    train(args) if args.predict is None else predict(args)


if __name__ == "__main__":
    main()

"""examples/name_classifier.py: the chapter's network exactly, and the fast one that beats it."""

import importlib
import io
import random
import sys
from pathlib import Path

import pytest
import torch
from torch import nn


@pytest.fixture
def program(empty_folder):
    """Three made-up languages that differ in their endings and their letters."""
    rng = random.Random(0)
    Path("names").mkdir()
    for language, letters, ending in (
        ("A", "aeklm", "ov"),
        ("B", "iorst", "ini"),
        ("C", "uwz", "ö"),
    ):
        names = {"".join(rng.choices(letters, k=rng.randint(2, 8))) + ending for _ in range(120)}
        Path(f"names/{language}.txt").write_text("\n".join(sorted(names)), encoding="utf-8")
    return importlib.import_module("name_classifier")


def run(program, capsys, options):
    program.main(["--data", "names", *options.split()])
    return capsys.readouterr().out


def right(out: str) -> float:
    return float(out.rpartition("right ")[2].partition("%")[0])


class LiteralChapter(nn.Module):
    """The chapter's text, written down again here as the judge of the program's."""

    def __init__(self, model):
        super().__init__()
        self.i2h, self.i2o = model.i2h, model.i2o
        self.softmax = nn.LogSoftmax(dim=1)

    def forward(self, input, hidden):
        combined = torch.cat((input, hidden), 1)
        return self.softmax(self.i2o(combined)), self.i2h(combined)


@pytest.mark.parametrize("length", [1, 2, 3, 11])
@pytest.mark.parametrize("layer", ["torch", "fastrnn"])
def test_chapter_network_equals_the_literal_loop(program, layer, length):
    torch.manual_seed(0)
    model = program.ChapterModel(layer, "rnn", 16, 5).double()
    literal = LiteralChapter(model)
    ids = torch.randint(len(program.LETTERS), (length, 1))
    results = []
    for one_scan in (True, False):
        if one_scan:
            output = model(ids, torch.tensor([length]))
        else:
            hidden = torch.zeros(1, 16, dtype=torch.double)
            for letter in nn.functional.one_hot(ids, len(program.LETTERS)).double():
                output, hidden = literal(letter, hidden)
        loss = nn.functional.nll_loss(output, torch.tensor([3]))
        weights = list(model.parameters())  # i2h is not used at length 1
        results.append([output, *torch.autograd.grad(loss, weights, materialize_grads=True)])
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-13)


def test_chapter_learns_the_same_with_either_layer(program, capsys):
    options = "--model chapter --hidden 16 --epochs 3 --lr 0.02"
    weights = []
    for layer in ("torch", "fastrnn"):
        out = run(program, capsys, f"{options} --layer {layer} --checkpoint {layer}.pt")
        assert right(out) > 80  # guessing gives about 35
        weights.append(torch.load(f"{layer}.pt", weights_only=True)["model"])
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_fast_learns_the_same_with_either_layer(program, capsys, cell):
    weights = []
    for layer in ("torch", "fastrnn"):
        options = f"--cell {cell} --layer {layer} --hidden 16 --batch 16 --epochs 6 --lr 0.02"
        out = run(program, capsys, f"{options} --checkpoint {layer}.pt")
        assert right(out) > 90
        weights.append(torch.load(f"{layer}.pt", weights_only=True)["model"])
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-5)


def test_nothing_tested_was_learnt_and_shared_names_stay_together(program):
    names = {"A": ["x", "y", "z", "w", "v"], "B": ["x", "y", "u"]}
    for seed in range(5):
        _, learnt, tested = program.split(names, seed, None)
        known = {tuple(learnt.ids[:, i].tolist()) for i in range(len(learnt.targets))}
        for i in range(len(tested.targets)):
            assert tuple(tested.ids[:, i].tolist()) not in known
        assert len(learnt.targets) + len(tested.targets) == 8


def test_predicts_from_the_options_and_from_the_keyboard(program, capsys, monkeypatch):
    run(program, capsys, "--hidden 16 --batch 16 --epochs 6 --lr 0.02")
    lines = run(program, capsys, "--predict Kalemov Rotini 漢").splitlines()
    assert lines[0].startswith("Kalemov: A ")
    assert lines[1].startswith("Rotini: B ")
    assert "has none of the letters" in lines[2]
    monkeypatch.setattr(sys, "stdin", io.StringIO("wuzzö\n"))
    assert run(program, capsys, "--predict --layer torch").startswith("wuzzö: C ")


def test_folds_accents_as_the_chapter_does(program):
    assert program.fold(" Ślusàrski ") == "Slusarski"
    assert program.fold("O'Néàl") == "O'Neal"


def test_scores_of_a_known_confusion(program):
    counts = torch.tensor([[8.0, 2.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 1.0]])
    assert program.scores(counts) == (pytest.approx(9 / 12), pytest.approx((0.8 + 0.5) / 2))


def test_draws_the_confusion(program, capsys):
    pytest.importorskip("matplotlib")
    run(program, capsys, "--epochs 1 --limit 30 --plot matrix.png --layer torch")
    assert Path("matrix.png").read_bytes().startswith(b"\x89PNG")


def test_names_from_faker(program, capsys, monkeypatch):
    pytest.importorskip("faker")
    monkeypatch.setattr(program, "LOCALES", {"German": "de_DE", "Polish": "pl_PL"})
    program.main("--epochs 1 --limit 300 --hidden 8 --layer torch".split())
    assert "2 languages, " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--data nowhere", "--data nowhere: expected a folder"),
        ("--data empty", "empty"),
        ("--data kanji", "Kanji.txt has no name in the letters"),
        ("--predict Nowak --checkpoint no.pt", "there is no checkpoint no.pt"),
        ("--limit 1", "too few names"),
        ("--model chapter --lr 1e9 --epochs 1 --limit 50", "the loss is no longer finite"),
    ],
)
def test_says_what_is_wrong(program, capsys, options, message):
    for folder, files in (("empty", {"X": "", "Y": "y"}), ("kanji", {"Kanji": "漢", "Y": "y"})):
        Path(folder).mkdir()
        for name, text in files.items():
            Path(f"{folder}/{name}.txt").write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit) as caught:
        run(program, capsys, f"--layer torch {options}")
    assert message in str(caught.value)


def test_missing_faker_is_named(program, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "faker", None)
    with pytest.raises(SystemExit, match="pip install faker"):
        program.main(["--epochs", "1"])


def test_chapter_refuses_a_batch(program, capsys):
    with pytest.raises(SystemExit):
        run(program, capsys, "--model chapter --batch 8")
    assert "one name at a time" in capsys.readouterr().err

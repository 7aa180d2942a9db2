"""examples/char_lm.py learns, resumes exactly, writes, and says what is wrong with its input."""

import copy
import importlib
import sys
from pathlib import Path

import pytest
import torch
from helpers import run_python

import fastrnn
from fastrnn import zoo

SENTENCE = "the quick brown fox jumps over the lazy dog; "
SMALL = "--hidden 24 --embedding 8 --batch 4 --window 16 --lr 0.02 --evaluate-every 20 --length 30"


@pytest.fixture
def program(empty_folder):
    Path("text.txt").write_text(SENTENCE * 60, encoding="utf-8")
    return importlib.import_module("char_lm")


def run(program, capsys, options):
    program.main(["--text", "text.txt", *SMALL.split(), *options.split()])
    return capsys.readouterr().out


def saved(path="char_lm.pt"):
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_learns_the_same_curve_with_either_layer(program, capsys, cell):
    for layer in ("torch", "fastrnn"):
        options = f"--cell {cell} --layer {layer} --layers 2 --dropout 0.1 --checkpoint {layer}.pt"
        run(program, capsys, f"{options} --steps 80 --patience 0")
    curves = [torch.tensor(saved(f"{layer}.pt")["curve"]) for layer in ("fastrnn", "torch")]
    assert curves[0][-1, 2] < 1.0  # bits per character; about 4.7 before training
    torch.testing.assert_close(*curves, rtol=1e-4, atol=0)


@pytest.mark.parametrize("cell", zoo.__all__)
def test_a_cell_of_the_zoo_trains_and_writes(program, capsys, monkeypatch, cell):
    monkeypatch.setenv("FASTRNN_BACKEND", "reference")  # which compiles nothing
    small = f"--cell {cell} --window 8 --steps 6 --evaluate-every 3 --length 2"
    assert f"1-layer {cell} of fastrnn" in run(program, capsys, small)
    (_, _, before), (_, _, after) = saved()["curve"]
    assert after < before
    assert saved()["options"]["cell"] == cell
    assert run(program, capsys, "--generate --length 3 --prompt quick").startswith("quick")


@pytest.mark.slow
@pytest.mark.parametrize("cell", zoo.__all__)
def test_a_cell_of_the_zoo_learns(program, capsys, cell):
    run(program, capsys, f"--cell {cell} --layers 2 --steps 200 --patience 0")
    first, *_, last = saved()["curve"]
    assert last[2] < 0.75 * first[2]


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_int8_weights_cost_no_hundredth_of_a_bit(program, cell):
    """On Python's documentation, over 30,000 characters of it that no step has seen."""
    options = f"--cell {cell} --layers 2 --hidden 128 --steps 250 --evaluate-every 250"
    trainer = program.train(program.parse(options.split()))
    rows = trainer.valid_rows[:1000]
    exact = program.bits_per_character(trainer.model, rows, 64)
    small = fastrnn.quantize(copy.deepcopy(trainer.model))
    assert abs(program.bits_per_character(small, rows, 64) - exact) < 0.01
    assert exact < 3.5  # it has learnt


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_two_processes_have_the_curve_of_one(program, capsys, cell):
    """Five rows among two, stopped and taken up again; a checkpoint goes on in one process too."""
    run(program, capsys, f"--cell {cell} --batch 5 --steps 60 --checkpoint one.pt")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    options = f"--cell {cell} --text text.txt {SMALL} --batch 5 --distributed --checkpoint two.pt"
    for more in ("--steps 20", "--steps 40 --resume"):
        command = [*launch, program.__file__, *options.split(), *more.split()]
        ran = run_python(*command, cwd=Path.cwd(), OMP_NUM_THREADS="1")
        assert ran.returncode == 0, ran.stderr[-3000:]
        assert ran.stdout.count("best validation") == 1
    run(program, capsys, f"--cell {cell} --batch 5 --steps 60 --checkpoint two.pt --resume")
    curves = [torch.tensor(saved(name)["curve"]) for name in ("one.pt", "two.pt")]
    torch.testing.assert_close(curves[1], curves[0], rtol=1e-4, atol=0)


def test_a_checkpoint_of_one_layer_writes_with_the_other(program, capsys):
    run(program, capsys, "--steps 80 --checkpoint model.pt --layer torch")
    texts = [
        run(program, capsys, f"--generate --checkpoint model.pt --prompt quick --layer {layer}")
        for layer in ("torch", "fastrnn")
    ]
    assert texts[0] == texts[1]
    assert len(texts[0]) == len("quick") + 30 + 1
    assert "brown" in texts[0]


def test_resume_continues_exactly(program, capsys):
    options = "--layers 2 --dropout 0.2"
    run(program, capsys, f"{options} --steps 60 --checkpoint whole.pt")
    run(program, capsys, f"{options} --steps 20 --checkpoint parts.pt")
    run(program, capsys, f"{options} --steps 60 --checkpoint parts.pt --resume")
    assert saved("parts.pt")["curve"] == saved("whole.pt")["curve"]


def test_stops_early_and_keeps_the_best(program, capsys):
    out = run(program, capsys, "--steps 400 --lr 0.3 --patience 2 --evaluate-every 5")
    assert "stopped" in out
    steps, _, bits = zip(*saved()["curve"], strict=True)
    assert steps[-1] < 400
    assert saved()["best"] == min(bits) < bits[-1]


def test_validation_bits_of_a_model_that_knows_nothing(program):
    model = program.CharModel(8, "torch", "lstm", 4, 1, 4, 0.0)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    rows = torch.randint(8, (33, 3))
    assert program.bits_per_character(model, rows, window=10) == pytest.approx(3.0)


def test_validation_carries_the_state_over_its_windows(program):
    torch.manual_seed(0)
    model, rows = program.CharModel(8, "torch", "gru", 4, 1, 4, 0.0), torch.randint(8, (33, 3))
    whole = program.bits_per_character(model, rows, window=32)
    assert program.bits_per_character(model, rows, window=5) == pytest.approx(whole, rel=1e-6)


def test_training_carries_the_state_but_not_the_graph(program, capsys):
    args = program.parse(["--text", "text.txt", *SMALL.split(), "--layer", "torch"])
    trainer = program.Trainer(args, *program.load_data(args))
    windows = (len(trainer.train_rows) - 1) // args.window
    for step in range(windows + 2):
        first = trainer.train_rows[step % windows * args.window :][: args.window]
        before = trainer.state if step % windows else None  # each pass starts from zeros
        _, expected = trainer.model(first, before)
        trainer.train_step()
        torch.testing.assert_close(trainer.state, expected)
        assert not any(part.requires_grad for part in trainer.state)


def test_draws_the_curve(program, capsys):
    pytest.importorskip("matplotlib")
    run(program, capsys, "--steps 4 --plot curve.png")
    assert Path("curve.png").read_bytes().startswith(b"\x89PNG")


def test_default_text_is_pythons_documentation(program):
    text = importlib.import_module("text_rows").read_text(None)
    assert len(text) > 300_000
    assert 'The "assert" statement' in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "bad.txt is empty"),
        (b" \n\t\n", "bad.txt is empty"),
        (b"\xff\xfe\x00", "bad.txt is not UTF-8 text (byte 0): is it a binary file?"),
        (b"a\0b", "bad.txt is not text: it contains NUL bytes"),
        (b"short", "bad.txt is too short: 5 characters, and --batch 4 --window 16 need 78"),
    ],
)
def test_says_what_is_wrong_with_a_file(program, capsys, content, message):
    Path("bad.txt").write_bytes(content)
    with pytest.raises(SystemExit) as caught:
        run(program, capsys, "--text bad.txt")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--text none.txt", "cannot read none.txt: No such file or directory"),
        ("--text .", "cannot read .: Is a directory"),
        ("--prompt Ω", "--prompt has characters that the model does not know: ['Ω']"),
        ("--generate --checkpoint none.pt", "there is no checkpoint none.pt"),
        ("--generate --checkpoint text.txt", "text.txt was not written by char_lm.py"),
        ("--plot no/such/folder.png", "there is no folder no/such"),
        ("--distributed", "--distributed is for processes that torchrun starts"),
        ("--cell JANET --layer torch", "torch.nn has no JANET: --layer torch goes with --cell"),
        ("--cell SLSTM --hidden 9", "SLSTM: heads must be a whole number that divides"),
        ("--lr 1e36 --clip 1e38 --steps 9 --layer torch", "the loss is no longer finite"),
    ],
)
def test_says_what_is_wrong_with_an_option(program, capsys, options, message):
    with pytest.raises(SystemExit) as caught:
        run(program, capsys, options)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--steps 0", "expected a whole number at least 1, got '0'"),
        ("--dropout 1", "expected a number at least 0 and below 1, got '1'"),
        ("--temperature nan", "expected a number at least 0, got 'nan'"),
        ("--hidden many", "expected a whole number at least 1, got 'many'"),
        ("--device tpu9", "argument --device"),
    ],
)
def test_refuses_bad_numbers(program, capsys, options, message):
    with pytest.raises(SystemExit):
        run(program, capsys, options)
    assert message in capsys.readouterr().err


def test_resume_refuses_another_text(program, capsys):
    run(program, capsys, "--steps 2 --layer torch")
    Path("text.txt").write_text(SENTENCE * 61, encoding="utf-8")
    with pytest.raises(SystemExit, match="--resume needs --text"):
        run(program, capsys, "--steps 4 --layer torch --resume")


def test_works_without_tqdm(program, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert "step      4" in run(program, capsys, "--steps 4 --layer torch")

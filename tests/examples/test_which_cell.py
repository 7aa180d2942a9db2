"""examples/which_cell.py gives every cell the same room and time, and draws how they learn."""

import importlib
from pathlib import Path

import pytest
import torch

from fastrnn import zoo

SENTENCE = "the quick brown fox jumps over the lazy dog; "
SMALL = "--text text.txt --embedding 8 --batch 4 --window 16 --lr 0.02 --parameters 4000"


@pytest.fixture
def program(empty_folder, monkeypatch):
    Path("text.txt").write_text(SENTENCE * 60, encoding="utf-8")
    monkeypatch.setenv("FASTRNN_BACKEND", "reference")  # which compiles nothing
    return importlib.import_module("which_cell")


def run(program, capsys, options):
    program.main([*SMALL.split(), *options.split()])
    return capsys.readouterr().out


def test_cells_get_the_same_room_and_time(program, capsys):
    pytest.importorskip("matplotlib")
    out = run(program, capsys, "--cells gru,MinGRU,SLSTM --seconds 0.7 --plot p.svg")
    _, *rows = [line for line in out.splitlines() if line.startswith("| ")]
    cells = {row.split("|")[1].strip(): row.split("|")[2:-1] for row in rows}
    assert set(cells) == {"GRU", "MinGRU", "SLSTM"}
    for hidden, size, *_, end in cells.values():
        assert int(hidden) % 8 == 0 and 2500 < int(size.replace(",", "")) <= 4000
        assert float(end) < 4.5  # bits per character; 4.8 before training
    ends = [float(row[-1]) for row in cells.values()]
    assert ends == sorted(ends), "the best comes first"
    picture = Path("p.svg").read_text(encoding="utf-8")
    assert all(f"<!-- {cell} " in picture for cell in cells)


def test_all_cells_take_part_unless_some_are_chosen(program, monkeypatch):
    common = importlib.import_module("common")
    assert common.cells() == ["lstm", "gru", "rnn", *zoo.__all__]
    asked = []
    monkeypatch.setattr(program.Run, "__init__", lambda self, args, data, cell: asked.append(cell))
    monkeypatch.setattr(program.Run, "until", lambda self, seconds: setattr(self, "points", []))
    for options, cells in (([], common.cells()), (["--layer", "torch"], list(common.CELLS))):
        with pytest.raises(SystemExit, match="interrupted before the first cell"):
            program.main([*SMALL.split(), *options])
        assert asked == cells
        asked.clear()


def test_a_run_learns_as_char_lm_does(program):
    """The same seed, rows and options: the same losses, in however many turns."""
    options = [*SMALL.split(), "--cells", "gru", "--layer", "torch", "--seconds", "0.2"]
    args = program.parse(options)
    run = program.Run(args, program.load_data(args), "gru")
    for seconds in (0.05, 0.1, 0.2):
        run.until(seconds)
    steps, taken, bits = run.points[-1]
    assert taken >= 0.2 and run.seconds == taken
    torch.manual_seed(args.seed)
    again = program.Trainer(run.args, *program.load_data(args))
    for _ in range(steps):
        again.train_step()
    assert bits == pytest.approx(program.bits_per_character(again.model, again.valid_rows, 64))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--parameters 100", "--parameters 100 is too few for any LSTM"),
        ("--cells JANET --layer torch", "torch.nn has no JANET"),
        ("--plot no/such/folder.png", "there is no folder no/such"),
    ],
)
def test_says_what_is_wrong_with_an_option(program, capsys, options, message):
    with pytest.raises(SystemExit) as caught:
        run(program, capsys, options)
    assert message in str(caught.value)


def test_refuses_an_unknown_cell(program, capsys):
    with pytest.raises(SystemExit):
        run(program, capsys, "--cells gru,LSTN")
    assert "got 'LSTN'" in capsys.readouterr().err

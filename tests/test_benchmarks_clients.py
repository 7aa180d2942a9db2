"""`python -m benchmarks clients`: its gate, its table, and what becomes of libraries that fail."""

import ast
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("pandas")
pytest.importorskip("tqdm")

from benchmarks.__main__ import main
from benchmarks.clients import registry
from benchmarks.clients.model import Client, Model, plain
from benchmarks.commands import clients as command
from benchmarks.measure import whole_model
from benchmarks.measure.whole_model import Row, measure
from benchmarks.report import clients as report

ROOT = Path(__file__).parent.parent


class Tagger(nn.Module):
    """As a library might have one; `torch` stands for the library."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(5, 7, num_layers=2, dropout=0.5, bidirectional=True)
        self.out = nn.Linear(14, 3)

    def forward(self, x):
        return {"tags": self.out(self.lstm(x)[0]), "length": len(x)}


def client(make, package="torch"):
    return Client(package, "a model", "B 2, T 9", make)


def tagger():
    return plain(Tagger(), torch.randn(9, 2, 5), of=lambda made: made["tags"])


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(whole_model, "ALLOWANCE", 0.01)
    monkeypatch.setattr(whole_model, "LEAST", 2)


def test_a_row():
    row = measure(client(tagger))
    assert (row.status, row.changed, row.left) == ("ok", 1, 0), row.why
    assert row.version == torch.__version__ and 0 < row.share <= 1 and row.difference < 1e-5
    assert row.infer_p20 <= row.infer <= row.infer_p80 and row.train > 0
    assert row.infer_ms > 0 and row.train_ms > row.infer_ms


def test_what_a_layer_was_left_for_is_told():
    class Own(nn.LSTM):
        def permute_hidden(self, hx, permutation):
            return super().permute_hidden(hx, permutation)

    row = measure(client(lambda: plain(Own(5, 7), torch.randn(9, 2, 5), of=lambda made: made[0])))
    assert (row.changed, row.left) == (0, 1)
    assert "torch: its class Own has permute_hidden of its own" in report.table([row])


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_a_wrong_result_is_not_timed(mode, monkeypatch):
    """The second model, fastrnn's, is given another input."""
    made, factor = [], {"inference": 1.001, "training": 1.01}[mode]

    def make():
        net, x = nn.LSTM(5, 7), torch.randn(9, 2, 5)
        made.append(net)
        other = x * factor if len(made) == 2 else x
        infer = other if mode == "inference" else x
        return Model(net, lambda: net(infer), lambda: net(other)[0].square().mean())

    calls = []
    timed = whole_model.timing.interleaved
    monkeypatch.setattr(whole_model.timing, "interleaved", lambda *a: calls.append(1) or timed(*a))
    row = measure(client(make))
    assert row.status == "WRONG" and row.why.startswith(mode)
    assert len(calls) == (mode == "training")


def test_a_library_that_fails_or_is_not_there_is_a_row():
    def broken():
        raise ImportError("no | such\nmodule")

    failed, missing = measure(client(broken)), measure(client(tagger, package="no-such-library"))
    assert (failed.status, missing.status) == ("failed", "missing")
    table = report.table([failed, missing])
    assert "**failed**: ImportError: no / such module" in table
    assert table.count("\n| ") == 1 and "Not installed: no-such-library." in table


def test_slower_models_are_bold_and_counted():
    about = {"package": "torch", "title": "x", "shapes": "B 1", "share": 0.5, "difference": 0.0}
    rows = [Row(**about, infer=infer, infer_p20=infer, infer_p80=infer) for infer in (2.0, 0.5)]
    table = report.table(rows)
    assert "| **0.50 (0.50–0.50)** | – |" in table and "| 2.00 (2.00–2.00) | – |" in table
    assert "in one of the two: 1 of 2." in table


def test_the_command(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(registry, "CLIENTS", [client(tagger, "no-such-library")])
    monkeypatch.setattr(command, "_row", lambda place: measure(registry.CLIENTS[place]))
    assert main(["clients", "--out", str(tmp_path)]) == 0
    assert "Not installed: no-such-library." in capsys.readouterr().out
    assert "no-such-library" in (tmp_path / "clients.csv").read_text()
    assert (tmp_path / "clients.md").read_text().startswith("# Models of other libraries")
    with pytest.raises(SystemExit) as end:
        main(["clients", "--only", "nothing like it"])
    assert end.value.code == 2
    assert "no model has 'nothing like it' in its name" in capsys.readouterr().err


@pytest.mark.slow
def test_a_model_is_measured_in_a_process_of_its_own():
    row = command._row(0)
    assert row.package == registry.CLIENTS[0].package and row.status in ("ok", "missing"), row.why


def test_no_file_of_models_needs_its_library():
    """They are imported in the functions that make a model."""
    for path in (ROOT / "benchmarks/clients").glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, (ast.Import, ast.ImportFrom)) and not getattr(node, "level", 0):
                names = [getattr(node, "module", None) or node.names[0].name]
                assert names[0].split(".")[0] in {
                    "__future__", "collections", "importlib", "torch", "typing"
                }, f"{path}: {names}"  # fmt: skip
    titles = [(each.package, each.title, each.shapes) for each in registry.CLIENTS]
    assert len(set(titles)) == len(titles)
    assert {each.package for each in registry.chosen("TORCHRL")} == {"torchrl"}

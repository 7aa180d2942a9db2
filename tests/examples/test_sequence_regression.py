"""examples/sequence_regression.py forecasts, splits honestly, and says what is wrong."""

import importlib
import math
import sys
from pathlib import Path

import pytest
import torch

SMALL = "--hidden 8 --epochs 40 --lr 0.01 --season 20 --window 20 --horizon 5"


@pytest.fixture
def program(empty_folder):
    """A table with a season of 20 rows, a trend, two gaps and a column of words."""
    rows = [f"{10 * math.sin(math.tau * i / 20) + 0.05 * i:.4f},word" for i in range(300)]
    rows[7] = rows[50] = ",word"
    Path("wave.csv").write_text("level,remark\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return importlib.import_module("sequence_regression")


def run(program, capsys, options):
    pytest.importorskip("pandas")
    program.main(["--csv", "wave.csv", "--column", "level", *SMALL.split(), *options.split()])
    return capsys.readouterr().out


def rmse(out: str, name: str) -> float:
    line = next(line for line in out.splitlines() if line.strip().startswith(name))
    return float(line.partition("RMSE")[2].split()[0])


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_beats_the_baselines(program, capsys, cell):
    out = run(program, capsys, f"--cell {cell}")
    assert rmse(out, "model") < 0.8 * rmse(out, "seasonal-naive") < 0.8 * rmse(out, "naive")
    assert rmse(out, "seasonal-naive") == pytest.approx(20 * 0.05, abs=0.01)  # the trend


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_learns_the_same_with_either_layer(program, capsys, cell):
    weights = []
    for layer in ("torch", "fastrnn"):
        run(program, capsys, f"--cell {cell} --layer {layer} --epochs 4 --checkpoint {layer}.pt")
        weights.append(torch.load(f"{layer}.pt", weights_only=True)["model"])
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-5)


def test_no_forecast_sees_its_future(program):
    values = torch.arange(200.0).sin()
    series = program.Series("", "", values, list(range(200)), "", 12, 10, 7)
    data = program.Windows(series)
    assert data.places[data.learn].max() < 140 <= data.places[data.stop].min()
    assert data.places[data.stop].max() < 170 <= data.places[data.test].min()
    for place in (data.test[0], data.test[-1]):
        changed = values.clone()
        changed[int(data.places[place]) - 7 + 1 :] += 100
        other = program.Windows(program.Series("", "", changed, list(range(200)), "", 12, 10, 7))
        assert torch.equal(data.input[:, place], other.input[:, place])
        assert data.naive[place] == other.naive[place]
        assert data.seasonal[place] == values[data.places[place] - 12] == other.seasonal[place]


def test_a_long_horizon_goes_back_several_seasons(program):
    series = program.Series("", "", torch.arange(300.0), list(range(300)), "", 12, 10, 25)
    data = program.Windows(series)
    assert torch.equal(data.target - data.seasonal, torch.full_like(data.target, 36.0))


def test_evaluates_a_checkpoint_with_the_other_layer(program, capsys):
    trained = run(program, capsys, "--cell gru --layer torch --epochs 4")
    loaded = run(program, capsys, "--evaluate --cell lstm --layer fastrnn")
    assert rmse(loaded, "model") == pytest.approx(rmse(trained, "model"), abs=0.002)


def test_draws_the_forecast(program, capsys):
    pytest.importorskip("matplotlib")
    run(program, capsys, "--epochs 1 --layer torch --plot forecast.png")
    assert Path("forecast.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("name", "points"), [("sunspots", 309), ("co2", 2284)])
def test_series_of_statsmodels(program, name, points):
    pytest.importorskip("statsmodels")
    series = getattr(program, name)()
    assert len(series.values) == len(series.times) == points
    assert torch.isfinite(series.values).all()
    assert series.times == sorted(series.times)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--csv none.csv", "cannot read none.csv"),
        ("--column height", "wave.csv has level, remark; got height"),
        ("--column remark", "column remark of wave.csv holds no numbers"),
        ("--window 290", "the series is too short: 300 points"),
        ("--evaluate", "there is no checkpoint sequence_regression.pt"),
        ("--lr 1e36 --clip 1e36 --epochs 3 --layer torch", "the loss is no longer finite"),
    ],
)
def test_says_what_is_wrong(program, capsys, options, message):
    with pytest.raises(SystemExit) as caught:
        run(program, capsys, options)
    assert message in str(caught.value)


def test_csv_and_column_go_together(program, capsys):
    with pytest.raises(SystemExit):
        program.main(["--csv", "wave.csv"])
    assert "go together" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("package", "options"),
    [
        ("statsmodels", ""),
        ("pandas", "--csv wave.csv --column level"),
        ("matplotlib", "--plot x.png"),
    ],
)
def test_missing_packages_are_named(program, monkeypatch, package, options):
    for module in [m for m in sys.modules if m.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit, match=f"pip install {package}"):
        program.main([*options.split(), "--epochs", "1"])

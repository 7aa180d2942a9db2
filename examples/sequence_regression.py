"""Forecasts a measured series: windows in, recurrent layers, last step, linear layer, one number.

The series is split by time: the model learns from the first 70%, the next 15% say when to stop, and
the last 15% are forecast once, at the end. Each forecast sees only what was known --horizon points
before. Beside it stand two forecasts that cost nothing: the last known value (naive), and the value
a whole number of seasons before (seasonal-naive). MSE loss, Adam, clipped gradients.

  python examples/sequence_regression.py                        yearly sunspots since 1700
  python examples/sequence_regression.py --series co2           weekly CO2 at Mauna Loa, 1958-2001
  python examples/sequence_regression.py --csv FILE --column NAME --season 12
"""

from __future__ import annotations

import argparse
import copy
import math
from dataclasses import dataclass
from pathlib import Path

import common
import torch
from torch import nn
from torch.nn import functional as F


@dataclass
class Series:
    """A measured series [N] with what a picture and a forecaster need to know about it."""

    title: str
    unit: str
    values: torch.Tensor
    times: list
    step: str  # the name of the distance between two points
    season: int
    window: int
    horizon: int

    @property
    def ahead(self) -> str:
        return f"forecasts {self.horizon} {self.step}{'s' * (self.horizon > 1)} ahead"


def sunspots() -> Series:
    data = common.require("statsmodels.api", "--series sunspots").datasets.sunspots
    table = data.load_pandas().data
    values = torch.tensor(table["SUNACTIVITY"].tolist())
    years = [int(year) for year in table["YEAR"]]
    return Series("Sunspots, yearly mean", "sunspot number", values, years, "year", 11, 33, 1)


def co2() -> Series:
    data = common.require("statsmodels.api", "--series co2").datasets.co2
    table = data.load_pandas().data["co2"].ffill()  # a gap repeats what was known before it
    values = torch.tensor(table.tolist())
    years = [day.year + (day.day_of_year - 1) / 365.25 for day in table.index]
    return Series("CO2 at Mauna Loa, weekly", "CO2 [ppm]", values, years, "week", 52, 104, 13)


def from_csv(path: str, column: str | None) -> Series:
    """One column of numbers; gaps repeat what was known before them."""
    pandas = common.require("pandas", "--csv")
    common.read_text(path)
    try:
        table = pandas.read_csv(path)
    except (pandas.errors.ParserError, pandas.errors.EmptyDataError) as error:
        common.fail(f"{path} is not a table of comma-separated values: {error}")
    if column not in table.columns:
        common.fail(f"--column: {path} has {', '.join(table.columns)}; got {column}")
    numbers = pandas.to_numeric(table[column], errors="coerce").ffill().dropna()
    if numbers.empty:
        common.fail(f"column {column} of {path} holds no numbers")
    values = torch.tensor(numbers.tolist(), dtype=torch.float)
    return Series(Path(path).stem, column, values, list(range(len(values))), "row", 12, 24, 1)


def load(args) -> Series:
    if args.csv:
        series = from_csv(args.csv, args.column)
    else:
        series = {"sunspots": sunspots, "co2": co2}[args.series]()
    for option in ("season", "window", "horizon"):
        if getattr(args, option):
            setattr(series, option, getattr(args, option))
    return series


class Windows:
    """Every window of the series, its target, and the two forecasts that cost nothing.

    A target at place p is forecast from the values at p - horizon - window + 1 ... p - horizon. All
    values are counted from the last known one, in units of the training part's spread: then a trend
    is nothing new to the model when it goes on beyond what was seen.
    """

    def __init__(self, series: Series):
        x, horizon, season = series.values, series.horizon, series.season
        seasons_back = math.ceil(horizon / season) * season  # the nearest that is known by then
        first = max(series.window + horizon - 1, seasons_back)
        self.places = torch.arange(first, len(x))
        ends = [int(len(x) * share) for share in (0.70, 0.85)]
        parts = (self.places < ends[0], self.places < ends[1])
        self.learn, self.stop, self.test = (
            torch.nonzero(part).flatten() for part in (parts[0], parts[1] & ~parts[0], ~parts[1])
        )
        if min(map(len, (self.learn, self.stop, self.test))) == 0:
            common.fail(
                f"the series is too short: {len(x)} points, and --window {series.window} "
                f"--horizon {horizon} leave nothing to learn from or to test"
            )
        self.target = x[self.places]
        self.naive = x[self.places - horizon]
        self.seasonal = x[self.places - seasons_back]
        steps = torch.arange(-series.window + 1, 1)
        history = x[self.places[:, None] - horizon + steps]  # [places, window]
        moves = (self.target - self.naive)[self.learn]
        self.scale = float(moves.std(correction=0)) or 1.0
        self.input = ((history - self.naive[:, None]) / self.scale).t()[:, :, None]
        self.answer = (self.target - self.naive) / self.scale  # what the model is asked for


class Forecaster(nn.Module):
    """Many to one: recurrent layers over the window, the last step to one number."""

    def __init__(self, layer: str, cell: str, hidden: int, layers: int):
        super().__init__()
        self.recurrent = common.recurrent(layer, cell, 1, hidden, num_layers=layers)
        self.head = nn.Linear(hidden, 1)

    def forward(self, x):
        """x [T, B, 1] -> [B]"""
        output, _ = self.recurrent(x)
        return self.head(output[-1]).squeeze(1)


def train(model, data: Windows, args) -> list[tuple[int, float, float]]:
    """Adam on mini-batches until the part kept for stopping gets no better; keeps the best."""
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    best, best_state, waited, curve = math.inf, None, 0, []
    with common.progress(args.epochs * len(data.learn), "window") as bar:
        for epoch in range(1, args.epochs + 1):
            model.train()
            total = 0.0
            for rows in data.learn[torch.randperm(len(data.learn))].split(args.batch):
                loss = F.mse_loss(model(data.input[:, rows]), data.answer[rows])
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), args.clip)
                optimizer.step()
                total += loss.item() * len(rows)
                bar.update(len(rows))
            checked = float(F.mse_loss(predict(model, data, data.stop), data.answer[data.stop]))
            curve.append((epoch, total / len(data.learn), checked))
            bar.set_postfix_str(f"loss {curve[-1][1]:.4f}, stopping part {checked:.4f}")
            if not math.isfinite(total):
                common.fail("the loss is no longer finite: try a lower --lr or --clip")
            waited += 1
            if checked < best:
                best, best_state, waited = checked, copy.deepcopy(model.state_dict()), 0
            if epoch % 10 == 0:
                bar.write(
                    f"epoch {epoch:4d}   loss {curve[-1][1]:.4f}   stopping part {checked:.4f}"
                )
            if waited >= args.patience > 0:
                bar.write(f"epoch {epoch}: no better for {waited} epochs, stopped")
                break
    model.load_state_dict(best_state)
    return curve


@torch.no_grad()
def predict(model, data: Windows, rows) -> torch.Tensor:
    model.eval()
    return model(data.input[:, rows])


def report(series: Series, data: Windows, forecast) -> None:
    """Root mean square and mean absolute error on the last part, in the unit of the series."""
    truth = data.target[data.test]
    print(f"\n{series.title}: {len(truth)} {series.ahead}, errors in {series.unit}")
    rows = {
        "naive": data.naive[data.test],
        f"seasonal-naive ({series.season})": data.seasonal[data.test],
        "model": forecast,
    }
    for name, guess in rows.items():
        error = guess - truth
        rms, absolute = float(error.square().mean().sqrt()), float(error.abs().mean())
        print(f"  {name:22s} RMSE {rms:8.3f}   MAE {absolute:8.3f}")


def plot(path: str, series: Series, data: Windows, forecast) -> None:
    """The last part of the series with the three forecasts made of it."""
    times = [series.times[int(place)] for place in data.places[data.test]]
    common.draw_lines(
        path,
        {
            "measured": (times, data.target[data.test].tolist()),
            "model": (times, forecast.tolist()),
            f"seasonal-naive ({series.season} back)": (times, data.seasonal[data.test].tolist()),
        },
        title=f"{series.title}: {series.ahead}",
        xlabel="row of the table" if series.step == "row" else "year",
        ylabel=series.unit,
    )


def parse(argv=None) -> argparse.Namespace:
    parser = common.parser(__doc__)
    add = common.options(parser, "series")
    add("--series", choices=("sunspots", "co2"), default="sunspots", help="from statsmodels")
    add("--csv", metavar="FILE", help="a table instead, in order of time, with a line of names")
    add("--column", metavar="NAME", help="the column of --csv to forecast")
    own = "[the series has its own]"
    add("--season", type=common.WHOLE, metavar="N", help=f"points in a season {own}")
    add("--window", type=common.WHOLE, metavar="N", help=f"points the model sees {own}")
    add("--horizon", type=common.WHOLE, metavar="N", help=f"points to look ahead {own}")
    add = common.options(parser, "model and training")
    add("--cell", choices=common.CELLS, default="rnn", help="kind of recurrent layer")
    add("--hidden", type=common.WHOLE, default=32, help="hidden units")
    add("--layers", type=common.WHOLE, default=2, help="recurrent layers")
    add("--epochs", type=common.WHOLE, default=200, help="passes over the learning part, at most")
    add("--batch", type=common.WHOLE, default=32, help="windows at once")
    add("--lr", type=common.POSITIVE, default=0.002, help="learning rate of Adam")
    add("--clip", type=common.POSITIVE, default=1.0, help="largest norm of the gradient")
    add("--patience", type=common.COUNT, default=30, help="epochs without gain before stopping")
    add("--evaluate", action="store_true", help="no training: the model of the checkpoint")
    common.add_common_options(parser, checkpoint="sequence_regression.pt", device=False)
    args = parser.parse_args(argv)
    if bool(args.csv) != bool(args.column):
        parser.error("--csv FILE and --column NAME go together")
    return args


def main(argv=None) -> None:
    args = parse(argv)
    common.check_outputs(args)
    saved = None
    if args.evaluate:
        saved = common.load_checkpoint(args.checkpoint, "sequence_regression")
        vars(args).update(saved["options"])
    series = load(args)
    data = Windows(series)
    torch.manual_seed(args.seed)
    model = Forecaster(args.layer, args.cell, args.hidden, args.layers)
    if saved:
        model.load_state_dict(saved["model"])
    else:
        print(f"{series.title}: {len(series.values)} points, {len(data.learn)} windows to learn")
        train(model, data, args)
        options = {name: getattr(args, name) for name in ("cell", "hidden", "layers")}
        options |= {name: getattr(series, name) for name in ("season", "window", "horizon")}
        content = {"program": "sequence_regression", "options": options}
        common.save_checkpoint(args.checkpoint, content | {"model": model.state_dict()})
    forecast = data.naive[data.test] + data.scale * predict(model, data, data.test)
    report(series, data, forecast)
    if args.plot:
        plot(args.plot, series, data, forecast)


if __name__ == "__main__":
    main()

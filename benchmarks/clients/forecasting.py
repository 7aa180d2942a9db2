"""Forecasting and imputation: pytorch-forecasting, GluonTS, NeuralForecast, Darts, PyPOTS."""

from __future__ import annotations

from typing import Any

import torch

from .model import Client, Model, plain


def _series(known: bool):
    """64 groups of 200 steps; the first batch of 64 windows, 60 steps and 20 to come."""
    import numpy as np
    import pandas as pd
    import pytorch_forecasting as library

    steps, groups = 200, 64
    values = pd.DataFrame(
        {
            "value": np.random.standard_normal(steps * groups).cumsum(),
            "group": np.repeat([str(g) for g in range(groups)], steps),
            "time_idx": np.tile(np.arange(steps), groups),
        }
    )
    series = library.TimeSeriesDataSet(
        values, time_idx="time_idx", target="value", group_ids=["group"],
        max_encoder_length=60, min_encoder_length=60, max_prediction_length=20,
        min_prediction_length=20, time_varying_unknown_reals=["value"],
        time_varying_known_reals=["time_idx"] if known else [],
        target_normalizer=library.data.GroupNormalizer(groups=["group"]),
    )  # fmt: skip
    return series, next(iter(series.to_dataloader(train=True, batch_size=64)))


def pytorch_forecasting(kind: str, **options: Any) -> Model:
    import pytorch_forecasting as library

    series, (x, y) = _series(known=kind != "DeepAR")
    net = getattr(library, kind).from_dataset(series, dropout=0.0, **options)

    def run():
        torch.manual_seed(0)  # DeepAR draws samples
        return net(x).prediction

    return Model(net, run, lambda: net.loss(run(), y).mean())


def gluonts() -> Model:
    from gluonts.torch.model.deepar.module import DeepARModel

    net = DeepARModel(
        "h", context_length=72, prediction_length=24, hidden_size=64, dropout_rate=0.0
    )
    known = {
        name: torch.zeros(given.shape, dtype=given.dtype)
        if given.dtype == torch.long
        else torch.randn(given.shape)
        for name, given in net.describe_inputs(32).data.items()
    }
    known["past_observed_values"] = torch.ones_like(known["past_target"])
    future = torch.randn(32, 24)

    def infer():
        torch.manual_seed(0)  # it draws samples
        return net(**known, num_parallel_samples=20)

    def train():
        seen = {"future_target": future, "future_observed_values": torch.ones_like(future)}
        return net.loss(**known, **seen).mean()

    return Model(net, infer, train)


def brits() -> Model:
    from pypots.nn.modules.brits import BackboneBRITS

    net = BackboneBRITS(n_steps=48, n_features=37, rnn_hidden_size=128)
    directions = {}
    for direction in ("forward", "backward"):
        mask = (torch.rand(32, 48, 37) < 0.7).float()
        values = torch.randn(32, 48, 37) * mask
        directions[direction] = {
            "X": values,
            "missing_mask": mask,
            "deltas": torch.rand(32, 48, 37),
        }

    def train():
        *_, consistency, reconstruction = net(directions)
        return consistency + reconstruction

    return Model(net, lambda: net(directions)[0], train)


def mrnn() -> Model:
    from pypots.nn.modules.mrnn import BackboneMRNN

    net = BackboneMRNN(n_steps=48, n_features=10, rnn_hidden_size=64)
    names = "X", "missing_mask", "deltas"
    directions = {d: {n: torch.rand(32, 48, 10) for n in names} for d in ("forward", "backward")}
    return plain(net, directions, of=lambda made: made[0])


def neuralforecast(kind: str) -> Model:
    import neuralforecast.models

    net = getattr(neuralforecast.models, kind)(h=24, input_size=72, encoder_hidden_size=128)
    empty = dict.fromkeys(("futr_exog", "hist_exog", "stat_exog"))
    return plain(net, {"insample_y": torch.randn(128, 72, 1), **empty})


def darts(kind: str) -> Model:
    """kind: of the layer. Its RNNModel's module: an output at every step."""
    from darts.models.forecasting.rnn_model import _RNNModule
    from darts.utils.data.torch_datasets.utils import PLModuleInput

    net = _RNNModule(
        kind, input_size=1, hidden_dim=64, num_layers=2, target_size=1, nr_params=1,
        input_chunk_length=96, output_chunk_length=1,
    )  # fmt: skip
    given = PLModuleInput(past_target=torch.randn(32, 96, 1))
    return plain(net, given, of=lambda made: made.prediction)


CLIENTS = [
    Client("pytorch-forecasting", title, "B 64, 60 + 20 steps, " + sizes,
           lambda kind=kind, options=options: pytorch_forecasting(kind, **options))
    for title, sizes, kind, options in (
        ("DeepAR, LSTM", "H 64, 2 layers", "DeepAR",
         {"cell_type": "LSTM", "hidden_size": 64, "rnn_layers": 2}),
        ("DeepAR, GRU", "H 40, 2 layers", "DeepAR",
         {"cell_type": "GRU", "hidden_size": 40, "rnn_layers": 2}),
        ("Temporal Fusion Transformer", "H 64, 2 layers", "TemporalFusionTransformer",
         {"hidden_size": 64, "lstm_layers": 2}),
    )
] + [
    Client("gluonts", "DeepAR", "B 32, 72 + 24 steps, H 64, 2 layers; 20 samples each", gluonts),
] + [
    Client("neuralforecast", kind, "B 128, 72 + 24 steps, H 128, 2 layers",
           lambda kind=kind: neuralforecast(kind))
    for kind in ("LSTM", "GRU")
] + [
    Client("darts", f"RNNModel, {kind}", "B 32, 96 steps, H 64, 2 layers",
           lambda kind=kind: darts(kind))
    for kind in ("LSTM", "GRU")
] + [
    Client("pypots", "M-RNN", "B 32, 48 steps, GRU(3, 64), 10 series, two directions", mrnn),
    Client("pypots", "BRITS", "B 32, 48 steps of LSTMCell(128), 37 series, two directions", brits),
]  # fmt: skip

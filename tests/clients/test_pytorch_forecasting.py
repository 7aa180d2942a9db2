"""pytorch-forecasting's LSTM and GRU: subclasses with a forward for rows of length 0."""

import copy
import pickle

import pytest
import torch
from helpers import worst

import fastrnn

pytest.importorskip(
    "pytorch_forecasting", reason="pytorch-forecasting is not installed: pip install -e .[clients]"
)
from pytorch_forecasting.models.nn.rnn import GRU, LSTM  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
each_kind = pytest.mark.parametrize("kind", [LSTM, GRU])


@each_kind
def test_in_place(kind):
    theirs = kind(5, 7, num_layers=2, batch_first=True)
    ours = fastrnn.accelerate(copy.deepcopy(theirs))
    assert isinstance(ours, kind) and isinstance(ours, getattr(fastrnn, f"Fast{kind.__name__}"))
    x = torch.randn(4, 6, 5)
    hx = ours.init_hidden_state(x)
    for lengths in (None, [6, 4, 2, 1], [6, 3, 0, 0], [0, 0, 0, 0]):
        given = {"hx": hx, "lengths": lengths and torch.tensor(lengths)}
        assert worst(ours(x, **given), theirs(x, **given)) < 1e-6
    assert worst(pickle.loads(pickle.dumps(ours))(x), ours(x)) == 0
    compiled = torch.compile(ours, backend="eager", fullgraph=True)
    assert worst(compiled(x), ours(x)) == 0
    assert type(fastrnn.restore(ours)) is kind
    assert worst(ours(x), theirs(x)) == 0


def test_what_is_loaded_from_a_checkpoint_is_built_anew(tmp_path):
    """By Lightning, from its arguments: torch.nn's, to be accelerated again. A copy stays fast."""
    import lightning
    import numpy as np
    import pandas as pd
    from pytorch_forecasting import DeepAR, TimeSeriesDataSet

    steps = np.arange(40)
    values = pd.DataFrame({"value": np.sin(steps), "group": "a", "time_idx": steps})
    series = TimeSeriesDataSet(
        values, time_idx="time_idx", target="value", group_ids=["group"], max_encoder_length=8,
        max_prediction_length=2, time_varying_unknown_reals=["value"],
    )  # fmt: skip
    ours = fastrnn.accelerate(DeepAR.from_dataset(series, hidden_size=8))
    assert type(copy.deepcopy(ours).rnn) is type(ours.rnn) is not LSTM
    trainer = lightning.Trainer(
        logger=False, enable_checkpointing=False, accelerator="cpu", default_root_dir=tmp_path
    )
    trainer.strategy.connect(ours)
    trainer.save_checkpoint(tmp_path / "saved.ckpt", weights_only=False)
    again = DeepAR.load_from_checkpoint(tmp_path / "saved.ckpt", weights_only=False)
    assert type(again.rnn) is LSTM
    assert worst(list(again.parameters()), list(ours.parameters())) == 0
    assert isinstance(fastrnn.accelerate(again).rnn, fastrnn.FastLSTM)

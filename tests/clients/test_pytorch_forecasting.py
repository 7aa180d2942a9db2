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

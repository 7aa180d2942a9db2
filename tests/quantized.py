"""What tests of fastrnn.quantize share."""

import pytest
import torch
from torch import nn

import fastrnn

KINDS = (nn.RNN, nn.LSTM, nn.GRU)
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__.lower())


@pytest.fixture(autouse=True)
def inference():
    """Quantised layers have no derivatives; memory that kernels are given is NaN."""
    torch.use_deterministic_algorithms(True)
    with torch.no_grad():
        yield


def states(result) -> list[torch.Tensor]:
    return [result] if isinstance(result, torch.Tensor) else [*result]


def same(ours, theirs) -> bool:
    pairs = zip([ours[0], *states(ours[1])], [theirs[0], *states(theirs[1])])
    return all(torch.equal(a, b) for a, b in pairs)


def made(kind, *args, **options):
    return fastrnn.quantize(kind(*args, **options))

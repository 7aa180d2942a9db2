"""Stream.save and Stream.load."""

import c_library
import pytest
import torch
from torch import nn

import fastrnn
from fastrnn import ops, stream_file

pytestmark = pytest.mark.skipif(not ops.NATIVE_BUILT, reason="the native library is not built")


def test_loading(tmp_path):
    stream = fastrnn.Stream(c_library.stacks()["lstm"], weights=torch.bfloat16)
    stream.save(tmp_path / "model.frnn")
    drawn = torch.get_rng_state()
    again = fastrnn.Stream.load(tmp_path / "model.frnn")
    assert torch.equal(torch.get_rng_state(), drawn)
    assert again.batch_size == 1 and again.weights == torch.bfloat16
    assert [str(layer) for layer in again.layer] == [str(layer) for layer in stream.layer]
    again.save(tmp_path / "again.frnn")
    content = (tmp_path / "model.frnn").read_bytes()
    assert (tmp_path / "again.frnn").read_bytes() == content
    (tmp_path / "model.frnn").write_bytes(content[:-1])
    with pytest.raises(ValueError, match="the stream file is damaged: it has"):
        fastrnn.Stream.load(tmp_path / "model.frnn")
    with pytest.raises(FileNotFoundError):
        stream.save(tmp_path / "nowhere" / "model.frnn")


def test_int8_keeps_a_scale_where_it_can():
    """Its numbers and scales come out of what they stand for; those of the tiniest do not."""
    matrix = torch.cat(
        [torch.randn(50, 9) * 10.0 ** torch.randint(-30, 30, (50, 1)), torch.zeros(1, 9)]
    )
    layer = nn.Linear(9, 51)
    tiny = torch.tensor(445, dtype=torch.int32).view(torch.float32)  # times the least there is
    for number, dtype in ((1.0, torch.int8), (tiny, torch.float32), (torch.nan, torch.float32)):
        layer.weight.data = matrix.clone()
        layer.weight.data[0] = 0
        layer.weight.data[0, 0] = number
        (found,), _ = stream_file.layers.of_module(layer, torch.int8)
        assert found.tensors["weight_ih"].dtype == dtype
    (found,), kept = stream_file.layers.of_module(layer, torch.bfloat16)
    assert kept == found.tensors["weight_ih"].dtype == torch.bfloat16

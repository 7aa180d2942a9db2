"""fastrnn.quantize, modules: saved, copied, compiled, exported, explained, refused."""

import copy
import io
import pickle

import pytest
import torch
from helpers import slow_but
from quantized import KINDS, each_kind, inference, made, same  # noqa: F401
from torch import nn

import fastrnn
from fastrnn import ops
from fastrnn.quantization.layer import QuantizedLayer, QuantizedRecurrent

pytestmark = pytest.mark.skipif(not ops.NATIVE_BUILT, reason="the native library is not built")


@each_kind
def test_what_is_saved_copied_or_pickled_gives_the_same(kind, tmp_path):
    model = fastrnn.quantize(nn.ModuleDict({"rnn": kind(5, 7, 2, bidirectional=True)}))
    x = torch.randn(4, 3, 5)
    expected = model.rnn(x)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    other = fastrnn.quantize(nn.ModuleDict({"rnn": kind(5, 7, 2, bidirectional=True)}))
    assert not same(other.rnn(x), expected)
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    whole = io.BytesIO()
    torch.save(model, whole)
    whole.seek(0)
    loaded = torch.load(whole, weights_only=False)
    for twin in (other, copy.deepcopy(model), pickle.loads(pickle.dumps(model)), loaded):
        assert type(twin.rnn) is QuantizedLayer and same(twin.rnn(x), expected)


@pytest.mark.parametrize("kind", slow_but([nn.LSTM], KINDS))
def test_compiled_and_exported_programs_agree(kind):
    layer = made(kind, 5, 7, 2, batch_first=True)
    x, lengths = torch.randn(3, 4, 5), torch.tensor([4, 2, 3])
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert same(compiled(x), layer(x))
    assert same(compiled(x, lengths=lengths), layer(x, lengths=lengths))
    b, t = torch.export.Dim("B"), torch.export.Dim("T")
    program = torch.export.export(layer, (x,), dynamic_shapes=({0: b, 1: t},), strict=True)
    saved = io.BytesIO()
    torch.export.save(program, saved)
    saved.seek(0)
    more = torch.randn(6, 9, 5)
    assert same(torch.export.load(saved).module()(more), layer(more))


@pytest.mark.slow
@each_kind
def test_inductor_compiles_a_layer(kind):
    layer = made(kind, 5, 7, 2)
    x = torch.randn(4, 3, 5)
    assert same(torch.compile(layer, fullgraph=True)(x), layer(x))


def test_the_op_is_registered_as_torch_wants_it():
    layer = made(nn.LSTM, 5, 7)
    x, buffers = torch.randn(4, 3, 5), [*layer.buffers()]
    state = [torch.randn(1, 3, 7), torch.randn(1, 3, 7)]
    checks = ("test_schema", "test_faketensor")
    rest = None, None, 1, 7
    for op, given in (("quantized", state), ("quantized_flat", torch.stack(state))):
        call = getattr(torch.ops.fastrnn, op).default, ("lstm", x, buffers, given, *rest)
        torch.library.opcheck(*call, test_utils=checks)


def test_flops_are_those_of_the_layer_in_float():
    from torch.utils.flop_counter import FlopCounterMode

    layer = nn.LSTM(5, 7, 2, bidirectional=True)
    counts = []
    for each in (fastrnn.accelerate(layer), fastrnn.quantize(layer)):
        with FlopCounterMode(display=False) as counter:
            each(torch.randn(4, 3, 5))
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


def test_explain_says_what_multiplies():
    model = nn.Sequential(nn.LSTM(5, 7))
    text = fastrnn.explain(fastrnn.quantize(model), torch.randn(4, 3, 5))
    assert text.startswith("0: QuantizedLayer(lstm, 5, 7, weights=torch.int8)")
    isa = ops.BUILD_INFO["isa"]
    words = {"avx512bf16": "AVX512-VNNI", "avx512vnni": "AVX512-VNNI", "avx2": "AVX2,"}
    assert words.get(isa, {"avx512": "AVX-512,", "base": "baseline"}.get(isa)) in text


def test_training_and_derivatives_are_refused():
    layer = made(nn.GRU, 5, 7)
    x = torch.randn(4, 3, 5, requires_grad=True)
    with torch.enable_grad():
        with pytest.raises(RuntimeError, match="has no derivative"):
            layer(x)
        with pytest.raises(RuntimeError, match="has no derivative"):
            layer(x.detach(), torch.zeros(1, 3, 7, requires_grad=True))
        layer(x.detach())
        flat = torch.ops.fastrnn.quantized_flat.default
        with pytest.raises(RuntimeError, match="has no derivative"):
            flat("gru", x, [*layer.buffers()], None, None, None, 1, 7)
    with pytest.raises(RuntimeError, match=r"call eval\(\)"):
        layer.train()(x)


def test_wrong_arguments_are_named():
    layer = made(nn.GRU, 5, 7)
    with pytest.raises(RuntimeError, match="input must have 5 features"):
        layer(torch.randn(4, 3, 6))
    with pytest.raises(ValueError, match="dtype torch.float32, got torch.float64"):
        layer(torch.randn(4, 3, 5, dtype=torch.float64))
    with pytest.raises(RuntimeError, match=r"hx must have shape \[1, 3, 7\]"):
        layer(torch.randn(4, 3, 5), torch.zeros(1, 2, 7))
    with pytest.raises(RuntimeError, match="scales must be a contiguous CPU tensor"):
        layer.half()(torch.randn(4, 3, 5, dtype=torch.half))
    with pytest.raises(
        ValueError, match="weights must be torch.int8 or torch.bfloat16, got torch.int4"
    ):
        fastrnn.quantize(nn.GRU(5, 7), torch.int4)
    with pytest.raises(TypeError, match="model must be a torch.nn.Module, got int"):
        fastrnn.quantize(3)


class Derived(fastrnn.FastGRU):
    pass


def test_what_is_left_is_named_with_its_reason():
    model = nn.ModuleDict(
        {
            "ours": fastrnn.FastRNN(3, 4, nonlinearity="relu", recurrent_dropout=0.5),
            "listed": fastrnn.Recurrent("gru", 3, 4),
            "proj": nn.LSTM(3, 4, proj_size=2),
            "heads": fastrnn.zoo.SLSTM(3, 4, heads=2),
            "late": fastrnn.zoo.ResetBeforeGRU(3, 4),
            "derived": Derived(3, 4),
            "cell": nn.GRUCell(3, 4),
            "wide": nn.GRU(3, 4).double(),
            "zoneout": fastrnn.FastGRU(3, 4, zoneout=0.1),
            "scripted": torch.jit.script(nn.GRU(3, 4)),
        }
    )
    same_model, left = fastrnn.quantize(model, report=True)
    assert same_model is model
    for name, words in {
        "proj": "proj_size", "heads": "in heads", "late": "a second product",
        "derived": "Derived is a subclass",
        "cell": "single step", "wide": "torch.float64",
        "zoneout": "zoneout", "scripted": "TorchScript",
    }.items():  # fmt: skip
        assert words in left.pop(name)
        assert type(model[name]) is not QuantizedLayer
    assert not left
    assert [type(model[n]) for n in ("ours", "listed")] == [QuantizedLayer, QuantizedRecurrent]
    with pytest.warns(UserWarning, match="leaves proj in float: .*proj_size"):
        fastrnn.quantize(model)
    x = torch.randn(4, 2, 3)
    assert model.ours(x)[0].shape == (4, 2, 4)

"""fastrnn.quantize, numbers: exact sums, errors below those of torch's int8, lengths and states."""

import copy
import pickle
from pathlib import Path

import exact_int8
import pytest
import torch
from helpers import run_python, slow_but
from quantized import each_kind, inference, made, same, states  # noqa: F401
from torch import nn
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence

import fastrnn
from fastrnn import ops
from fastrnn.quantization import panels

pytestmark = pytest.mark.skipif(not ops.NATIVE_BUILT, reason="the native library is not built")

HERE = Path(__file__).parent
ISAS = ops.BUILD_INFO.get("isas", [])


def test_products_are_exact():
    assert exact_int8.errors() == [0] * (2 * len(exact_int8.SIZES))


@pytest.mark.parametrize("isa", slow_but(ISAS[1:2], ISAS))
def test_every_instruction_set_is_exact(isa):
    flags = Path("/proc/cpuinfo").read_text()
    needs = {"avx2": "avx2", "avx512": "avx512vl", "avx512vnni": "avx512_vnni"}
    if needs.get(isa, "avx512_bf16" if isa == "avx512bf16" else "") not in flags:
        pytest.skip(f"this CPU has no {isa}")
    run = run_python("exact_int8.py", cwd=HERE, FASTRNN_ISA=isa)
    assert run.returncode == 0, run.stderr
    ran, *errors = run.stdout.split()
    assert ran == isa and len(errors) > 10 and {*errors} == {"0.0"}


def emulated(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """x [B, K] times weight [N, K], both as int8 with a scale for each row, in float64."""
    w_scale, x_scale = weight.abs().amax(1) / 127, x.abs().amax(1, keepdim=True) / 127
    w, q = (weight / w_scale.unsqueeze(1)).round(), (x / x_scale).round()
    return (q.double() @ w.double().T) * (x_scale.double() * w_scale.double())


@each_kind
def test_a_step_is_that_of_numbers_rounded_to_int8(kind):
    layer = kind(40, 24)
    x, hx = torch.randn(1, 5, 40), [torch.rand(1, 5, 24) * 2 - 1 for _ in range(2)]
    given = tuple(hx) if kind is nn.LSTM else hx[0]
    spec = fastrnn.cells.get({nn.RNN: "rnn_tanh", nn.LSTM: "lstm", nn.GRU: "gru"}[kind])
    gx = emulated(layer.weight_ih_l0, x[0]) + layer.bias_ih_l0
    gh = emulated(layer.weight_hh_l0, hx[0][0]) + layer.bias_hh_l0
    state = tuple(h[0].double() for h in hx[: spec.states])
    expected = spec.step(gx.chunk(spec.gates, 1), gh.chunk(spec.gates, 1), state)
    output, _ = fastrnn.quantize(layer)(x, given)
    torch.testing.assert_close(output[0], expected[0].float(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU], ids=["lstm", "gru"])
@pytest.mark.parametrize(("i", "h", "layers"), [(40, 64, 1), (64, 96, 2)])
def test_errors_are_below_those_of_torchs_int8(kind, i, h, layers):
    model = nn.ModuleDict({"rnn": kind(i, h, layers)}).eval()
    x = torch.randn(50, 8, i)
    exact = copy.deepcopy(model.rnn).double()(x.double())[0]
    theirs = torch.ao.quantization.quantize_dynamic(model, {kind}, torch.qint8).rnn(x)[0]
    ours = fastrnn.quantize(model).rnn(x)[0]
    error, theirs = ((out - exact).abs() for out in (ours, theirs))
    assert 0 < error.max() < theirs.max() and error.mean() < theirs.mean() / 2
    assert error.max() < 0.03


@each_kind
def test_lengths_packed_rows_and_single_rows_agree(kind):
    """To the bit: sums are exact, and a row's scales are its own."""
    layer = made(kind, 9, 21, 2, bidirectional=True, batch_first=True)
    lengths = [4, 7, 1, 5]
    rows = [torch.randn(n, 9) for n in lengths]
    padded = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    padded[2, 1:] = torch.nan  # past its length
    ours = layer(padded, lengths=lengths)
    packed, final = layer(pack_sequence(rows, enforce_sorted=False))
    assert same(ours, (pad_packed_sequence(packed, batch_first=True)[0], final))
    for b, row in enumerate(rows):
        output, final = layer(row)
        assert torch.equal(ours[0][b, : len(row)], output)
        assert not ours[0][b, len(row) :].any()
        assert all(torch.equal(a[:, b], s) for a, s in zip(states(ours[1]), states(final)))


@each_kind
def test_pieces_and_resets_agree_with_a_whole(kind):
    layer = made(kind, 9, 40, 2)
    x = torch.randn(12, 3, 9)
    output, hx = layer(x)
    first, state = layer(x[:5])
    second, final = layer(x[5:], state)
    assert same((output, hx), (torch.cat([first, second]), final))
    resets = torch.zeros(12, 3, dtype=torch.bool)
    resets[5, 1] = True
    again, _ = layer(x, resets=resets)
    assert torch.equal(again[:5], output[:5]) and torch.equal(again[5:, 0], output[5:, 0])
    assert torch.equal(again[5:, 1], layer(x[5:, 1])[0])


@each_kind
def test_threads_change_no_bit(kind):
    layer = made(kind, 24, 272, bidirectional=True)
    for b in (1, 5):
        x, runs = torch.randn(200, b, 24), []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            runs.append(layer(x))
        assert same(runs[0], runs[1]) and same(runs[0], runs[2])


@each_kind
def test_a_row_with_nan_or_infinity_gives_nan_and_spoils_no_other(kind):
    layer = made(kind, 9, 20)
    x = torch.randn(3, 4, 9)
    expected, _ = layer(x)
    x[1, 0, 3], x[0, 2, 0] = torch.nan, torch.inf
    output, _ = layer(x)
    assert output[1:, 0].isnan().all() and output[:, 2].isnan().all()
    assert torch.equal(output[:, [1, 3]], expected[:, [1, 3]])


ZOO = ("PeepholeLSTM", "LightGRU", "MinGRU", "LayerNormLSTM")


@pytest.mark.parametrize("weights", slow_but([torch.int8], [torch.int8, torch.bfloat16]), ids=str)
@pytest.mark.parametrize("name", slow_but(ZOO[:1], ZOO))
def test_a_cell_of_ones_own(name, weights):
    """With parameters, one gate less, no recurrent product, means over a row's units."""
    with torch.enable_grad():  # which deriving a cell needs
        layer = getattr(fastrnn.zoo, name)(9, 21, 2, bidirectional=True)
    lengths, x = [6, 2, 5], torch.randn(6, 3, 9)
    exact, _ = copy.deepcopy(layer)(x, lengths=lengths)
    fastrnn.quantize(layer, weights)
    assert str(layer).startswith(f"QuantizedRecurrent({layer.definition.title}, 9, 21")
    output, final = layer(x, lengths=lengths)
    assert 0 < (output - exact).abs().max() < 0.06 * exact.abs().max().clamp(min=1)
    for b, n in enumerate(lengths):
        alone, states_n = layer(x[:n, b])
        assert torch.equal(output[:n, b], alone)
        assert all(torch.equal(a[:, b], s) for a, s in zip(states(final), states(states_n)))
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert same(twin(x, lengths=lengths), (output, final))


@each_kind
def test_bfloat16_weights_round_nothing_but_the_weights(kind, tmp_path):
    """To float32's rounding; to the bit alike for single rows, pieces, threads and copies."""
    exact = kind(21, 37, 2, bidirectional=True)
    layer = fastrnn.quantize(copy.deepcopy(exact), torch.bfloat16)
    assert "weights=torch.bfloat16" in str(layer)
    for weight in exact.parameters():
        if weight.dim() == 2:
            weight.copy_(weight.bfloat16())
    lengths, x = [9, 4, 7, 9, 9, 1, 8], torch.randn(9, 7, 21)
    result = output, _ = layer(x, lengths=lengths)
    wide = fastrnn.accelerate(exact.double())(x.double(), lengths=lengths)[0]
    torch.testing.assert_close(output.double(), wide, rtol=0, atol=2e-6)
    for b, n in enumerate(lengths):
        assert torch.equal(layer(x[:n, b])[0], output[:n, b])
    torch.save(layer.state_dict(), tmp_path / "weights.pt")
    twin = fastrnn.quantize(kind(21, 37, 2, bidirectional=True), torch.bfloat16)
    twin.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert same(twin(x, lengths=lengths), result)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert same(compiled(x, lengths=lengths), result)
    assert "bfloat16, widened" in fastrnn.explain(layer, x)


def test_bfloat16_weights_take_half():
    layer = nn.LSTM(128, 256)
    numbers = sum(w.numel() for w in layer.parameters() if w.dim() == 2)
    held = [*fastrnn.quantize(layer, torch.bfloat16).state_dict().values()]
    assert sum(t.numel() for t in held if t.dtype == torch.bfloat16) == numbers
    assert sum(t.numel() for t in held if t.dtype == torch.float32) == 2 * 4 * 256


def test_rows_of_zeros_and_of_tiny_numbers():
    layer = made(nn.GRU, 6, 5)
    x = torch.randn(1, 3, 6)
    x[0, 0], x[0, 1] = 0, 1e-38
    output, _ = layer(x)
    assert output.isfinite().all() and torch.equal(output[0, 0], output[0, 1])


def test_weights_take_a_quarter_and_nothing_is_float_but_scales_and_biases():
    layer = nn.LSTM(128, 256, 2)
    numbers = sum(w.numel() for w in layer.parameters() if w.dim() == 2)
    fastrnn.quantize(layer)
    assert not [*layer.parameters()]
    held = [*layer.state_dict().values()]
    assert sum(t.numel() for t in held if t.dtype == torch.int8) == numbers
    assert sum(t.numel() for t in held if t.dtype == torch.float32) == 2 * 2 * 2 * 4 * 256
    assert {t.dtype for t in held} == {torch.int8, torch.float32}


@pytest.mark.parametrize(("slots", "h", "k"), [(1, 70, 5), (3, 33, 8), (4, 16, 1), (5, 20, 6)])
def test_the_layout_of_panels(slots, h, k):
    """Each number where csrc/cpu/int8_layout.h says, padded by zeros."""
    q = torch.randint(-127, 128, (slots * h, k), dtype=torch.int8)
    each = panels.together(slots)
    packed = panels.pack_matrix(q, slots, each)
    groups, quads = -(-h // 16), -(-k // 4)
    assert len(packed) == slots * groups * 16 * quads * 4
    assert packed.long().abs().sum() == q.long().abs().sum()
    for slot, unit, place in ((0, 0, 0), (slots - 1, h - 1, k - 1), (slots // 2, h // 2, k // 2)):
        panel = unit // (16 * each)
        own = min(each, groups - panel * each)  # groups of 16 units in this panel
        at = panel * each * 16 * slots * quads * 4
        at += place // 4 * slots * own * 64 + slot * own * 64
        at += (unit - panel * each * 16) * 4 + place % 4
        assert packed[at] == q[slot * h + unit, place]

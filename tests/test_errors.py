"""Bad arguments: torch.nn's exception types, in words that name argument, expected and got."""

import re

import pytest
import torch
from helpers import DEVICE, LAYERS, plain
from torch import nn

import fastrnn
from fastrnn import functional

FAST = {"rnn": fastrnn.FastRNN, "lstm": fastrnn.FastLSTM, "gru": fastrnn.FastGRU}
X = torch.zeros(5, 2, 3, device=DEVICE)
PACKED = nn.utils.rnn.pack_padded_sequence(X.cpu(), [5, 4]).to(DEVICE)

# what is wrong -> (the call on a FastGRU(3, 4), exception, what the message must say)
CALLS = {
    "features": (lambda m: m(X[..., :2]), RuntimeError,
                 "input must have 3 features (input_size), got 2"),
    "dims_4": (lambda m: m(X[None]), ValueError,
               "input must have 3 dimensions (or 2, unbatched), got 4"),
    "dims_1": (lambda m: m(X[0, 0]), ValueError, "got 1: [3]"),
    "list": (lambda m: m([1.0]), TypeError, "input must be a Tensor or a PackedSequence, got list"),
    "none": (lambda m: m(None), TypeError, "got NoneType"),
    "double": (lambda m: m(X.double()), ValueError,
               "input must have the weights' dtype torch.float32, got torch.float64"),
    "integers": (lambda m: m(X.int()), ValueError, "weights' dtype torch.float32, got torch.int32"),
    "device": (lambda m: m(X.to("meta")), RuntimeError, f"weights' device {X.device}, got meta"),
    "hx_rows": (lambda m: m(X, torch.zeros(2, 2, 4)), RuntimeError,
                "shape [1, 2, 4] (num_layers * directions, batch, hidden), got [2, 2, 4]"),
    "hx_batch": (lambda m: m(X, torch.zeros(1, 3, 4)), RuntimeError, "got [1, 3, 4]"),
    "hx_hidden": (lambda m: m(X, torch.zeros(1, 2, 5)), RuntimeError, "got [1, 2, 5]"),
    "hx_2d": (lambda m: m(X, torch.zeros(1, 4)), RuntimeError, "[1, 2, 4]"),
    "hx_3d": (lambda m: m(X[0], torch.zeros(1, 1, 4)), RuntimeError,
              "hx must have shape [1, 4] (num_layers * directions, hidden), got [1, 1, 4]"),
    "hx_tuple": (lambda m: m(X, (torch.zeros(1, 2, 4),)), TypeError,
                 "hx must be a Tensor, got tuple"),
    "hx_double": (lambda m: m(X, torch.zeros(1, 2, 4, device=DEVICE).double()), RuntimeError,
                  "hx must have the input's dtype torch.float32, got torch.float64"),
    "hx_device": (lambda m: m(X, torch.zeros(1, 2, 4, device="meta")), RuntimeError,
                  f"hx must be on the input's device {X.device}, got meta"),
    "lengths_negative": (lambda m: m(X, lengths=[3, -1]), ValueError,
                         "lengths must lie between 0 and 5 (the time steps of input), got -1 to 3"),
    "lengths_too_long": (lambda m: m(X, lengths=[3, 6]), ValueError, "got 3 to 6"),
    "lengths_count": (lambda m: m(X, lengths=[3, 3, 3]), ValueError,
                      "lengths must have shape [2] (one for each batch row), got [3]"),
    "lengths_float": (lambda m: m(X, lengths=torch.ones(2)), TypeError,
                      "lengths must be integers, got torch.float32"),
    "lengths_float_list": (lambda m: m(X, lengths=[1.0, 2]), TypeError,
                           "must be integers, got [1.0, 2]"),
    "lengths_bool": (lambda m: m(X, lengths=torch.ones(2).bool()), TypeError, "got torch.bool"),
    "lengths_2d": (lambda m: m(X, lengths=torch.ones(2, 1).int()), ValueError, "got [2, 1]"),
    "lengths_packed": (lambda m: m(PACKED, lengths=[1, 2]), ValueError,
                       "lengths must be None with a PackedSequence"),
    "resets_float": (lambda m: m(X, resets=torch.zeros(5, 2)), TypeError,
                     "resets must be a Tensor of torch.bool, got torch.float32"),
    "resets_list": (lambda m: m(X, resets=[True] * 5), TypeError, "torch.bool, got list"),
    "resets_shape": (lambda m: m(X, resets=torch.zeros(2, 5).bool()), ValueError,
                     "resets must have shape [5, 2] (time, batch), got [2, 5]"),
    "resets_unbatched": (lambda m: m(X[:, 0], resets=torch.zeros(5, 1).bool()), ValueError,
                         "resets must have shape [5] (time), got [5, 1]"),
    "packed_features": (lambda m: m(PACKED._replace(data=PACKED.data[:, :2])), RuntimeError,
                        "input must have 3 features (input_size), got 2"),
    "packed_hx": (lambda m: m(PACKED, torch.zeros(1, 3, 4)), RuntimeError, "[1, 2, 4]"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", CALLS)
def test_calls(wrong):
    call, exception, message = CALLS[wrong]
    with pytest.raises(exception, match=re.escape(message)):
        call(fastrnn.FastGRU(3, 4, device=DEVICE))


@pytest.mark.parametrize("wrong", ["features", "dims_4", "double", "integers", "device", "hx_rows",
                                   "hx_batch", "hx_hidden", "hx_2d", "hx_3d", "hx_double",
                                   "packed_features", "packed_hx"])  # fmt: skip
def test_exception_types_are_those_of_torch(wrong):
    call, exception, _ = CALLS[wrong]
    with pytest.raises(exception):
        call(plain("gru", 3, 4))


def test_lstm_states():
    layer = fastrnn.FastLSTM(3, 4, proj_size=2, device=DEVICE, backend="reference")
    h, c = torch.zeros(1, 2, 2, device=DEVICE), torch.zeros(1, 2, 4, device=DEVICE)
    layer(X, (h, c))
    with pytest.raises(TypeError, match=r"hx must be a tuple \(h_0, c_0\), got a Tensor"):
        layer(X, h)
    with pytest.raises(TypeError, match="got 1 values"):
        layer(X, (h,))
    with pytest.raises(RuntimeError, match=r"hx\[0\] \(h_0\) must have shape \[1, 2, 2\]"):
        layer(X, (c, c))
    with pytest.raises(RuntimeError, match=r"hx\[1\] \(c_0\) must have shape \[1, 2, 4\]"):
        layer(X, (h, h))


def test_batch_first_resets_name_their_axes():
    layer = fastrnn.FastGRU(3, 4, batch_first=True, device=DEVICE)
    with pytest.raises(ValueError, match=r"shape \[5, 2\] \(batch, time\), got \[2, 5\]"):
        layer(X, resets=torch.zeros(2, 5, dtype=torch.bool))


CONSTRUCTORS = {
    "input_size": (dict(input_size=0, hidden_size=4), ValueError, "input_size"),
    "hidden_size": (dict(input_size=3, hidden_size=0), ValueError, "hidden_size"),
    "hidden_float": (dict(input_size=3, hidden_size=4.0), TypeError, "hidden_size"),
    "num_layers": (dict(input_size=3, hidden_size=4, num_layers=0), ValueError, "num_layers"),
    "dropout": (dict(input_size=3, hidden_size=4, dropout=1.5), ValueError, "dropout"),
    "bias": (dict(input_size=3, hidden_size=4, bias=1), TypeError, "bias"),
    "backend": (dict(input_size=3, hidden_size=4, backend="cudnn"), ValueError,
                "backend must be one of auto, native, cpu, cuda, triton, reference, "
                "got 'cudnn'"),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("wrong", CONSTRUCTORS)
def test_constructors(name, wrong):
    arguments, exception, message = CONSTRUCTORS[wrong]
    with pytest.raises(exception, match=message):
        FAST[name](**arguments)


def test_nonlinearity():
    for make in (fastrnn.FastRNN, fastrnn.FastRNNCell):
        with pytest.raises(ValueError, match="one of tanh, relu, identity, got 'sigmoid'"):
            make(3, 4, nonlinearity="sigmoid")


@pytest.mark.parametrize("proj", [4, 9, -1])
def test_proj_size(proj):
    for make in (fastrnn.FastLSTM, fastrnn.FastLSTMCell):
        with pytest.raises(ValueError, match="proj_size"):
            make(3, 4, proj_size=proj)


def test_integer_that_requires_grad():
    with pytest.raises(RuntimeError, match="floating point"):
        fastrnn.FastGRU(3, 4)(torch.zeros(5, 2, 3, dtype=torch.int64).requires_grad_())


CELL_CALLS = {
    "features": (lambda c: c(X[0, :, :2]), RuntimeError, "input must have 3 features"),
    "dims": (lambda c: c(X), ValueError, "input must have 2 dimensions (or 1, unbatched), got 3"),
    "list": (lambda c: c([1.0]), TypeError, "input must be a Tensor, got list"),
    "dtype": (lambda c: c(X[0].double()), RuntimeError, "weights' dtype torch.float32"),
    "device": (lambda c: c(X[0].to("meta")), RuntimeError, "weights' device"),
    "hx_batch": (lambda c: c(X[0], torch.zeros(3, 4)), RuntimeError,
                 "hx must have shape [2, 4] to go with an input of shape [2, 3], got [3, 4]"),
    "hx_dims": (lambda c: c(X[0], torch.zeros(1, 2, 4)), ValueError, "hx must have 2 dimensions"),
    "hx_dtype": (lambda c: c(X[0], torch.zeros(2, 4, device=DEVICE).double()), RuntimeError,
                 "input's dtype torch.float32, got torch.float64"),
    "hx_type": (lambda c: c(X[0], 3), TypeError, "hx must be a Tensor, got int"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", CELL_CALLS)
def test_cell_calls(wrong):
    call, exception, message = CELL_CALLS[wrong]
    with pytest.raises(exception, match=re.escape(message)):
        call(fastrnn.FastGRUCell(3, 4, device=DEVICE))


def test_lstm_cell_states():
    cell = fastrnn.FastLSTMCell(3, 4, device=DEVICE)
    h = torch.zeros(2, 4, device=DEVICE)
    with pytest.raises(TypeError, match=r"hx must be a tuple \(h_0, c_0\), got a Tensor"):
        cell(X[0], h)
    with pytest.raises(RuntimeError, match=r"hx\[1\] \(c_0\) must have shape \[2, 4\]"):
        cell(X[0], (h, h[:, :3]))


GX, R, H0 = torch.zeros(5, 2, 12), torch.zeros(12, 4), torch.zeros(2, 4)
SCANS = {
    "cell": (("grru", GX, R, None, H0), {}, "cell must be one of"),
    "gates": (("lstm", GX, R, None, (H0, H0)), {}, r"weight_hh must have shape"),
    "states": (("lstm", GX, R, None, H0), {}, "state must have 2 tensors"),
    "gx": (("gru", GX[..., :3], R, None, H0), {}, r"gx must have shape \[T, B, 12\]"),
    "bias": (("gru", GX, R, R[0], H0), {}, r"bias_hh must have shape \[12\]"),
    "state": (("gru", GX, R, None, torch.zeros(3, 4)), {}, r"\[B, 4\], got \[3, 4\]"),
    "weight_dtype": (("gru", GX, R.double(), None, H0), {}, "weight_hh must have gx's dtype"),
    "bias_dtype": (("gru", GX, R, R[:, 0].half(), H0), {}, "bias_hh must have gx's dtype"),
    "state_dtype": (("lstm", GX[..., :8], R[:8, :2], None, (H0[:, :2], H0[:, :2].double())), {},
                    "state must have gx's dtype torch.float32, got torch.float64"),
    "integers": (("gru", GX.long(), R, None, H0), {}, "gx's dtype torch.int64, got torch.float32"),
    "resets": (("gru", GX, R, None, H0), {"resets": torch.zeros(5, 2)}, "torch.bool"),
    "rising": (("gru", GX[0], R, None, H0), {"batch_sizes": torch.tensor([0, 2])}, "falling"),
    "sum": (("gru", GX[0], R, None, H0), {"batch_sizes": torch.tensor([2, 1])}, "sum to N = 2"),
    "sizes": (("gru", GX[0], R, None, H0), {"batch_sizes": torch.ones(2)}, "torch.int64 on cpu"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", SCANS)
def test_functional_scan(wrong):
    arguments, options, message = SCANS[wrong]
    with pytest.raises(ValueError, match=message):
        functional.scan(*arguments, **options)


def test_bad_calls_leave_the_layer_usable():
    layer = fastrnn.FastGRU(3, 4, device=DEVICE)
    before = layer(X)[0]
    for call, exception, _ in CALLS.values():
        with pytest.raises(exception):
            call(layer)
    assert torch.equal(layer(X)[0], before)

"""Mistakes in arguments raise what torch.nn raises; only the words are others."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

import fastrnn

X = torch.zeros(4, 2, 3)
H = torch.zeros(1, 2, 5)

INPUTS = {
    "list": [[1.0]],
    "none": None,
    "numpy": np.zeros((4, 2, 3)),
    "integers": X.long(),
    "one_axis": torch.zeros(3),
    "four_axes": torch.zeros(1, 4, 2, 3),
    "features": torch.zeros(4, 2, 7),
    "double": X.double(),
    "meta": X.to("meta"),
    "no_steps": torch.zeros(0, 2, 3),
    "packed_features": PackedSequence(torch.zeros(4, 7), torch.tensor([2, 2])),
    "packed_axes": PackedSequence(torch.zeros(4, 1, 3), torch.tensor([2, 2])),
}
STATES = {
    "list": [[1.0]],
    "number": 1.0,
    "axes": H[0],
    "rows": torch.zeros(1, 3, 5),
    "layers": torch.zeros(2, 2, 5),
    "units": torch.zeros(1, 2, 6),
    "double": H.double(),
    "integers": H.long(),
}
# Name -> (input, hx) for a layer, hx one state; LSTM gets it as either of its two.
PAIRS = {
    "unbatched_input": (X[:, 0], H),
    "unbatched_state": (X, H[:, 0]),
    "unbatched_state_of_one_row": (X[:, :1], H[:, 0]),
    "no_axes": (X, torch.zeros(())),
    "half_state": (X, H.half()),
    "half_input": (X.half(), H),
    "half_both": (X.half(), H.half()),
    "meta_state": (X, H.to("meta")),
    "meta_input": (X.to("meta"), H),
    "meta_both": (X.to("meta"), H.to("meta")),
    "tuple": (X, (H, H)),
}
XC, HC = X[0], H[0]
# The same of the cells.
CELL_PAIRS = {
    "rows": (XC, torch.zeros(3, 5)),
    "one_row": (XC, HC[:1]),
    "units": (XC, torch.zeros(2, 6)),
    "three_axes": (XC, H),
    "no_axes": (XC, torch.zeros(())),
    "unbatched_input": (XC[0], HC),
    "unbatched_input_one_row": (XC[0], HC[:1]),
    "unbatched_state": (XC, HC[0]),
    "unbatched_state_one_row": (XC[:1], HC[0]),
    "list": (XC, [[1.0]]),
    "number": (XC, 1.0),
    "tuple": (XC, (HC, HC)),
    "double": (XC, HC.double()),
    "integers": (XC, HC.long()),
    "half": (XC, HC.half()),
    "meta_state": (XC, HC.to("meta")),
    "meta_input": (XC.to("meta"), HC),
    "list_input": ([[1.0]], HC),
    "none_input": (None, HC),
}
CONSTRUCTORS = {
    "no_layers": ((3, 5), {"num_layers": 0}),
    "half_a_layer": ((3, 5), {"num_layers": 1.5}),
    "no_units": ((3, 0), {}),
    "negative": ((3, -1), {}),
    "float_units": ((3, 5.0), {}),
    "dropout_2": ((3, 5), {"num_layers": 2, "dropout": 2}),
    "dropout_negative": ((3, 5), {"num_layers": 2, "dropout": -0.1}),
    "dropout_text": ((3, 5), {"num_layers": 2, "dropout": "x"}),
    "no_sizes": ((), {}),
    "unknown": ((3, 5), {"units": 4}),
    "projected": ((3, 5), {"proj_size": 2}),
    "projected_to_none": ((3, 5), {"proj_size": 0}),
    "projected_wider": ((3, 5), {"proj_size": 5}),
    "projected_negative": ((3, 5), {"proj_size": -1}),
}


# Where torch.nn stumbles over a mistake, or over none, ours says what it is: its type, and ours.
NO_TENSOR = (AttributeError, TypeError)  # 'list' object has no attribute 'dim'
NO_PAIR = (IndexError, TypeError)  # tuple index out of range
NOT_SEEN = (None, RuntimeError)  # nn.LSTM computes something from a packed input of another size
ON_PURPOSE = {
    **dict.fromkeys(["list", "none", "numpy", "number"], NO_TENSOR),
    **dict.fromkeys(["tensor", "one"], NO_PAIR),
    "three": (RuntimeError, TypeError),  # only torch.nn's kernel notices
    **dict.fromkeys(["packed_features", "packed_axes"], NOT_SEEN),
    **dict.fromkeys(["tuple", "none_in_hx", "list_input", "none_input"], NO_TENSOR),
    # nn.LSTMCell takes a c_0 of any dtype, and its kernel alone counts the states.
    **dict.fromkeys(["double_c", "integers_c", "half_c"], NOT_SEEN),
    **dict.fromkeys(["no_state", "one_state", "three_states"], (RuntimeError, TypeError)),
}


def outcome(call):
    """The type of the exception that a call raises, or None."""
    try:
        call()
    except Exception as error:
        return type(error), str(error)
    return None, ""


def compare(mistake: str, call, *, named: str = "") -> None:
    ours, words = outcome(lambda: call("Fast"))
    theirs, their_words = outcome(lambda: call(""))
    as_meant = ours is theirs or (theirs, ours) == ON_PURPOSE.get(mistake)
    assert as_meant, f"{words} / torch.nn: {their_words}"
    assert ours is None or named in words


def layer(prefix: str, name: str, *arguments, **options) -> nn.Module:
    return getattr(fastrnn if prefix else nn, prefix + name)(*arguments, **options)


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("mistake", INPUTS)
def test_inputs_of_layers(name, mistake):
    compare(mistake, lambda prefix: layer(prefix, name, 3, 5)(INPUTS[mistake]), named="input")


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("mistake", STATES)
def test_states_of_layers(name, mistake):
    state = STATES[mistake]
    for hx in [(state, H), (H, state)] if name == "LSTM" else [state]:
        compare(mistake, lambda prefix, hx=hx: layer(prefix, name, 3, 5)(X, hx), named="hx")


@pytest.mark.parametrize("mistake", ["tensor", "one", "three"])
def test_what_is_no_pair(mistake):
    hx = {"tensor": H, "one": (H,), "three": (H, H, H)}[mistake]
    compare(mistake, lambda prefix: layer(prefix, "LSTM", 3, 5)(X, hx), named="hx")


@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
@pytest.mark.parametrize("mistake", ["one_axis", "four_axes", "features", "double", "integers"])
def test_inputs_of_cells(name, mistake):
    x = {"features": torch.zeros(2, 7), "one_axis": torch.zeros(()), "double": X[0].double(),
         "integers": X[0].long(), "four_axes": X}[mistake]  # fmt: skip
    compare(mistake, lambda prefix: layer(prefix, name, 3, 5)(x), named="input")


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("mistake", PAIRS)
def test_input_and_state_of_layers(name, mistake):
    x, state = PAIRS[mistake]
    good = H[:, : x.shape[1]] if x.dim() == 3 else H[:, 0]
    for hx in [(state, good), (good, state), (state, state)] if name == "LSTM" else [state]:
        compare(mistake, lambda prefix, hx=hx: layer(prefix, name, 3, 5)(x, hx))


@pytest.mark.parametrize("hx", [(None, H), (H, None), (None, None)])
def test_none_in_hx_of_layers(hx):
    compare("none_in_hx", lambda prefix: layer(prefix, "LSTM", 3, 5)(X, hx), named="hx")


@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
@pytest.mark.parametrize("mistake", CELL_PAIRS)
def test_states_of_cells(name, mistake):
    x, state = CELL_PAIRS[mistake]
    named = "input" if "input" in mistake and "unbatched" not in mistake else "hx"
    if name != "LSTMCell":
        compare(mistake, lambda prefix: layer(prefix, name, 3, 5)(x, state), named=named)
        return
    good = HC[0] if mistake.startswith("unbatched_input") else HC if x is None else HC[: len(x)]
    compare(mistake, lambda prefix: layer(prefix, name, 3, 5)(x, (state, good)), named=named)
    second = f"{mistake}_c" if f"{mistake}_c" in ON_PURPOSE else mistake
    compare(second, lambda prefix: layer(prefix, name, 3, 5)(x, (good, state)), named=named)


WHOLE = {
    "tensor_for_a_pair": HC,
    "stacked": torch.zeros(2, 2, 5),
    "no_state": (),
    "one_state": (HC,),
    "three_states": (HC, HC, HC),
    "none_in_hx": (None, HC),
    "a_list": [HC, HC],
}


@pytest.mark.parametrize("mistake", WHOLE)
def test_hx_of_the_lstm_cell(mistake):
    compare(mistake, lambda prefix: layer(prefix, "LSTMCell", 3, 5)(XC, WHOLE[mistake]), named="hx")


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("mistake", CONSTRUCTORS)
def test_constructors(name, mistake):
    arguments, options = CONSTRUCTORS[mistake]
    compare(mistake, lambda prefix: layer(prefix, name, *arguments, **options))

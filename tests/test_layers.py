"""The layers as drop-ins: constructors, weights, layouts of input and hx, dropout, zero sizes."""

import pytest
import torch
from helpers import (
    CELLS,
    DEVICE,
    LAYERS,
    TORCH_CELLS,
    assert_same,
    backends,
    each_cell,
    fast,
    flat,
    hx,
    plain,
    randn,
    twins,
)
from torch import nn

import fastrnn

FAST = {"rnn": fastrnn.FastRNN, "lstm": fastrnn.FastLSTM, "gru": fastrnn.FastGRU}
TORCH = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


@pytest.mark.parametrize("name", LAYERS)
def test_positional_arguments_are_those_of_torch(name):
    options = ["relu"] if name == "rnn" else []
    arguments = (5, 7, 2, *options, False, True, 0.25, True)
    ours, theirs = FAST[name](*arguments), TORCH[name](*arguments)
    for attribute in ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout",
                      "bidirectional", "proj_size", "mode"):  # fmt: skip
        assert getattr(ours, attribute) == getattr(theirs, attribute)
    assert repr(ours) == "Fast" + repr(theirs)


@pytest.mark.parametrize("name", LAYERS)
def test_base_class(name):
    """RNNBase by type, which torch.compile traces; isinstance says torch.nn's layer, too."""
    layer = FAST[name](3, 4)
    plain = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
    assert issubclass(type(layer), nn.RNNBase) and not issubclass(type(layer), plain[name])
    for other, cls in plain.items():
        assert isinstance(layer, cls) == (other == name)
    assert isinstance(layer, FAST[name]) and type(layer) is FAST[name]


@pytest.mark.parametrize("name", LAYERS)
def test_same_initial_weights_under_the_same_seed(name):
    torch.manual_seed(3)
    ours = FAST[name](5, 7, 2, bidirectional=True)
    torch.manual_seed(3)
    theirs = TORCH[name](5, 7, 2, bidirectional=True)
    for (a, p), (b, q) in zip(ours.named_parameters(), theirs.named_parameters()):
        assert a == b
        assert torch.equal(p, q)


@each_cell(TORCH_CELLS)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
def test_state_dict_both_ways(cell, bias):
    options = dict(num_layers=2, bidirectional=True, bias=bias)
    ours, theirs = fast(cell, 5, 7, **options), plain(cell, 5, 7, **options)
    x = randn(4, 3, 5)
    ours.load_state_dict(theirs.state_dict())
    assert_same(ours(x), theirs(x), 1e-5)
    other = fast(cell, 5, 7, **options)
    theirs.load_state_dict(other.state_dict())
    assert_same(other(x), theirs(x), 1e-5)


@backends()
@each_cell(TORCH_CELLS)
@pytest.mark.parametrize("batch_first", [False, True], ids=["time_first", "batch_first"])
def test_hx_is_used_and_returned(cell, backend, batch_first):
    ours, theirs = twins(
        cell, 5, 7, num_layers=2, bidirectional=True, batch_first=batch_first, backend=backend
    )
    x, state = randn(3, 4, 5), hx(cell, 4, 3 if batch_first else 4, 7)
    result = ours(x, state)
    assert_same(result, theirs(x, state), 1e-5)
    assert type(result[1]) is (tuple if cell == "lstm" else torch.Tensor)


@backends()
@each_cell(TORCH_CELLS)
@pytest.mark.parametrize("batch_first", [False, True], ids=["time_first", "batch_first"])
def test_unbatched(cell, backend, batch_first):
    ours, theirs = twins(
        cell, 5, 7, num_layers=2, bidirectional=True, batch_first=batch_first, backend=backend
    )
    x, state = randn(6, 5), hx(cell, 4, 7)
    assert_same(ours(x), theirs(x), 1e-5)
    assert_same(ours(x, state), theirs(x, state), 1e-5)


@backends()
@each_cell(TORCH_CELLS)
@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_dropout_draws_as_torch_does(cell, backend, packed):
    ours, theirs = twins(cell, 5, 7, num_layers=3, bidirectional=True, dropout=0.4, backend=backend)
    x = randn(6, 4, 5)
    if packed:
        x = nn.utils.rnn.pack_padded_sequence(x, [6, 5, 2, 1])
    torch.manual_seed(5)
    a = ours(x)
    torch.manual_seed(5)
    b = theirs(x)
    assert_same(a, b, 1e-5)
    torch.manual_seed(6)
    other = flat(ours(x))[0]
    assert not torch.equal(flat(a)[0], other), "dropout did nothing"
    assert_same(ours.eval()(x), theirs.eval()(x), 1e-5)


@backends()
@each_cell(TORCH_CELLS)
def test_no_steps_is_an_error_as_in_torch(cell, backend):
    ours, theirs = twins(cell, 3, 4, backend=backend)
    for shape in ((0, 2, 3), (0, 3), (0, 0, 3)):
        with pytest.raises(RuntimeError):
            theirs(torch.zeros(shape))
        with pytest.raises(RuntimeError, match="at least one time step"):
            ours(torch.zeros(shape))


@backends()
@each_cell(TORCH_CELLS)
def test_no_rows_gives_no_rows(cell, backend):
    ours, theirs = twins(cell, 3, 4, num_layers=2, bidirectional=True, backend=backend)
    x = torch.zeros(5, 0, 3, device=DEVICE, requires_grad=True)
    a, b = ours(x), theirs(x)
    assert [t.shape for t in flat(a)] == [t.shape for t in flat(b)]
    a[0].sum().backward()
    assert x.grad.shape == x.shape
    assert all((p.grad == 0).all() for p in ours.parameters())


@backends()
def test_nan_passes_through_as_in_torch(backend):
    for cell in TORCH_CELLS:
        ours, theirs = twins(cell, 3, 4, backend=backend)
        x = randn(5, 2, 3)
        x[2, 0, 1] = torch.nan
        a, b = ours(x)[0], theirs(x)[0]
        assert torch.equal(a.isnan(), b.isnan())
        assert a.isnan().any() and not a[:, 1].isnan().any()


@backends()
def test_huge_inputs_saturate(backend):
    for cell in CELLS:
        if cell in ("rnn_relu", "rnn_identity"):
            continue
        layer = fast(cell, 3, 4, backend=backend)
        output = layer(1e30 * randn(5, 2, 3))[0]
        assert output.isfinite().all() and output.abs().max() <= 1


@backends()
@each_cell()
@pytest.mark.parametrize(
    "mode", ["plain", "vmap", "jvp", pytest.param("compile", marks=pytest.mark.slow)]
)
def test_no_hx_is_zeros_without_gradients(cell, backend, mode):
    """Outside of training the kernels may know of zero states by themselves."""
    torch._dynamo.reset()
    layer = fast(cell, 5, 6, num_layers=2, bidirectional=True, backend=backend)
    x, zeros = randn(3, 2, 5), hx(cell, 4, 2, 6)
    zeros = tuple(torch.zeros_like(s) for s in zeros) if cell == "lstm" else torch.zeros_like(zeros)
    call = {
        "plain": lambda f: f(x),
        "vmap": lambda f: torch.func.vmap(f)(x.unsqueeze(0)),
        "jvp": lambda f: torch.func.jvp(f, (x,), (x,)),
        "compile": lambda f: torch.compile(f, backend="aot_eager", fullgraph=True)(x),
    }[mode]
    with torch.no_grad():
        ours = call(lambda x: layer(x)[0])
        theirs = call(lambda x: layer(x, zeros)[0])
    assert_same(flat(ours), flat(theirs), 0.0)


def test_public_names():
    assert fastrnn.__version__ == "0.1.0"
    for name in fastrnn.__all__:
        assert getattr(fastrnn, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'FastTransformer'"):
        _ = fastrnn.FastTransformer

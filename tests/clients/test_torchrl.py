"""TorchRL's LSTMModule and GRUModule: the adapter gives what the library's own way does."""

import copy
import pickle

import pytest
import torch
from helpers import worst
from torch import nn

import fastrnn

pytest.importorskip("torchrl", reason="torchrl is not installed: pip install -e .[clients]")
from tensordict import TensorDict  # noqa: E402
from torchrl.modules import GRUModule, LSTMModule, set_recurrent_mode  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
KEYS = {LSTMModule: ["h", "c"], GRUModule: ["h"]}
each_kind = pytest.mark.parametrize("kind", KEYS)


def module(kind, **options):
    keys = next(KEYS[base] for base in kind.__mro__ if base in KEYS)
    in_keys, out_keys = ["x", *keys], ["y", *(("next", key) for key in keys)]
    return kind(input_size=5, hidden_size=7, in_keys=in_keys, out_keys=out_keys, **options)


def batch(kind, *shape, rows=1, chance=0.2, states=True):
    td = TensorDict({"x": torch.randn(*shape, 5)}, shape)
    td["is_init"] = torch.rand(*shape, 1) < chance
    if states:  # of any step: a trajectory enters with the one at its first
        for key in KEYS[kind]:
            td[key] = torch.randn(*shape, rows, 7)
    return td


def results(module, td):
    with set_recurrent_mode("recurrent"):
        td = module(td.clone())
    return [td[key] for key in module.out_keys]


def is_packed(module):
    return type(module).__name__.startswith("Packed")


@each_kind
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("chance", [0.0, 0.2, 1.0])
def test_any_trajectories(kind, layers, chance):
    theirs = module(kind, num_layers=layers)
    ours = fastrnn.accelerate(copy.deepcopy(theirs))
    assert is_packed(ours) and isinstance(ours, kind)
    for td in (
        batch(kind, 4, 9, rows=layers, chance=chance),
        batch(kind, 2, 3, 6, rows=layers, chance=chance),
        batch(kind, 8, rows=layers, chance=chance),
        batch(kind, 3, 1, rows=layers, chance=chance),
        batch(kind, 3, 6, chance=chance, states=False),
    ):
        assert worst(results(ours, td), results(theirs, td)) < 1e-6


@each_kind
def test_gradients(kind):
    theirs = module(kind)
    ours = fastrnn.accelerate(copy.deepcopy(theirs))
    td = batch(kind, 4, 9)
    td["x"].requires_grad_()
    grads = []
    for each in (ours, theirs):
        loss = sum(result.square().sum() for result in results(each, td))
        grads.append(torch.autograd.grad(loss, [td["x"], *each.parameters()]))
    assert worst(*grads) < 1e-4


@each_kind
def test_single_steps(kind):
    theirs = module(kind)
    ours = fastrnn.accelerate(copy.deepcopy(theirs))
    td = batch(kind, 4, chance=0.5)
    a, b = ours(td.clone()), theirs(td.clone())
    assert worst([a[k] for k in ours.out_keys], [b[k] for k in ours.out_keys]) < 1e-6


@each_kind
def test_copies_and_back(kind):
    theirs = module(kind)
    before = dict(vars(theirs))
    ours, td = fastrnn.accelerate(copy.deepcopy(theirs)), batch(kind, 4, 9)
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert type(other) is type(ours)
        assert worst(results(other, td), results(ours, td)) == 0
    fastrnn.restore(fastrnn.accelerate(ours))
    assert type(ours) is kind and vars(ours).keys() == before.keys()
    assert ours.recurrent_backend == "pad"
    assert worst(results(ours, td), results(theirs, td)) == 0


def test_those_that_are_left():
    class Own(LSTMModule):
        pass

    for made, reason in (
        (module(Own), "Own is a subclass"),
        (module(LSTMModule, python_based=True), "python_based=True"),
        (module(GRUModule, recurrent_backend="scan"), "recurrent_backend is 'scan'"),
    ):
        before = type(made)
        _, left = fastrnn.accelerate(nn.ModuleList([made]), report=True)
        assert type(made) is before and reason in left["0"]

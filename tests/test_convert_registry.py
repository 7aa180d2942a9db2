"""register: what accelerate and restore do with modules of other libraries; adapters."""

import sys

import pytest
import torch
from torch import nn

import fastrnn
from fastrnn import adapters
from fastrnn.convert import register, registry


class Walker(nn.Module):
    """A library's own: a step at a time."""

    at_once = False

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4)


class Child(Walker):
    pass


def at_once(module):
    if type(module) is Child:
        return "it is a Child"
    module.at_once = True


def step_by_step(module):
    vars(module).pop("at_once", None)


@pytest.fixture
def known(monkeypatch):
    monkeypatch.setattr(registry, "CHANGES", {})
    register(Walker, at_once, step_by_step)


def test_modules_are_changed_and_changed_back(known):
    model = nn.ModuleDict({"one": Walker(), "two": Child()})
    model["again"] = model["two"]
    _, left = fastrnn.accelerate(fastrnn.accelerate(model), report=True)
    assert model["one"].at_once and not model["two"].at_once
    assert left == {"two": "it is a Child", "again": "it is a Child"}
    assert {type(module.lstm) for module in model.values()} == {fastrnn.FastLSTM}
    assert fastrnn.restore(fastrnn.restore(model), report=True)[1] == {}
    assert not model["one"].at_once and type(model["one"].lstm) is nn.LSTM


def test_the_nearest_class_counts(known):
    register(Child, lambda module: setattr(module, "at_once", 2), step_by_step)
    assert fastrnn.accelerate(Child()).at_once == 2
    assert fastrnn.accelerate(Walker()).at_once is True


def test_a_subclass_of_a_layer_can_be_registered(known):
    class Own(nn.LSTM):
        def permute_hidden(self, hx, permutation):
            return hx

    register(Own, lambda module: "as I say", lambda module: None)
    assert fastrnn.accelerate(Own(3, 4), report=True)[1] == {"": "as I say"}


class Doubled(nn.Module):
    def forward(self, x):
        return 2 * x


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_one_that_was_scripted_is_left_and_named(known):
    """torch.jit numbers the second class of a name."""
    register(Doubled, at_once, step_by_step)
    shifted = Doubled()
    shifted.offset = 1
    model = torch.jit.script(nn.Sequential(Doubled(), shifted, nn.ReLU()))
    _, left = fastrnn.accelerate(model, report=True)
    name = f"{__name__}.Doubled"
    assert left == dict.fromkeys(
        "01", f"it is a TorchScript module: accelerate the {name} that was scripted"
    )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            (Walker(), at_once, step_by_step),
            TypeError,
            "kind must be a subclass of torch.nn.Module",
        ),
        ((dict, at_once, step_by_step), TypeError, "kind must be a subclass of torch.nn.Module"),
        ((nn.LSTM, at_once, step_by_step), ValueError, "another library, got LSTM"),
        ((fastrnn.FastGRUCell, at_once, step_by_step), ValueError, "got FastGRUCell"),
        ((Walker, None, step_by_step), TypeError, "to_fast must be a function"),
        ((Walker, at_once, "back"), TypeError, "back must be a function"),
    ],
)
def test_what_is_none_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        register(*arguments)


def test_an_adapter_is_imported_once_its_library_has_been(monkeypatch, tmp_path):
    (tmp_path / "some_library.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(adapters.LIBRARIES, "some_adapter", "some_library")
    imported = []
    monkeypatch.setattr(adapters.importlib, "import_module", imported.append)
    fastrnn.accelerate(nn.Linear(2, 2))
    assert "fastrnn.adapters.some_adapter" not in imported
    monkeypatch.setitem(sys.modules, "some_library", torch)
    fastrnn.accelerate(nn.Linear(2, 2))
    assert "fastrnn.adapters.some_adapter" in imported

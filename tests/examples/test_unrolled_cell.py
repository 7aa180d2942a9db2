"""examples/unrolled_cell.py: by hand, by cell and by layer the same; the pictures' claims hold."""

import importlib
import math
from pathlib import Path

import pytest
import torch

LAYERS = pytest.mark.parametrize("layer", ["torch", "fastrnn"])


@pytest.fixture
def program(empty_folder):
    return importlib.import_module("unrolled_cell")


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@LAYERS
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_all_ways_agree(program, capsys, double, layer, steps):
    torch.manual_seed(0)
    args = program.parse(["--layer", layer, "--steps", str(steps)])
    differences = dict(program.side_by_side(args))
    assert len(differences) == 2 + 8 + (steps >= 2)
    assert max(differences.values()) < 1e-12
    assert capsys.readouterr().out.count("step 0") == 3 + (steps >= 2)


def test_the_hand_is_the_cell_of_the_book(program, double):
    x0, x1 = torch.randn(2, 4, 2)
    wx, wy, b = torch.randn(2, 5), torch.randn(5, 5), torch.randn(1, 5)
    y0 = [
        [math.tanh(sum(r[i] * wx[i, u] for i in range(2)) + b[0, u]) for u in range(5)] for r in x0
    ]
    got0, got1 = program.two_steps(x0, x1, wx, wy, b)
    torch.testing.assert_close(got0, torch.tensor(y0))
    torch.testing.assert_close(got1, torch.tanh(got0 @ wy + x1 @ wx + b))


def test_wrong_gradients_end_the_program(program, monkeypatch):
    monkeypatch.setattr(program, "side_by_side", lambda args: [("gradient of x", 1e-6)])
    with pytest.raises(SystemExit, match="the results differ"):
        program.main(["--layer", "torch"])
    assert torch.get_default_dtype() == torch.float32


@LAYERS
def test_gradients_vanish_explode_or_stay(program, double, layer):
    found = program.vanishing(program.parse(["--layer", layer, "--distance", "60"]))
    assert all(curve[0] == 1.0 and curve[-1] < 1e-8 for curve in found["as initialised"].values())
    rnn, lstm, gru = found[program.CHANGED].values()
    assert rnn[-1] > 20
    assert 0.01 < lstm[-1] < 20
    assert 0.01 < gru[-1] < 20


def test_either_layer_draws_the_same_gradients(program, double):
    curves = [
        program.vanishing(program.parse(["--layer", layer, "--distance", "40"]))
        for layer in ("torch", "fastrnn")
    ]
    for group in curves[0]:
        for label, curve in curves[0][group].items():
            torch.testing.assert_close(
                torch.tensor(curve), torch.tensor(curves[1][group][label]), rtol=1e-6, atol=0
            )


@LAYERS
def test_clipping_saves_the_training(program, double, layer):
    args = program.parse(["--layer", layer, "--clip-steps", "130"])
    wild, tame = program.clipping(args, None), program.clipping(args, 1.0)
    assert wild[0] == tame[0]
    assert max(norm for _, norm in wild) > 1e9
    assert wild[-1][0] > 1000
    assert tame[-1][0] < 10


def test_draws_both_pictures(program, capsys):
    pytest.importorskip("matplotlib")
    options = "--distance 5 --clip-steps 20 --plot gradients.png --plot-clipping clipping.png"
    program.main([*options.split(), "--layer", "torch"])
    for picture in ("gradients.png", "clipping.png"):
        assert Path(picture).read_bytes().startswith(b"\x89PNG")
    assert "greatest difference from the steps by hand" in capsys.readouterr().out


def test_a_missing_folder_is_named_at_once(program):
    with pytest.raises(SystemExit, match="--plot-clipping no/x.png: there is no folder no"):
        program.main(["--plot-clipping", "no/x.png"])

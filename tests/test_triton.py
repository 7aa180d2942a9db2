"""What is Triton's own: every way to hold R, tile edges, low precision, refusals, the tuner.

Values and gradients in general are the business of the tests that run over all backends. Here each
tensor that a kernel gets lies between zones of NaN, so that a read or write past its end shows.
"""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from helpers import CELLS, each_cell, oracle, problem, slow_but

from fastrnn import cells

pytest.importorskip("triton")

from triton_ways import WAYS, assert_close, run_both, use, zones  # noqa: E402, F401

from fastrnn import triton as backend  # noqa: E402
from fastrnn.triton import engine  # noqa: E402
from fastrnn.triton.cells import INTERPRET  # noqa: E402

interpreted = pytest.mark.skipif(not INTERPRET, reason="needs TRITON_INTERPRET=1")


@interpreted
@pytest.mark.parametrize(
    "way_and_form",
    slow_but(
        [("alone", "packed"), ("sharing", "packed"), ("streamed", "packed")],
        [
            ("alone", "packed"),
            ("alone", "dense"),
            ("sharing", "packed"),
            ("sharing_narrow", "dense"),
            ("sharing_two_gates", "packed"),
            ("streamed", "packed"),
            ("streamed_wide", "dense"),
            ("streamed_deep", "packed"),
        ],
    ),
    ids="-".join,
)
@each_cell()
@pytest.mark.usefixtures("zones")
def test_every_way_to_hold_r(cell, way_and_form, monkeypatch):
    way, form = way_and_form
    use(way, monkeypatch)
    input, weights, state = problem(cell, t=3, b=5, i=3, h=19, directions=3, dtype=torch.float32)
    sizes = None
    if form == "packed":  # the last row has no step at all
        sizes = torch.tensor([4, 3, 1])
        input = input.reshape(15, 3)[:8]
    resets = torch.rand(input.shape[:-1]) < 0.3
    ours, exact = run_both(cell, input, weights, state, sizes, resets, 3, True)
    assert_close(ours, exact, 2e-6)


@interpreted
@pytest.mark.parametrize("dtype", slow_but([torch.bfloat16], [torch.bfloat16, torch.float16]))
@pytest.mark.parametrize("way", slow_but(["alone"], ["alone", "sharing", "streamed"]))
@each_cell()
@pytest.mark.usefixtures("zones")
def test_low_precision(cell, way, dtype, monkeypatch):
    """Rounding of inputs, outputs and dot operands only: the states are carried in float32."""
    use(way, monkeypatch)
    input, weights, state = problem(cell, t=4, b=3, i=4, h=18, dtype=dtype)
    ours, exact = run_both(cell, input, weights, state, None, None, 1, True)
    assert_close(ours, exact, 12 * torch.finfo(dtype).eps)


@interpreted
def test_a_slow_state_is_carried_in_float32(monkeypatch):
    """A GRU that hardly moves would stand still if its state were rounded to bfloat16 each step."""
    for way in ("alone", "sharing", "streamed"):
        use(way, monkeypatch)
        h, steps = 16, 12
        gx = torch.zeros(steps, 1, 3 * h)
        gx[..., h : 2 * h], gx[..., 2 * h :] = 6.5, 3.0  # z near 1, n near 1
        state = [torch.full((1, 1, h), 0.5)]
        weights = [torch.zeros(3 * h, h)]
        low = [[t.bfloat16() for t in ts] for ts in ([gx], weights, state)]
        _, (final,), _ = backend.forward("gru", *low[0], *low[1:], None, None, 1, False, False)
        expected = oracle("gru", gx, weights, state, project=False)[1]
        assert (expected - 0.5).abs().min() > 8e-3  # each step less than half a bfloat16 unit
        assert (final.float() - expected).abs().max() < 2e-3


@interpreted
def test_nan_stays_in_its_row():
    input, weights, state = problem("gru", t=3, b=4, h=20, dtype=torch.float32)
    input = input.detach()
    input[:, 1] = torch.nan
    weights, state = [w.detach() for w in weights], [s.detach() for s in state]
    output, _, _ = backend.forward("gru", input, weights, state, None, None, 1, True, False)
    assert output[:, 1].isnan().all()
    assert not output[:, [0, 2, 3]].isnan().any()


@interpreted
def test_strided_tensors():
    """Nothing about the strides of what the caller gives is assumed."""
    input, weights, state = problem("lstm", t=3, b=2, i=4, h=5, directions=3, dtype=torch.float32)
    exact = oracle("lstm", input.double(), *([t.double() for t in ts] for ts in (weights, state)),
                   directions=3)  # fmt: skip
    strided = [t.detach().transpose(0, -1).contiguous().transpose(0, -1) for t in (input, *weights)]
    state = [s.detach().transpose(1, 2).contiguous().transpose(1, 2) for s in state]
    output, final, _ = backend.forward(
        "lstm", strided[0], strided[1:], state, None, None, 3, True, False
    )
    assert_close([output, *final], exact, 2e-6)


@interpreted
@pytest.mark.parametrize("shape", [dict(t=0, b=3), dict(t=3, b=0)])
@each_cell(("lstm", "gru"))
def test_nothing_to_do(cell, shape):
    input, weights, state = problem(cell, i=4, h=5, dtype=torch.float32, **shape)
    ours, exact = run_both(cell, input, weights, state, None, None, 1, True)
    assert_close(ours, exact, 0.0)


@interpreted
def test_lines_beyond_2_31():
    """Two steps whose lines lie more than 2^31 elements apart, in memory that is never touched."""
    h, far = 16, (2**31 + 2**20) // 16
    gx = torch.empty(far + 1, h, dtype=torch.float16)
    out = torch.empty(far + 1, h, dtype=torch.float16)
    gx[0], gx[far] = 0.5, 0.25
    carry = torch.zeros(1, 1, 1, h)
    layer = SimpleNamespace(
        spec=cells.get("rnn_identity"), H=h, D=1, B=1, T=2, N=far + 1, back=1,
        multiply="float16", offsets=torch.tensor([0, far]), lengths=torch.tensor([2]), resets=None,
        params=None, extra=None, w_hh=torch.eye(h, dtype=torch.float16)[None],
        device=torch.device("cpu"),
    )  # fmt: skip
    for way in ("alone", "streamed"):
        carry.zero_()
        tensors = (gx, layer.w_hh, None, None, carry.half(), None, carry, out, gx)
        pair = backend.cells.TRITON_CELLS["rnn_identity"]
        engine._launch(
            engine.forward_kernel, layer, WAYS[way], tensors, (),
            CELL=pair.forward, FIRST=pair.ask, BIAS=False, SAVE=False,
        )  # fmt: skip
        assert (carry == 0.75).all() and (out[far] == 0.75).all() and (out[0] == 0.5).all()


def test_every_cell_has_its_functions():
    assert set(CELLS) <= set(backend.cells.TRITON_CELLS)


def test_refusals(monkeypatch):
    assert backend.unavailable("lstm", "cuda", torch.bfloat16) is None
    assert "float64" in backend.unavailable("lstm", "cuda", torch.float64)
    assert "no Triton functions" in backend.unavailable("mystery", "cuda", torch.float32)
    assert "cuda, not on xpu" in backend.unavailable("lstm", "xpu", torch.float32)
    monkeypatch.setattr(engine, "INTERPRET", False)
    assert "TRITON_INTERPRET=1" in backend.unavailable("lstm", "cpu", torch.float32)
    input, weights, state = problem("lstm", dtype=torch.float32)
    with pytest.raises(RuntimeError, match="backend='triton' cannot serve.*TRITON_INTERPRET=1"):
        backend.forward("lstm", input, weights, state, None, None, 1, True, False)


def test_cpu_without_the_interpreter():
    code = (
        "import torch, fastrnn\n"
        "m = fastrnn.FastLSTM(3, 4, backend='triton')\n"
        "try: m(torch.zeros(2, 1, 3))\n"
        "except RuntimeError as refusal: print(refusal)\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert "cannot serve lstm on cpu" in done.stdout and "TRITON_INTERPRET=1" in done.stdout


def test_a_second_pair_for_a_cell_is_refused():
    with pytest.raises(ValueError, match="got 'gru'"):
        backend.register("gru", backend.cells.TRITON_CELLS["gru"])

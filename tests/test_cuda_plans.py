"""How the planner lays scans out on devices that this machine does not have."""

import itertools
import json

import pytest
from cuda_simulation import ENGINES, KINDS
from devices import A100, H100
from helpers import each_cell


def plan(simulator, cell, kind, b, h, d=1, backward=False, engine="auto", limits=H100) -> dict:
    dtype = str(KINDS[kind]).removeprefix("torch.")
    return json.loads(
        simulator.ops.scan_plan(cell, backward, b, h, d, dtype, kind == "tf32", engine, *limits)
    )


@pytest.mark.parametrize(
    ("h", "b", "limits", "engine"),
    [
        (16, 1, H100, "block"),
        (16, 100, A100, "block"),
        (256, 8, H100, "cluster"),
        (256, 8, A100, "grid"),  # no clusters there
        (768, 16, H100, "grid"),
        (2048, 128, H100, "stepwise"),
        (4096, 1, A100, "stepwise"),
    ],
)
def test_the_engine_follows_the_size(simulator, h, b, limits, engine):
    for backward in (False, True):
        found = plan(simulator, "lstm", "bfloat16", b, h, backward=backward, limits=limits)
        assert found["engine"] == engine and found["why"]


@pytest.mark.parametrize("backward", [False, True])
@each_cell()
def test_every_plan_fits_its_device(simulator, cell, backward):
    """Each engine that says it can serve: units, rows, blocks, threads and shared memory."""
    served = set()
    sizes = itertools.product((1, 16, 17, 70, 200, 512, 1000, 3000), (1, 9, 300), (1, 2))
    for (h, b, d), kind, limits in itertools.product(sizes, KINDS, (H100, A100)):
        for engine in ENGINES:
            try:
                found = plan(simulator, cell, kind, b, h, d, backward, engine, limits)
            except RuntimeError as refusal:
                assert "cannot serve" in str(refusal) and engine != "stepwise"
                continue
            served.add((engine, kind))
            assert found["engine"] == engine
            if engine == "stepwise":
                continue
            sms, arch, shared = limits
            assert kind != "float64" and (engine != "cluster" or arch >= 90)
            assert found["units"] % 16 == 0 and found["rows"] % 8 == 0
            assert found["units"] * (found["blocks"] - 1) < h <= found["units"] * found["blocks"]
            assert found["blocks"] * found["groups"] * d <= sms
            assert found["threads"] % 32 == 0 and found["threads"] <= 256
            assert found["shared"] <= shared
            assert (found["blocks"] == 1) == (engine == "block")
            assert engine != "cluster" or found["blocks"] <= 16
    resident = itertools.product(("block", "cluster", "grid"), set(KINDS) - {"float64"})
    assert served == {*resident, *(("stepwise", kind) for kind in KINDS)}


def test_clusters_that_an_h100_has_room_for(simulator):
    """Groups beyond those would wait for the others to end, and double the time."""
    room = {2: 66, 4: 33, 8: 15, 16: 7}
    seen = set()
    for h, b in itertools.product((64, 128, 256, 512), (16, 64, 120, 256, 3000)):
        found = plan(simulator, "lstm", "bfloat16", b, h, engine="cluster")
        seen.add((found["blocks"], found["groups"]))
        assert found["groups"] <= room[found["blocks"]]
    assert (16, 7) in seen and {blocks for blocks, _ in seen} >= {4, 8, 16}


@pytest.mark.parametrize(("cell", "h"), [("rnn_tanh", 1024), ("lstm", 512), ("gru", 512)])
def test_weights_of_the_targets_stay_in_registers(simulator, cell, h):
    for b in (1, 8, 16):
        found = plan(simulator, cell, "bfloat16", b, h)
        assert found["engine"] != "stepwise" and found["why"].startswith("100% of the recurrent")


@pytest.mark.parametrize(
    ("engine", "kind", "h", "limits", "reason"),
    [
        ("block", "bfloat16", 1000, H100, "the recurrent weights do not fit"),
        ("grid", "ieee", 8000, H100, "the recurrent weights do not fit"),
        ("cluster", "bfloat16", 64, A100, "clusters need compute capability 9.0.* has 8.0"),
        ("grid", "float64", 64, H100, "float64 runs step by step only"),
        ("fastest", "ieee", 8, H100, "engine must be one of auto, .* got fastest"),
    ],
)
def test_an_engine_asked_for_says_why_it_cannot_serve(simulator, engine, kind, h, limits, reason):
    with pytest.raises(RuntimeError, match=reason):
        plan(simulator, "lstm", kind, 4, h, engine=engine, limits=limits)

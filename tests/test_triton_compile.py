"""Every Triton kernel compiled for sm_80 and sm_90, with no GPU: what it takes, and no spills.

One layer, with --slow a few; FASTRNN_TEST_ALL_KERNELS=1 then compiles every configuration that the
tuner may pick over a grid of sizes (about ten minutes).
"""

import json
import os
import subprocess
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from devices import BY_ARCH
from helpers import CELLS, slow_but

pytest.importorskip("triton")

DOTS = {"bfloat16": ["bf16"], "float16": ["f16"], "tf32": ["tf32"], "ieee": []}
SIZES = ((32, 16), (64, 16), (128, 16), (256, 16), (512, 16), (512, 2), (1024, 4), (64, 4000),
         (128, 300), (200, 64), (256, 100))  # fmt: skip
ALL = os.environ.get("FASTRNN_TEST_ALL_KERNELS") == "1"
if ALL:
    LAYERS = [f"{cell}:{multiply}:{h}:{b}" for cell in CELLS for multiply in DOTS for h, b in SIZES]
else:
    LAYERS = [f"{cell}:bfloat16:64" for cell in CELLS]
    LAYERS += ["lstm:bfloat16:512", "gru:float16:128", "lstm:ieee:64", "rnn_tanh:ieee:256"]
    LAYERS += ["gru:tf32:64", "lstm:bfloat16:1024:64", "rnn_identity:ieee:1024"]
# derived ones, with and without parameters of their own
NEW = [f"{cell}:{multiply}:64" for cell in ("light_gru", "peephole_lstm") for multiply in DOTS]
NEW += ["peephole_lstm:bfloat16:256", "peephole_lstm:bfloat16:1024:64", "slstm:bfloat16:128"]
NEW += ["every_function:ieee:64", "delays:bfloat16:64"]
NEW += ["min_gru:bfloat16:64", "ind_rnn:ieee:100:2"]  # without a product
NEW += [
    "layer_norm_lstm:bfloat16:64",
    "layer_norm_gru:float16:64",
    "centred:ieee:100:2",
    "shared_softmax:bfloat16:300",
]  # that look across units
NEW += ["more_in:bfloat16:64", "more_back:bfloat16:64", "more_back:ieee:512"]  # slots of their own
# with late slots
NEW += ["reset_before_gru:bfloat16:64", "reset_before_gru:tf32:1024", "everything:ieee:100:2"]
QUICK = ["lstm:bfloat16:64"]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory, request):
    """{(architecture, layer): records}: a process each architecture, without the interpreter."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    script = Path(__file__).with_name("triton_compile.py")
    only = [] if ALL else ["--only", "1"]
    layers = [*LAYERS, *NEW] if request.config.getoption("--slow") else QUICK

    def run(arch: int) -> str:
        command = [sys.executable, script, "--arch", str(arch), *only, *layers]
        return subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, check=True
        ).stdout

    records = defaultdict(list)
    with ThreadPoolExecutor() as processes:
        for line in "".join(processes.map(run, BY_ARCH)).splitlines():
            record = json.loads(line)
            records[record["arch"], record["layer"]].append(record)
    return records


def told(record: dict) -> str:
    config = record["config"]
    tile = "x".join(str(config[axis]) for axis in ("rows", "units", "inner"))
    return (
        f"sm_{record['arch']} {record['layer']:<22} {record['kernel']:<8} {config['hold']:<9} "
        f"{tile:<11} warps {config['warps']:>2}  registers {record['registers']:>3}  "
        f"stack {record['stack']}  spills in loops {record['spills']}  shared {record['shared']}  "
        f"barriers {record['syncs']}  about {record['cycles']} cycles a step"
    )


@pytest.mark.parametrize("layer", slow_but(QUICK, [*LAYERS, *NEW]))
@pytest.mark.parametrize("arch", BY_ARCH)
def test_kernels_fit_and_do_not_spill(arch, layer, compiled, capsys):
    records = compiled[arch, layer]
    with capsys.disabled():
        print(*("", *map(told, records)), sep="\n")
    assert {record["kernel"] for record in records} == {"forward", "backward"}
    for record in records:
        assert record["spills"] == 0, told(record)
        assert record["shared"] <= BY_ARCH[arch].shared, told(record)
        reads, writes = record["words"]
        assert bool(reads) == bool(writes) == (record["config"]["shares"] > 1), told(record)
        # tf32 where ieee was asked for would pass every test in the interpreter.
        nowhere = record["config"]["hold"] == "nowhere"
        assert record["dots"] == ([] if nowhere else DOTS[layer.split(":")[1]]), told(record)


@pytest.mark.slow
@pytest.mark.parametrize("arch", BY_ARCH)
def test_sums_are_moved_once(arch, compiled):
    """Else each tile that is loaded or stored passes shared memory, with two barriers."""
    for (a, layer), records in compiled.items():
        for record in records if layer in LAYERS else ():  # sums of parameters move once more
            config = record["config"]
            small = config["rows"] * config["units"] <= 64 * config["warps"]  # two units a thread
            if a == arch and config["hold"] == "resident" and record["dots"] and small:
                gates = {"lstm": 4, "gru": 3}.get(record["layer"].split(":")[0], 1)
                dots = gates if record["kernel"] == "backward" else 1
                waits = -(-dots // config["together"])
                most = 6 + 3 * dots if config["shares"] == 1 else 5 + 4 * waits
                assert record["syncs"] <= most, told(record)


@pytest.mark.slow
@pytest.mark.parametrize("arch", BY_ARCH)
def test_streamed_kernels_have_their_barriers(arch, compiled):
    """The interpreter runs a program's threads as one, so no other test misses a barrier."""
    least = {"forward": 1, "backward": 3}
    streamed = [
        r for (a, _), rs in compiled.items() if a == arch for r in rs
        if r["config"]["hold"] == "streamed"
    ]  # fmt: skip
    assert {record["kernel"] for record in streamed} == set(least)
    for record in streamed:
        assert record["barriers"] >= least[record["kernel"]], told(record)

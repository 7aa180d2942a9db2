"""The tuner of CUDA engines, with engines that only pretend: what it times, refuses and writes."""

import json
import re

import pytest
import torch
from devices import H100
from test_gpu_host import PlainScan

from benchmarks import __main__ as command
from benchmarks.commands import tune
from benchmarks.commands.tune import Point
from fastrnn.gpu import engines
from fastrnn.gpu.engines import Need

POINT = Point("gru", "float32", 5, 2)


class Stateless(PlainScan):
    """PlainScan remembers its forward pass; the tuner gives backward that of another scan."""

    def backward(self, layer, grad_output, *rest):
        self.forward(layer, self.gx, True)
        return super().backward(layer, grad_output, *rest)


class Wrong(Stateless):
    def forward(self, layer, gx, save):
        output, final, saved = super().forward(layer, gx, save)
        return output + 0.01, final, saved


class ForwardOnly(Stateless):
    def backward(self, *args):
        raise RuntimeError("engine grid cannot serve: the recurrent weights do not fit")


class Broken(Stateless):
    def backward(self, *args):
        raise RuntimeError("CUDA: an illegal memory access was encountered")


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(tune, "STEPS", 4)


def clock_of(*seconds):
    left = list(seconds)
    return lambda call: (call(), left.pop(0))[1]


def test_times_each_pass_that_is_served_and_right(capsys):
    scans = {"stepwise": Stateless(), "block": Wrong(), "grid": ForwardOnly()}
    with torch.no_grad():
        times = tune.measure(POINT, scans, "cpu", clock_of(8e-6, 12e-6, 20e-6, 4e-6))
    assert times == {
        "forward": {"stepwise": pytest.approx(2.0), "grid": pytest.approx(1.0)},
        "backward": {"stepwise": pytest.approx(3.0), "block": pytest.approx(5.0)},
    }
    assert re.search("block forward: WRONG", capsys.readouterr().out)


@pytest.mark.parametrize("numbers", tune.NUMBERS)
def test_every_engine_takes_part(simulator, numbers):
    """The kernels themselves, in the simulator."""
    simulator.configure()
    with torch.no_grad():
        point = Point("lstm", numbers, 40, 3)
        times = tune.measure(point, tune.native_scans(simulator.ops), "cpu", lambda call: 1.0)
    assert {name: set(found) for name, found in times.items()} == {
        name: {"stepwise", "block", "cluster", "grid"} for name in tune.PASSES
    }


def test_an_error_that_is_no_refusal_ends_the_run():
    with torch.no_grad(), pytest.raises(RuntimeError, match="illegal memory access"):
        tune.measure(POINT, {"stepwise": Stateless(), "grid": Broken()}, "cpu", lambda call: 1.0)


def test_rows_name_the_fastest_native_engine():
    times = {"forward": {"stepwise": 9.0, "grid": 1.23456, "triton": 1.0}, "backward": {}}
    assert tune.rows(POINT, times) == [
        ["gru", "ieee", "forward", 5, 2, "grid", {"stepwise": 9.0, "grid": 1.23, "triton": 1.0}]
    ]


def test_the_table_is_what_the_engines_read(tmp_path):
    path, limits = tmp_path / "table.json", H100
    row = ["gru", "ieee", "forward", 64, 8, "cluster", {"cluster": 0.5}]
    tune.write(path, "sm_80, 108 multiprocessors", "an A100", [row])
    tune.write(path, limits.device_class, "an H100", [row, row])
    tune.write(path, limits.device_class, "an H100", [row])
    table = json.loads(path.read_text())
    assert len(table) == 2 and table[limits.device_class]["fastest"] == [row]
    assert max(map(len, path.read_text().splitlines())) < 120
    found = engines.measured(table, Need("gru", False, 3, 64, 1, "ieee"), limits)
    assert found[0] == "cluster" and "cluster 0.5 us a step" in found[1]


def test_every_size_has_one_name():
    chosen = tune.points()
    assert len(set(chosen)) == len(chosen) > 500


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu(capsys):
    with pytest.raises(SystemExit) as end:
        command.main(["tune"])
    assert end.value.code == 2 and "sees no CUDA device" in capsys.readouterr().err

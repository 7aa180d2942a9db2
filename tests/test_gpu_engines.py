"""Which CUDA engine serves: the measured table, the planner's estimate, the one asked for."""

import json

import pytest
import torch
from devices import A100, H100
from torch._subclasses.fake_tensor import FakeTensorMode

import fastrnn
from fastrnn import backends
from fastrnn.backends.native import Cuda
from fastrnn.gpu import engines, scan
from fastrnn.gpu.engines import Need


class Library:
    """Stands for torch.ops.fastrnn: plans engines by H, and says what it was asked."""

    def __init__(self, serves=lambda engine, h: True):
        self.serves, self.calls = serves, []

    def scan_plan(self, cell, backward, B, H, D, dtype, tf32, engine, sms, arch, shared):
        self.calls.append(engine)
        if engine != "auto" and not self.serves(engine, H):
            raise RuntimeError(f"engine {engine!r} cannot serve H={H}")
        engine = "stepwise" if engine == "auto" else engine
        plan = dict(engine=engine, why=f"{dtype} tf32={tf32}", blocks=2, threads=256)
        return json.dumps(plan | dict(units=64, rows=8, shared=1000))


LSTM = Need("lstm", False, 8, 256, 1, "bfloat16")
TABLE = {
    H100.device_class: {
        "device": "an H100",
        "date": "2026-11-22",
        "fastest": [
            ["lstm", "bfloat16", "forward", 256, 8, "block", {"block": 0.4, "triton": 0.7}],
            ["lstm", "bfloat16", "forward", 512, 8, "cluster", {}],
            ["lstm", "bfloat16", "forward", 256, 64, "grid", {}],
            ["lstm", "ieee", "forward", 4096, 512, "grid", {}],
        ],
    }
}


@pytest.fixture
def table(monkeypatch):
    monkeypatch.setattr(engines, "table", lambda: TABLE)
    monkeypatch.delenv("FASTRNN_CUDA_ENGINE", raising=False)


@pytest.mark.parametrize(
    ("need", "engine"),
    [
        (LSTM, "block"),
        (LSTM._replace(H=200, B=3), "block"),
        (LSTM._replace(H=257), "cluster"),
        (LSTM._replace(D=2), "grid"),  # both directions are on the device at once
        (LSTM._replace(backward=True), "stepwise"),  # not in the table: the planner's
        (LSTM._replace(H=1024), "stepwise"),
        (LSTM._replace(multiply="ieee"), "grid"),
    ],
)
def test_the_table_chooses(table, need, engine):
    choice = engines.choose(Library(), need, H100, "auto")
    assert choice.engine == engine
    assert ("estimated" in choice.source) == (engine == "stepwise")
    assert "measured at H=" in choice.source or engine == "stepwise"


def test_activations_share_their_measurements(table):
    rows = [["rnn_tanh", "bfloat16", "forward", 256, 8, "grid", {}]]
    entry = TABLE[H100.device_class] | {"fastest": rows}
    found = engines.measured({H100.device_class: entry}, LSTM._replace(cell="rnn_relu"), H100)
    assert found[0] == "grid"


def test_no_table_for_a_device(table):
    choice = engines.choose(Library(), LSTM, A100, "auto")
    assert choice.engine == "stepwise" and "not measured" in choice.source
    assert "not measured" in engines.describe(choice, LSTM)


def test_ops_plan_by_themselves_but_for_what_was_measured(table):
    library = Library()
    assert engines.to_ask_for(library, LSTM, A100, "auto") == "auto"
    assert engines.to_ask_for(library, LSTM, H100, "grid") == "grid"
    assert not library.calls
    assert engines.to_ask_for(library, LSTM, H100, "auto") == "block"
    assert library.calls == ["block"]


def test_a_measured_engine_that_does_not_fit_gives_way(table):
    library = Library(serves=lambda engine, h: False)
    choice = engines.choose(library, LSTM, H100, "auto")
    assert choice.engine == "stepwise" and library.calls == ["block", "auto"]


def test_an_engine_asked_for_by_name_is_never_replaced(table, monkeypatch):
    with pytest.raises(RuntimeError, match="engine 'grid' cannot serve H=256"):
        engines.choose(Library(serves=lambda engine, h: False), LSTM, H100, "grid")
    assert engines.choose(Library(), LSTM, H100, "grid").engine == "grid"
    monkeypatch.setenv("FASTRNN_CUDA_ENGINE", "cluster")
    assert engines.asked() == "cluster"
    monkeypatch.setenv("FASTRNN_CUDA_ENGINE", "fastest")
    with pytest.raises(ValueError, match="FASTRNN_CUDA_ENGINE must be one of auto, .*'fastest'"):
        engines.asked()


def test_explain_names_both_engines(table, monkeypatch):
    monkeypatch.setattr(engines, "limits", lambda device: H100)
    monkeypatch.setattr(scan.torch.ops, "fastrnn", Library(), raising=False)
    forward, backward = scan.explain("lstm", 8, 256, 1, torch.bfloat16, torch.device("cuda"))
    assert forward.startswith("forward: block (measured at H=256, B=8, 2026-11-22: block 0.4")
    assert "triton 0.7 us a step; bfloat16" in forward
    assert "2 blocks of 256 threads own 64 units each of 8 batch rows, 1000 bytes" in forward
    assert backward.startswith("backward: stepwise (estimated")


def test_explain_of_a_layer_on_a_gpu(table, monkeypatch):
    """With a tensor that only says that it is on one."""
    monkeypatch.setattr(engines, "limits", lambda device: H100)
    monkeypatch.setattr(scan.torch.ops, "fastrnn", Library(), raising=False)
    monkeypatch.setattr(backends, "choose", lambda *args: (Cuda(), "as it is asked for"))
    module = fastrnn.FastLSTM(4, 200, bidirectional=True)
    with FakeTensorMode():
        x = torch.empty(5, 3, 4, device="cuda", dtype=torch.bfloat16)
    text = fastrnn.explain(module, x)
    assert "engine, forward: block (measured at H=256, B=8" in text
    assert "engine, backward: stepwise (estimated" in text and "FASTRNN_CUDA_ENGINE" in text
    module = fastrnn.FastLSTM(4, 200, batch_first=True)  # five rows
    assert "forward: block" in fastrnn.explain(module, x)
    with FakeTensorMode():
        wide = torch.empty(3, 65, 4, device="cuda", dtype=torch.bfloat16)
        many, one = (torch.empty(*s, 4, device="cuda", dtype=torch.bfloat16) for s in ((65,), ()))
    assert "forward: stepwise" in fastrnn.explain(fastrnn.FastLSTM(4, 200), wide)
    assert "forward: stepwise" in fastrnn.explain(fastrnn.FastLSTMCell(4, 200), many)
    assert "forward: block" in fastrnn.explain(fastrnn.FastLSTMCell(4, 200), one)
    assert "forward: block" in fastrnn.explain(fastrnn.FastLSTM(4, 200), many)  # [T, I]: one row

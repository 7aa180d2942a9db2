"""torch.export with dynamic T and B, loaded in a fresh process; ONNX through restore."""

import pytest
import torch
from helpers import DEVICE, assert_same, backends, each_cell, fast, randn, run_python
from torch.export import Dim

import fastrnn


def exported(layer):
    x = torch.randn(5, 3, 4, device=DEVICE)
    return torch.export.export(layer, (x,), dynamic_shapes=({0: Dim("T"), 1: Dim("B")},))


@backends(kernels=True)
@each_cell()
def test_dynamic_time_and_batch(cell, backend):
    layer = fast(cell, 4, 6, num_layers=2, bidirectional=True, backend=backend).eval()
    program = exported(layer)
    calls = [n for n in program.graph.nodes if "fastrnn" in str(n.target)]
    assert len(calls) == 2, "one op a layer"
    for t, b in ((5, 3), (9, 2), (40, 7)):
        x = randn(t, b, 4)
        assert_same(program.module()(x), layer(x), 0.0)


@backends(kernels=True)
def test_training_graph_is_differentiable(backend):
    layer = fast("gru", 4, 6, backend=backend)
    module = exported(layer).module()
    x = randn(6, 2, 4)
    assert_same(module(x), layer(x), 0.0)


LOAD = """
import sys, torch, fastrnn
program = torch.export.load(sys.argv[1])
saved = torch.load(sys.argv[2])
output, (h, c) = program.module()(saved["x"])
assert torch.equal(output, saved["output"]) and torch.equal(c, saved["c"])
print("same")
"""


@backends(kernels=True)
def test_loads_in_a_fresh_process(backend, tmp_path):
    if backend == "triton":
        pytest.skip("a saved program names the native op")
    layer = fast("lstm", 4, 6, backend=backend).eval()
    x = randn(9, 2, 4)
    with torch.no_grad():
        output, (_, c) = layer(x)
    torch.export.save(exported(layer), tmp_path / "layer.pt2")
    torch.save({"x": x, "output": output, "c": c}, tmp_path / "saved.pt")
    files = (str(tmp_path / "layer.pt2"), str(tmp_path / "saved.pt"))
    run = run_python("-c", LOAD, *files, cwd=tmp_path, OMP_NUM_THREADS="1")
    assert run.stdout.strip() == "same", run.stderr


@pytest.mark.filterwarnings("ignore")  # the exporter's own
@pytest.mark.parametrize("cell", ["rnn_tanh", "lstm", "gru"])
def test_onnx_through_restore(cell, tmp_path):
    """ONNX has operators of its own for these layers: restore gives torch.nn's, which export."""
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    layer = fast(cell, 4, 6, num_layers=2, device="cpu").eval()
    x = torch.randn(5, 3, 4)
    expected = layer(x)[0]
    restored = fastrnn.restore(torch.nn.Sequential(layer))
    path = tmp_path / "model.onnx"
    torch.onnx.export(restored, (x,), path, dynamo=False, input_names=["x"])
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (output, *_) = session.run(None, {"x": x.numpy()})
    assert_same(torch.from_numpy(output), expected, 1e-5)

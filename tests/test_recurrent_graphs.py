"""Cells from Python in graphs: compiled, exported, loaded where the cell is, and where not."""

import pytest
import torch
from helpers import assert_same, backends, flat, gradients, randn, run_python
from recurrent_cells import EVERY, EVERY_TITLE, layer_of

each_new_cell = pytest.mark.parametrize("cell", EVERY, ids=EVERY_TITLE)

DEFINITION = """
import torch, fastrnn

@fastrnn.cell(gates=1)
def leaky(x, r, state):
    return ({decay} * state[0] + torch.tanh(x[0] + r[0]),)
"""
SAVE = """
import sys, torch, fastrnn
from leaky_cell import leaky
torch.manual_seed(0)
layer, x = fastrnn.Recurrent(leaky, 4, 6), torch.randn(5, 3, 4)
program = torch.export.export(layer, (x,))
torch.export.save(program, sys.argv[1])
torch.save({"x": x, "output": layer(x)[0].detach()}, sys.argv[2])
"""
LOAD = """
import sys, torch, fastrnn
{before}
saved = torch.load(sys.argv[2])
try:
    output = torch.export.load(sys.argv[1]).module()(saved["x"])[0]
    print("same" if torch.equal(output, saved["output"]) else "other numbers")
except (RuntimeError, ValueError) as error:
    print(error)
"""


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@backends(kernels=True)
@each_new_cell
def test_one_graph(cell, backend):
    layer = layer_of(cell, 4, 6, dtype=torch.float32, bidirectional=True, backend=backend)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for t, b in ((5, 3), (9, 4)):
        x = randn(t, b, 4, grad=True)
        ours, eager = compiled(x), layer(x)
        assert_same(ours, eager, 0.0)
        inputs = [x, *layer.parameters()]
        assert_same(gradients(flat(ours), inputs), gradients(flat(eager), inputs), 1e-5)


@backends(kernels=True)
@each_new_cell
def test_exported_programs_train(cell, backend):
    layer = layer_of(cell, 4, 6, dtype=torch.float32, backend=backend)
    x = randn(5, 3, 4)
    program = torch.export.export(layer, (x,)).module()
    assert_same(program(x), layer(x), 0.0)
    grads = gradients(flat(program(x)), list(program.parameters()))
    named = dict(zip(dict(program.named_parameters()), grads))
    exact = dict(zip(dict(layer.named_parameters()), gradients(layer(x), list(layer.parameters()))))
    assert_same([named[k] for k in exact], list(exact.values()), 1e-5)


def test_a_saved_program_needs_its_cell(tmp_path):
    """It runs where the cell is imported; elsewhere, and where it has changed, an error says so."""
    (tmp_path / "leaky_cell.py").write_text(DEFINITION.format(decay=0.5))
    files = (str(tmp_path / "layer.pt2"), str(tmp_path / "saved.pt"))
    saved = run_python("-c", SAVE, *files, cwd=tmp_path)
    assert saved.returncode == 0, saved.stderr

    def load(before: str) -> str:
        done = run_python("-c", LOAD.format(before=before), *files, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert load("import leaky_cell") == "same"
    assert "'leaky' is not known: import the module that defines leaky@" in load("")
    (tmp_path / "leaky_cell.py").write_text(DEFINITION.format(decay=0.25))
    assert "'leaky' has changed: this needs leaky@" in load("import leaky_cell")

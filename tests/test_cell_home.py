"""A cell has one home, its entry in fastrnn.cells: a new one needs no edit elsewhere."""

import ast
import csv
import os
import re
from pathlib import Path

import pytest
from helpers import CELLS, TORCH_CELLS, fast, plain, run_python

from fastrnn import cells, ops

ROOT = Path(__file__).resolve().parents[1]
HOMES = {"cells/builtin.py", "modules.py", "cell_modules.py", "triton/cells.py"}
HOMES |= {"adapters/torchrl.py"}  # its attributes' names
HOMES |= {"stream_file/reading.py"}  # which cell has a projection in a file
# What other libraries have.
TRANSLATORS = {f"peers/{name}.py" for name in ("forms", "cuda_layers", "int8")}
TRANSLATORS |= {"cases/zoo_cells.py"}
NO_KERNEL = "no kernel for the cell 'toy'" if ops.NATIVE_BUILT else "not built"

TOY = """
import sys
import torch
from fastrnn import cells

def step(x, r, state):
    z, n = torch.sigmoid(x[0] + r[0]), torch.tanh(x[1] + r[1])
    return (z * state[0] + (1 - z) * n,)

cells.add(cells.Cell("toy", gates=2, states=1, step=step, saved=2))

if __name__ == "__main__":
    from benchmarks.__main__ import main
    sys.exit(main(sys.argv[1:]))
"""
PARITY = """
import toy
import pytest
import torch
from helpers import TORCH_CELLS, assert_same, backends, each_cell, fast, flat, gradients, hx, oracle
from helpers import plain, randn

@backends()
@each_cell()
def test_parity(cell, backend):
    layer, x = fast(cell, 4, 6, backend=backend, dtype=torch.float64), randn(5, 3, 4).double()
    state, weights = hx(cell, 1, 3, 6, dtype=torch.float64), list(layer.parameters())
    ours, exact = layer(x, state), oracle(cell, x, weights, flat(state))
    assert_same(ours, exact, 1e-12)
    assert_same(gradients(ours, weights), gradients(exact, weights), 1e-12)

def test_torch_has_no_toy():
    assert "toy" not in TORCH_CELLS
    with pytest.raises(ValueError, match="torch.nn has no layer of the cell 'toy'"):
        plain("toy", 4, 6)
"""


def test_benchmarks_and_helpers_name_no_cell():
    specs = cells.CELLS.values()
    names = {n for s in specs for n in (s.name, s.layer, s.torch_layer, s.torch_layer.lower()) if n}
    names.discard("rnn")  # nn.utils.rnn is a module; "rnn" as a string is caught below
    word = re.compile(rf"\b({'|'.join(sorted(names))})\b|\brnn_|[\"']rnn[\"']")
    home = ROOT / "benchmarks"
    others = {home / name for name in TRANSLATORS} | {*(home / "clients").glob("*.py")}
    files = [p for p in home.rglob("*.py") if p not in others]
    assert len(files) > 20
    for path in (*files, ROOT / "tests/helpers.py"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert not word.search(line), f"{path.relative_to(ROOT)}:{number} names a cell: {line}"


def test_fastrnn_decides_by_no_cell_name():
    for path in (ROOT / "fastrnn").rglob("*.py"):
        if str(path.relative_to(ROOT / "fastrnn")) not in HOMES:
            for node in ast.walk(ast.parse(path.read_text())):
                value = node.value if isinstance(node, ast.Constant) else None
                assert value not in CELLS, f"{path}:{node.lineno} names the cell {value}"


@pytest.mark.parametrize("cell", CELLS)
def test_the_table_says_which_layers_have_a_cell(cell):
    layer = fast(cell, 3, 4)
    assert layer.cell == cell and layer.states == cells.get(cell).states
    if cell in TORCH_CELLS:
        assert type(plain(cell, 3, 4)) is layer.stands_for
    else:
        with pytest.raises(ValueError, match=r"Unknown nonlinearity|no layer of the cell"):
            layer.stands_for(3, 4, **cells.get(cell).arguments)


@pytest.fixture
def toy(tmp_path):
    """A folder with a program that registers a cell, and what runs Python there."""
    (tmp_path / "toy.py").write_text(TOY)
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests", tmp_path)))
    return lambda *arguments: run_python(*arguments, cwd=tmp_path, PYTHONPATH=path)


def test_helpers_take_up_a_new_cell(toy, tmp_path):
    (tmp_path / "test_it.py").write_text(PARITY)
    done = toy("-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-k", "toy", "test_it.py")
    assert re.search(r"^2 passed, \d skipped", done.stdout, re.M), done.stdout + done.stderr
    assert NO_KERNEL in done.stdout


@pytest.mark.slow
def test_benchmarks_take_up_a_new_cell(toy, tmp_path):
    for module in ("pandas", "matplotlib", "tqdm"):
        pytest.importorskip(module)
    peers = "torch.nn,fastrnn,reference,onnxruntime,jax,flashrnn,haste"
    done = toy("toy.py", "--quick", "--cells", "toy", "--modes", "inference", "--threads", "1",
               "--peers", peers, "--no-memory", "--out", str(tmp_path / "out"))  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    with (tmp_path / "out" / "results.csv").open() as file:
        rows = {r["contestant"]: r for r in csv.DictReader(file) if r["cell"] in ("toy", "")}
    assert rows["reference"]["status"] in ("ok", "unsteady")  # of a busy machine
    assert float(rows["reference"]["p50"]) > 0
    others = {name: row for name, row in rows.items() if name != "reference"}
    assert set(others) == set(peers.split(",")) - {"reference"}
    for name, row in others.items():
        assert row["status"] in ("unsupported", "missing"), f"{name}: {row}"
    assert "torch.nn has no toy" in others["torch.nn"]["note"]
    assert NO_KERNEL in others["fastrnn"]["note"]

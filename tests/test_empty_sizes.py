"""Hidden and input sizes of 0, where torch.nn allows them: empty results, and no crash."""

import pytest
import torch
from helpers import run_python
from torch import nn

import fastrnn

CELLS = ["RNNCell", "LSTMCell", "GRUCell"]
SIZES = [(3, 0, 2), (0, 3, 2), (0, 0, 2), (3, 4, 0)]

# In a process of its own: what is tested for is a crash. One process for all, as its start takes
# longest; it says what it has done before it goes on.
PROGRAM = """
import itertools, traceback, torch, fastrnn
from torch import nn

def compare(name, i, h, b):
    ours, theirs = getattr(fastrnn, "Fast" + name)(i, h), getattr(nn, name)(i, h)
    theirs.load_state_dict(ours.state_dict())
    results = []
    for cell in (ours, theirs):
        x = torch.ones(b, i, requires_grad=True)
        after = cell(x)
        after = after if isinstance(after, tuple) else (after,)
        sum(a.sum() for a in after).backward()
        with torch.no_grad():
            cell(x)
        results.append([*after, x.grad, *(p.grad for p in cell.parameters())])
    for a, b in zip(*results):
        a, b = (torch.zeros(p.shape) if g is None else g for p, g in ((b, a), (b, b)))
        assert a.shape == b.shape and torch.allclose(a, b, atol=1e-6), (a, b)

for name, sizes in itertools.product(CELLS, SIZES):
    try:
        compare(name, *sizes)
    except Exception:
        traceback.print_exc()
    else:
        print(name, *sizes, flush=True)
"""


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    program = f"CELLS, SIZES = {CELLS}, {SIZES}\n{PROGRAM}"
    return run_python("-c", program, cwd=tmp_path_factory.mktemp("cells"))


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_cells(name, sizes, compared):
    """One that crashes fails together with all after it."""
    done = compared.stdout.splitlines()
    assert " ".join(map(str, (name, *sizes))) in done, (done, compared.stderr[-2000:])


def test_the_process_of_the_cells_ends_well(compared):
    assert compared.returncode == 0, compared.stderr[-2000:]


def test_scan_without_units():
    for backend in ("native", "reference"):
        output, state = fastrnn.functional.scan(
            "gru", torch.ones(3, 2, 0), torch.ones(0, 0), None, torch.ones(2, 0), backend=backend
        )
        assert output.shape == (3, 2, 0) and state.shape == (2, 0)


@pytest.mark.parametrize("sizes", [(3, 0), (0, 3)], ids=str)
def test_layers_need_both_as_in_torch(sizes):
    for cls in (nn.LSTM, fastrnn.FastLSTM):
        with pytest.raises(ValueError, match="_size must be greater than zero"):
            cls(*sizes)

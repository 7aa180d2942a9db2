"""Cells written by hand are the compiler's oracle: derived ones give the same numbers."""

import pytest
import torch
from helpers import assert_same, backends, fast, flat, gradients, hx, randn, slow_but

import fastrnn
from fastrnn import cells
from fastrnn.cells.builtin import BUILTIN

QUICK = [("lstm", torch.float32), ("gru", torch.float64)]
EVERY = [(c.name, d) for c in BUILTIN for d in (torch.float32, torch.float64, torch.bfloat16)]
ROUNDING = {torch.float64: 1e-12, torch.float32: 5e-6, torch.bfloat16: 0.04}


def derived_twin(name: str, *sizes: int, **options):
    """(the layer of a cell written by hand, that of its derived version), with the same weights."""
    written = cells.get(name)
    derived = fastrnn.cell(gates=written.gates, states=written.states, name=f"derived_{name}")(
        written.step
    )
    by_hand = fast(name, *sizes, **options)
    layer = fastrnn.Recurrent(derived, *sizes, **options)
    layer.load_state_dict(by_hand.state_dict())
    return by_hand, layer


@backends(kernels=True)
@pytest.mark.parametrize("case", slow_but(QUICK, EVERY), ids=lambda case: "-".join(map(str, case)))
@pytest.mark.parametrize("recompute_gates", [False, True])
def test_derived_cells_equal_those_written_by_hand(case, backend, recompute_gates, poisoned):
    name, dtype = case
    options = dict(num_layers=2, bidirectional=True, dtype=dtype, recompute_gates=recompute_gates)
    by_hand, derived = derived_twin(name, 5, 33, backend=backend, **options)
    x, state = randn(9, 6, 5, dtype=dtype, grad=True), hx(name, 4, 6, 33, dtype=dtype, grad=True)
    resets = torch.rand(9, 6, device=x.device) < 0.2
    lengths = [9, 0, 3, 8, 8, 1]
    results, slopes = [], []
    for layer in (by_hand, derived):
        result = layer(x, state, lengths=lengths, resets=resets)
        results.append(result)
        slopes.append(gradients(result, [x, *flat(state), *layer.parameters()]))
    assert_same(*results, ROUNDING[dtype])
    size = max(g.abs().max().item() for g in slopes[0])
    assert_same(*slopes, ROUNDING[dtype] * size)


@pytest.mark.parametrize("name", [c.name for c in BUILTIN])
def test_derived_cells_keep_what_is_kept_by_hand(name):
    written = cells.get(name)
    derived = fastrnn.cell(gates=written.gates, states=written.states)(written.step)
    assert (derived.saved, derived.kept) == (written.saved, written.kept)

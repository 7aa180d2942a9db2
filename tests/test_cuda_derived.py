"""CUDA kernels of cells that are derived from their steps, in the simulator: the header of several
emitted policies, and the maths that such policies call, for exact and for fast numbers."""

import json

import cuda_bugs
import cuda_more_cells
import pytest
import torch
from cuda_simulation import ENGINES, SMALL, Simulator, case, check
from derived_cells import STEPS

import fastrnn
from fastrnn import cells
from fastrnn.cells import cpp

pytestmark = pytest.mark.usefixtures("poisoned")
NAMESPACE = "fastrnn_sim_derived"


def every_function(x, r, state, p):
    """Six gates, three states, and one of each function that a policy may call."""
    a, b, c, d, e, f = (left + right for left, right in zip(x, r))
    h, s, m = state
    a = torch.where(a > b, torch.sin(a), torch.cos(b * p[0]))
    c = torch.log1p(torch.exp(-c.abs())) + torch.expm1(-d * d)
    big = (e.abs() >= 1.5) | ~(f <= 0.5)
    s = torch.sigmoid(d) * s + torch.where(big, torch.erf(e), torch.log(1 + e * e))
    m = torch.minimum(torch.maximum(m * 0.5, f), 2 + p[1])
    return torch.tanh(a + c - h / 4) * torch.sqrt(1 + s * s) / 2, s / 2, m


def every_smooth_function(x, r, state, p):
    """Those without a kink or a jump, beside which a rounding error could be a large one."""
    a, b, c, d, e, f = (left + right for left, right in zip(x, r))
    h, s, m = state
    a = torch.sin(a) * torch.cos(b * p[0])
    c = torch.log1p(torch.exp(-c * c)) + torch.expm1(-d * d)
    s = torch.sigmoid(d) * s + torch.erf(e) * torch.log(1 + e * e)
    m = 0.5 * m + torch.tanh(f) + p[1]
    return torch.tanh(a + c - h / 4) * torch.sqrt(1 + s * s) / 2, s / 2, m


def declared() -> list[cells.Cell]:
    steps = STEPS | {f.__name__: (f, 6, 3, 2) for f in (every_function, every_smooth_function)}
    return [
        fastrnn.cell(gates=g, states=s, params=p, name=name)(step)
        for name, (step, g, s, p) in steps.items()
    ]


def header(derived: list[cells.Cell]) -> str:
    """As csrc/cells/registry.h says: their policies, then names and the list."""
    named = [
        f"struct Cell{i} : {cpp.struct_name(cell)} "
        f"{{ static constexpr const char* kName = {json.dumps(cell.name)}; }};"
        for i, cell in enumerate(derived)
    ]
    listed = " ".join(f"F(cell{i}, Cell{i})" for i in range(len(derived)))
    texts = [cpp.policy(cell).replace("#pragma once\n", "") for cell in derived]
    return "\n".join(
        [
            "#pragma once",
            *texts,
            "namespace fastrnn {",
            *named,
            "}",
            f"#define FASTRNN_CELLS(F) {listed}\n",
        ]
    )


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    before = dict(cells.CELLS)
    derived = declared()
    tree = tmp_path_factory.mktemp("derived")
    cuda_bugs.make_tree(tree)
    (tree / "tests/cuda/derived.h").write_text(header(derived))
    define = (f"FASTRNN_LIBRARY={NAMESPACE}",)
    simulator = Simulator(cuda_more_cells.simulator.build(tree, define, "derived.h"), NAMESPACE)
    yield simulator, {cell.title: cell.name for cell in derived}
    cells.CELLS.clear()
    cells.CELLS.update(before)


PRECISE = [(title, "ieee") for title in (*STEPS, "every_function", "every_smooth_function")]
FAST = [(title, "bfloat16") for title in (*STEPS, "every_smooth_function")]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("title", "kind"), PRECISE + FAST)
def test_values_and_gradients(library, title, engine, kind):
    simulator, names = library
    simulator.configure(seed=0, limits=SMALL)
    h = 33 if title in STEPS else 20  # weights of six gates that one block can hold
    form = dict(h=h, b=11, t=4, sizes=[10, 6, 3, 1], directions=3, resets=True)
    check(simulator, engine, kind, case(names[title], kind, **form))

"""Trust: hypothesis draws steps, and the C++ derived from them is held to autograd in float64."""

from __future__ import annotations

import ctypes
import math
import os
import subprocess
from pathlib import Path

import pytest
import torch
from derived_cells import ORACLES, PARTS, STEPS, by_autograd, leaves_of
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from random_cells import ACROSS, ONE, TWO, Step, steps

from buildtools.native import FLAGS, ISAS_X86_64
from fastrnn import ops
from fastrnn.cells import cpp
from fastrnn.cells.derive import derive
from fastrnn.cells.spec import Cell

ROOT = Path(__file__).resolve().parents[1]
UNITS = 64  # of each array; a multiple of every register's width
CELLS = int(os.environ.get("FASTRNN_RANDOM_CELLS", 40))  # in one compile
pytestmark = pytest.mark.skipif(not ops.NATIVE_BUILT, reason="no C++ compiler was used here")


def compile_policies(derived, folder: Path) -> ctypes.CDLL:
    """A library with scalar_N, vector_N and float_N for each of some derived cells."""
    folder.mkdir(exist_ok=True)
    lines = ['#include "policies.h"']
    for number, d in enumerate(derived):
        cell = Cell(f"cell_{number}@0", d.gates, d.states, None, len(d.saved), derived=d,
                    params=d.params)  # fmt: skip
        lines += [cpp.policy(cell).replace("#pragma once", "")]
        lines += [f"RUN_POLICY({number}, {cpp.struct_name(cell)}, {d.params})"]
    (folder / "cells.cpp").write_text("\n".join(lines))
    includes = [f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'tests' / 'cpu'}"]
    isa = ISAS_X86_64.get(ops.BUILD_INFO["isa"], [])
    subprocess.run(
        ["c++", *FLAGS, "-O1", *isa, *includes, "-fvisibility=default", "-DFASTRNN_ISA=here",
         "-DFASTRNN_DTYPE=double", "-Werror", "-shared", folder / "cells.cpp", "-o",
         folder / "cells.so"],
        check=True,
    )  # fmt: skip
    return ctypes.CDLL(folder / "cells.so")


def by_policy(library: ctypes.CDLL, kind: str, number: int, leaves: dict) -> dict:
    """A step's results and gradients from the compiled policy; what it does not write is NaN."""
    dtype = torch.float32 if kind == "float" else torch.float64
    count = {op: len(tensors) for op, tensors in leaves.items()}
    sizes = {"next": count["prev"], "dx": count["x"], "dr": count["r"], "dprev": count["prev"],
             "dparam": count["param"]}  # fmt: skip
    nothing = torch.empty(0, UNITS, dtype=torch.float64)
    given = [leaves[op] for op in ("x", "r", "prev", "param", "d")]
    arrays = [(torch.stack(t) if t else nothing).to(dtype) for t in given]
    arrays += [torch.full((size, UNITS), torch.nan, dtype=dtype) for size in sizes.values()]
    pointers = (ctypes.c_void_p * len(arrays))(*(a.data_ptr() for a in arrays))
    getattr(library, f"{kind}_{number}")(pointers, ctypes.c_int64(UNITS))
    return {name: list(a.double()) for name, a in zip(sizes, arrays[5:])}


def gap(ours: list, theirs: list) -> float:
    """The largest difference, relative to the larger of 1 and the values."""
    gaps = [((a - b).abs() / b.abs().clamp(min=1)).max().item() for a, b in zip(ours, theirs)]
    return max(gaps, default=0.0) if all(g == g for g in gaps) else torch.inf


def assert_compiled(made: list, folder: Path) -> None:
    """made: (step, gates, states, params) of some cells."""
    library = compile_policies([derive(*m) for m in made], folder)
    for number, (step, *counts) in enumerate(made):
        leaves = leaves_of(*counts, shape=(UNITS,), seed=number)
        exact = by_autograd(step, leaves)
        rounded = {op: [t.float().double() for t in ts] for op, ts in leaves.items()}
        exact_of_rounded = by_autograd(step, rounded)
        for kind, limit in (("scalar", 1e-11), ("vector", 1e-11), ("float", 2e-3)):
            ours = by_policy(library, kind, number, leaves)
            theirs = exact_of_rounded if kind == "float" else exact
            for part in PARTS:
                error = gap(ours[part], theirs[part])
                assert error <= limit, (
                    f"{kind}, {part}: off by {error:.3g} in cell {number}: {step}"
                )


def one_sided(x, r, state):
    """Bounds that are infinite, on either side."""
    low = torch.clamp(x[0], -math.inf, 0.5)
    return (low * torch.clamp(r[0], -0.5, math.inf) + state[0] / 2,)


def changing_places(x, r, state):
    """The gradients of two states become each other's."""
    return state[1] + x[0] * r[0], state[0]


def signs(x, r, state):
    """What is taken off, or negative, is a sum itself."""
    return (-(x[0] + r[0]) * state[0] - (r[0] - torch.exp(-(x[0] - state[0]))),)


def test_written_cells(tmp_path):
    edges = (one_sided, 1, 1, 0), (changing_places, 1, 2, 0), (signs, 1, 1, 0)
    written = [*STEPS.values(), *ORACLES.values(), *edges]
    assert_compiled(written, tmp_path)


def test_every_function(tmp_path):
    trees = [(name, *[("x", 0)] * (name in TWO), ("prev", 0)) for name in (*ONE, *TWO)]
    made = [Step(1, 1, 1, (("add", ("mul", tree, ("param", 0)), ("r", 0)),)) for tree in trees]
    assert_compiled([(s, s.gates, s.states, s.params) for s in made], tmp_path)


@settings(
    max_examples=1, phases=[Phase.generate], deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(made=st.lists(steps(), min_size=CELLS, max_size=CELLS))
def test_random_steps(made, tmp_path_factory):
    assert_compiled([(s, s.gates, s.states, s.params) for s in made], tmp_path_factory.mktemp("r"))


def test_what_looks_across(tmp_path):
    trees = [(name, ("add", ("x", 0), ("prev", 0))) for name in ACROSS]
    made = [Step(1, 1, 1, (("add", ("mul", tree, ("param", 0)), ("r", 0)),)) for tree in trees]
    assert_compiled([(s, s.gates, s.states, s.params) for s in made], tmp_path)


@pytest.mark.slow
@settings(
    max_examples=1, phases=[Phase.generate], deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(made=st.lists(steps(across=True), min_size=CELLS, max_size=CELLS))
def test_random_steps_that_look_across(made, tmp_path_factory):
    assert_compiled([(s, s.gates, s.states, s.params) for s in made], tmp_path_factory.mktemp("r"))

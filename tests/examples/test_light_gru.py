"""The example of a new cell: its three implementations agree, and it learns."""

import ctypes
import importlib
import os
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import PROGRAMS

from fastrnn import backends, cells, functional

ROOT = PROGRAMS.parent
HARNESS = """
#include "cells/registry.h"
extern "C" void forward(const double* x, const double* r, const double* h, double* next,
                        double* k) {
  fastrnn::LightGru::forward(x, r, h, next, k);
}
extern "C" void backward(const double* k, const double* h, const double* next, double* d,
                         double* dx) {
  fastrnn::LightGru::backward(k, h, next, d, dx, dx);
}
static_assert(fastrnn::kCells[fastrnn::kCellCount - 1].gates == 2, "not in the cell list");
"""


@pytest.fixture(scope="module")
def example():
    """The module, which registers the cell for the time of these tests only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PROGRAMS / "light_gru")
        patch.setattr(cells, "CELLS", dict(cells.CELLS))
        if importlib.util.find_spec("triton"):
            from fastrnn.triton import cells as triton_cells

            patch.setattr(triton_cells, "TRITON_CELLS", dict(triton_cells.TRITON_CELLS))
            from fastrnn.triton import engine

            patch.setattr(engine, "TRITON_CELLS", triton_cells.TRITON_CELLS)
        yield importlib.import_module("light_gru")


def arguments(dtype, t=5, b=3, h=6):
    shapes = [(t, b, 2 * h), (2 * h, h), (2 * h,), (b, h)]
    return [torch.randn(s, dtype=dtype).requires_grad_() for s in shapes]


def scanned(backend, gx, weight, bias, h, **options):
    output, final = functional.scan("light_gru", gx, weight, bias, (h,), backend=backend, **options)
    return output, final[0]


def test_reference_gradients(example):
    assert torch.autograd.gradcheck(
        lambda *a: scanned("reference", *a), arguments(torch.float64, t=3, b=2, h=3)
    )


@pytest.fixture(scope="module")
def built_with_it(tmp_path_factory):
    """A source tree whose native library has this cell and, to be quick, no other."""
    tree = tmp_path_factory.mktemp("tree")
    for part in ("csrc", "fastrnn", "buildtools", "tests", "examples"):
        unwanted = shutil.ignore_patterns("*.so", "__pycache__")
        shutil.copytree(ROOT / part, tree / part, ignore=unwanted)
    for file in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, tree)
    registry = tree / "csrc/cells/registry.h"
    lines = [line for line in registry.read_text().splitlines(True) if not line.startswith("  F(")]
    registry.write_text("".join(lines))
    environment = os.environ | {
        "FASTRNN_EXTRA_CELLS": str(PROGRAMS / "light_gru" / "light_gru.h"), "FASTRNN_CUDA": "0",
    }  # fmt: skip
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    subprocess.run(command, cwd=tree, env=environment, check=True)
    return tree


@pytest.mark.slow  # compiles the native library once more
def test_native_kernels(built_with_it):
    """The tests of this file, in a process whose native library has the cell."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "agree and native",
    ]
    done = subprocess.run(
        [*command, "tests/examples/test_light_gru.py"], cwd=built_with_it, capture_output=True,
        text=True, env=os.environ | {"PYTHONPATH": str(built_with_it)},
    )  # fmt: skip
    assert "2 passed" in done.stdout and "skipped" not in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("backend", ["native", "triton"])
@pytest.mark.parametrize("form", ["plain", "ragged_reverse_resets"])
def test_kernels_agree_with_the_reference(example, backend, form):
    try:
        backends.choose("light_gru", "cpu", torch.float32, backend)
    except RuntimeError as refusal:
        pytest.skip(str(refusal))
    ours = arguments(torch.float32)
    options = {}
    if form != "plain":
        ours[0] = ours[0].detach().flatten(0, 1)[:9].requires_grad_()
        sizes, resets = torch.tensor([3, 2, 2, 1, 1]), torch.rand(9) < 0.3
        options = dict(batch_sizes=sizes, resets=resets, reverse=True)
    exact = [t.detach().double().requires_grad_() for t in ours]
    got, expected = scanned(backend, *ours, **options), scanned("reference", *exact, **options)
    got += torch.autograd.grad(sum(g.sum() for g in got), ours)
    expected += torch.autograd.grad(sum(e.sum() for e in expected), exact)
    for a, b in zip(got, expected):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
def test_policy_header_agrees_with_the_step(example, tmp_path):
    """The C++ policy, alone and in the cell list, against the step's values and autograd."""
    (tmp_path / "harness.cpp").write_text(HARNESS)
    header = PROGRAMS / "light_gru" / "light_gru.h"
    subprocess.run(
        ["g++", "-std=c++17", "-shared", "-fPIC", f'-DFASTRNN_EXTRA_CELLS="{header}"',
         f"-I{ROOT / 'csrc'}", "harness.cpp", "-o", "harness.so"],
        cwd=tmp_path, check=True,
    )  # fmt: skip
    library = ctypes.CDLL(str(tmp_path / "harness.so"))
    for _ in range(20):
        x, r = (torch.randn(2, dtype=torch.float64).requires_grad_() for _ in range(2))
        h = torch.randn(1, dtype=torch.float64).requires_grad_()
        (expected,) = example.step(x[:, None], r[:, None], (h,))
        weight = torch.randn(1, dtype=torch.float64)
        dx, dh = torch.autograd.grad(expected, (x, h), weight)
        c = [(ctypes.c_double * 2)(*t.tolist()) for t in (x, r, h)]
        next, kept, got = ((ctypes.c_double * 2)() for _ in range(3))
        library.forward(*c, next, kept)
        grad = (ctypes.c_double * 1)(weight.item())
        library.backward(kept, c[2], next, grad, got)
        assert next[0] == pytest.approx(expected.item(), abs=1e-14)
        assert list(got) == pytest.approx(dx.tolist(), abs=1e-14)
        assert grad[0] == pytest.approx(dh.item(), abs=1e-14)


def test_without_a_kernel_the_error_says_so(example, monkeypatch):
    spec = cells.CellSpec("no_kernel", gates=2, states=1, saved=2, step=example.step)
    monkeypatch.setitem(cells.CELLS, "no_kernel", spec)
    with pytest.raises(RuntimeError, match="native library has no kernel for the cell 'no_kernel'"):
        backends.choose("no_kernel", "cpu", torch.float32, "native")
    pytest.importorskip("triton")
    with pytest.raises(RuntimeError, match="cell 'no_kernel' has no Triton functions"):
        backends.choose("no_kernel", "cuda", torch.float32, "triton")


def test_it_learns(example, capsys):
    example.main(["--steps", "60", "--backend", "reference", "--device", "cpu"])
    said = capsys.readouterr().out
    assert "light_gru runs on the reference backend" in said
    first, last = example.remember(60, "reference", "cpu")
    assert last < 0.5 * first

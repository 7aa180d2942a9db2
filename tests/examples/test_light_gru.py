"""The example of a cell of one's own: it is short, has kernels, and learns."""

import importlib

import pytest
import torch
from conftest import PROGRAMS

import fastrnn
from fastrnn import backends


@pytest.fixture
def example():
    return importlib.import_module("light_gru")


def test_it_is_one_short_file():
    assert len((PROGRAMS / "light_gru.py").read_text().splitlines()) < 60


def test_it_runs_on_compiled_kernels_and_learns(example, capsys):
    example.main(["--steps", "60", "--device", "cpu"])
    said = capsys.readouterr().out
    served, _ = backends.choose(example.light_gru.name, "cpu", torch.float32)
    assert served.name in said and "light_gru" in said
    first, last = example.remember(60, "auto", "cpu")
    assert last < 0.5 * first


def test_its_kernels_learn_what_the_reference_learns(example):
    kernels, reference = (example.remember(10, b, "cpu") for b in ("auto", "reference"))
    assert kernels == pytest.approx(reference, rel=1e-3)


def test_the_cell_of_the_docs_is_that_of_the_example(example):
    text = (PROGRAMS.parent / "docs" / "adding_a_cell.md").read_text()
    assert example.light_gru.name in text, "docs/adding_a_cell.md shows another kernel"
    source = fastrnn.cells.cpp.policy(example.light_gru)
    body = source[source.index("struct LightGru") : source.index("};")]
    assert body in text, "docs/adding_a_cell.md shows another kernel"

"""Cells from Python in the native library: `provide` and `refusal`, and libraries made ahead."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fake_compilers import REAL, answering, make

import fastrnn
from fastrnn import cells, compiled, ops
from fastrnn.compiled import prebuilt, program

DEFINITION = """
import torch, fastrnn

@fastrnn.cell(gates=1)
def leaky(x, r, state):
    return (0.9 * state[0] + {share} * torch.tanh(x[0] + r[0]),)
"""


@pytest.fixture
def leaky(monkeypatch):
    """Makes a version of a cell, as a notebook's cell that is run again would."""
    monkeypatch.setattr(cells, "CELLS", dict(cells.CELLS))
    monkeypatch.setattr(compiled, "CELLS", cells.CELLS)
    monkeypatch.setattr(program, "library_version", lambda: 7)

    def define(share: float = 0.1) -> cells.Cell:
        scope = {"__name__": __name__}
        exec(DEFINITION.format(share=share), scope)
        return scope["leaky"]

    return define


@pytest.fixture
def loaded(monkeypatch, cache_folder):
    """What was given to the native library, in the place of which there is a list."""
    paths: list[str] = []
    monkeypatch.setattr(compiled, "_op", lambda: paths.append)
    monkeypatch.setattr(compiled, "_known", {})
    monkeypatch.setattr(compiled, "_told", set())
    monkeypatch.setattr(prebuilt, "_folders", [])
    monkeypatch.setattr(ops, "NATIVE_BUILT", True)
    return paths


@pytest.fixture
def quick(monkeypatch):
    """Compiles a function in the place of kernels, under the key that those would have."""
    calls = []

    def library(made, compiler):
        calls.append(made)
        text = {"key.h": f"// {made.key(compiler)}\n"}
        plain = answering(facts=made.facts)
        return make(replace(plain, sources={**plain.sources, **text}))

    monkeypatch.setattr(compiled, "_library", library)
    return calls


needs_compiler = pytest.mark.skipif(REAL is None, reason="no C++ compiler here")


@needs_compiler
def test_loaded_once(leaky, loaded, quick):
    cell = leaky()
    assert compiled.refusal(cell.name, torch.float32) is None
    assert compiled.refusal(cell.name, torch.float32) is None
    compiled.provide(cell.name, "float32")
    assert len(loaded) == len(quick) == 1 and Path(loaded[0]).name == "cell.so"
    compiled.provide(cell.name, "bfloat16")
    assert len(set(loaded)) == 2


@needs_compiler
def test_a_cell_that_is_run_again_or_changed(leaky, loaded, quick):
    one, same, other = leaky(), leaky(), leaky(0.2)
    assert one.name == same.name != other.name and one.title == other.title
    for cell in (one, same, other, one):
        compiled.provide(cell.name, "float32")
    assert len(set(loaded)) == len(loaded) == 2


def test_what_there_are_no_kernels_of(leaky, loaded):
    cell = leaky()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # these are told by whoever asked
        for builtin in ops.NATIVE_CELLS:
            assert compiled.refusal(builtin, torch.float32) is None
        assert "kernels are for float32, float64, bfloat16" in compiled.refusal(
            cell.name, torch.float16
        )
        assert compiled.refusal("toy", torch.float32) == (
            "the native library has no kernel for the cell 'toy'"
        )
        with pytest.raises(RuntimeError, match="'gone' is not known: import the module"):
            compiled.provide("gone@0123456789abcdef", "float32")
    assert not loaded


def test_without_the_native_library(leaky, monkeypatch):
    cell = leaky()
    monkeypatch.setattr(compiled, "_op", lambda: None)
    assert "build it again" in compiled.refusal(cell.name, torch.float32)
    monkeypatch.setattr(ops, "NATIVE_BUILT", False)
    assert "installed without its native library" in compiled.refusal(cell.name, torch.float32)


def test_without_a_compiler(leaky, loaded, monkeypatch, tmp_path):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    cell = leaky()
    with pytest.warns(UserWarning, match="'leaky' has no compiled kernels for float32: no C"):
        why = compiled.refusal(cell.name, torch.float32)
    assert why.startswith("no C++ compiler found (looked for $CXX")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # told once
        assert compiled.refusal(cell.name, torch.float32) == why
        with pytest.raises(RuntimeError, match="no compiled kernels for float32: no C"):
            compiled.provide(cell.name, "float32")


@needs_compiler
def test_a_library_that_does_not_load(leaky, loaded, quick, monkeypatch):
    def fail(path):
        raise RuntimeError(f"{path}: failed to map segment")

    monkeypatch.setattr(compiled, "_op", lambda: fail)
    with pytest.warns(UserWarning, match="leaky.*failed to map segment"):
        assert "failed to map segment" in compiled.refusal(leaky().name, torch.float32)


def test_a_name_is_a_string_in_cpp_whatever_it_is():
    assert program._literal('a"b\\c?é\n') == '"a\\042b\\134c\\077\\303\\251\\012"'


@pytest.mark.parametrize("dtype", program.DTYPES)
def test_the_sources_of_a_cell(leaky, dtype):
    made = program.of_cell(leaky(), dtype, "avx512bf16" if "avx2" in ops_isas() else "base")
    backward = set() if dtype in program.WEIGHTS else {"backward.cpp"}
    assert set(made.sources) == {"cell.h", "forward.cpp"} | backward
    assert "struct Leaky" in made.sources["cell.h"]
    if "avx2" in ops_isas():  # its instructions are of use to bfloat16 alone
        others = {"bfloat16": "avx512bf16", "int8": "avx512vnni"}
        assert made.facts["isa"] == others.get(dtype, "avx512")
        assert ("-mavx512bf16" in made.flags) == (dtype == "bfloat16")


def ops_isas() -> tuple[str, ...]:
    from fastrnn.compiled import flags

    return tuple(flags.isas())


@needs_compiler
def test_a_folder_made_ahead_is_used(leaky, loaded, quick, tmp_path, monkeypatch):
    cell, out = leaky(), tmp_path / "kernels"
    made = program.of_cell(cell, "float32", program.running_isa())
    target = prebuilt.write(out, make(), dict(made.facts))
    assert target.name == f"{cell.name.replace('@', '-')}-float32-{made.facts['isa']}.so"
    fastrnn.load_kernels(out)
    compiled.provide(cell.name, "float32")
    assert loaded == [str(target)] and not quick

    compiled.provide(cell.name, "float64")  # another dtype
    compiled.provide(leaky(0.2).name, "float32")  # another cell of that title
    assert len(quick) == 2
    for change in ("fastrnn", "library", "sha256"):
        index = json.loads((out / "index.json").read_text())
        (entry,) = index["cells"]
        before, entry[change] = entry[change], "0.0"
        (out / "index.json").write_text(json.dumps(index))
        fastrnn.load_kernels(out)
        compiled._known.clear()
        compiled.provide(cell.name, "float32")
        assert loaded[-1] != str(target), change
        entry[change] = before
        (out / "index.json").write_text(json.dumps(index))


def test_a_folder_made_ahead_for_others_is_named_without_a_compiler(
    leaky, loaded, tmp_path, monkeypatch
):
    cell, library = leaky(), tmp_path / "some.so"
    library.write_bytes(b"code")
    made = program.of_cell(cell, "float32", program.running_isa())
    with monkeypatch.context() as another:
        another.setattr(prebuilt, "__version__", "0.0.9")
        prebuilt.write(tmp_path / "kernels", library, dict(made.facts))
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    fastrnn.load_kernels(tmp_path / "kernels")
    with pytest.raises(RuntimeError, match=r"no C\+\+ compiler .*compiled for fastrnn 0.0.9"):
        compiled.library(cell, "float32", program.running_isa())


def test_a_failure_is_tried_again_with_a_new_folder(leaky, loaded, monkeypatch, tmp_path):
    cell, library = leaky(), tmp_path / "some.so"
    library.write_bytes(b"code")
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.warns(UserWarning):
        assert compiled.refusal(cell.name, torch.float32)
    made = program.of_cell(cell, "float32", program.running_isa())
    target = prebuilt.write(tmp_path / "kernels", library, dict(made.facts))
    fastrnn.load_kernels(tmp_path / "kernels")
    assert compiled.refusal(cell.name, torch.float32) is None and loaded == [str(target)]


@pytest.mark.parametrize(
    ("index", "complaint"),
    [
        (None, "must hold an index.json"),
        ("", "is not what"),
        ("[]", "is not what"),
        ('{"cells": [{"cell": "a"}]}', "an entry without dtype, fastrnn, file"),
    ],
)
def test_a_folder_that_is_none(tmp_path, index, complaint):
    if index is not None:
        (tmp_path / "index.json").write_text(index)
    with pytest.raises(ValueError, match=complaint):
        fastrnn.load_kernels(tmp_path)


def test_a_file_outside_of_the_folder_is_no_library_of_it(tmp_path):
    facts = dict.fromkeys(("cell", "dtype", "isa", "fastrnn", "library", "sha256"), "")
    facts["file"] = "../elsewhere.so"
    (tmp_path / "index.json").write_text(json.dumps({"cells": [facts]}))
    with pytest.raises(ValueError, match="a plain file"):
        fastrnn.load_kernels(tmp_path)

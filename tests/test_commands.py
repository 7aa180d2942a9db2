"""`python -m fastrnn build`, `source` and `cache`, as functions: starting torch takes seconds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_compilers import REAL, answering, make

from fastrnn.commands import main
from fastrnn.compiled import program

MODULE = """
import torch, fastrnn

@fastrnn.cell(gates=1)
def leaky(x, r, state):
    return (0.9 * state[0] + 0.1 * torch.tanh(x[0] + r[0]),)

from fastrnn.cells.builtin import BUILTIN
lstm = BUILTIN[3]
other = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch, cache_folder):
    (tmp_path / "my_cells.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_cells", raising=False)


def test_source(module, capsys):
    assert main(["source", "my_cells:leaky"]) == 0
    out = capsys.readouterr().out
    assert "struct Leaky {" in out and "static void backward(" in out


def test_source_in_triton(module, capsys):
    assert main(["source", "my_cells:leaky", "--triton"]) == 0
    assert "@triton.jit" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["source", "my_cells"], "must be given as MODULE:CELL, got 'my_cells'"),
        (["source", "no_such:cell"], "module 'no_such' cannot be imported: No module named"),
        (["source", "my_cells:other"], "has no cell 'other': its cells are leaky, lstm"),
        (["source", "os.path:join"], "has no cell 'join': it has no cells"),
        (["source", "my_cells:lstm"], "the kernels of 'lstm' are written by hand"),
        (["build", "my_cells:gone", "--out", "x"], "has no cell 'gone'"),
        (["cache", "--older-than", "2"], "--older-than needs --clear"),
    ],
)
def test_complaints(module, capsys, arguments, complaint):
    assert main(arguments) == 1
    told = capsys.readouterr()
    assert told.err.startswith("fastrnn: ") and complaint in told.err and not told.out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["build", "my_cells:leaky"], "required: --out"),
        (["build", "my_cells:leaky", "--out", "x", "--dtype", "int4"], "invalid choice: 'int4'"),
        (["build", "my_cells:leaky", "--out", "x", "--isa", "sse9"], "invalid choice: 'sse9'"),
        (["cache", "--clear", "--older-than", "-1"], "must be a number of days, got -1"),
        (["cache", "--clear", "--older-than", "week"], "invalid days value: 'week'"),
        (["make"], "invalid choice: 'make'"),
    ],
)
def test_usage(module, capsys, arguments, complaint):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2 and complaint in capsys.readouterr().err


@pytest.mark.skipif(REAL is None, reason="no C++ compiler here")
def test_cache(module, cache_folder, capsys):
    assert main(["cache"]) == 0
    assert capsys.readouterr().out == f"no compiled cells: {cache_folder} does not exist\n"
    assert not cache_folder.exists()  # looking makes nothing
    facts = {"cell": "leaky@0123456789abcdef", "dtype": "float32", "isa": "avx2"}
    first = make(answering(1, facts=facts)).parent
    make(answering(2, facts={**facts, "dtype": "float64"}))
    assert main(["cache"]) == 0
    head, one, two = capsys.readouterr().out.splitlines()
    assert head.startswith("2 compiled cells, 0.0 MB, in ") and head.endswith(str(cache_folder))
    assert one.startswith("  leaky@0123456789abcdef  float32, avx2, ") and "float64" in two
    assert main([]) == 0
    report = capsys.readouterr().out
    assert f"2 in {cache_folder}" in report and "cell leaky@0123456789abcdef " in report
    (first / "entry.json").write_text("{")
    assert main(["cache"]) == 0 and "not readable" in capsys.readouterr().out
    assert main(["cache", "--clear", "--older-than", "1"]) == 0
    assert "removed 0 compiled cells" in capsys.readouterr().out
    assert main(["cache", "--clear"]) == 0
    assert "removed 2 compiled cells" in capsys.readouterr().out
    assert list(cache_folder.iterdir()) == []


def test_a_cache_that_is_not_trusted_is_said(module, cache_folder, capsys):
    cache_folder.mkdir()
    cache_folder.chmod(0o777)
    assert main([]) == 0 and "no: " in capsys.readouterr().out
    assert main(["cache", "--clear"]) == 1 and "written by others" in capsys.readouterr().err


@pytest.mark.skipif(REAL is None, reason="no C++ compiler here")
def test_build(module, tmp_path, capsys, monkeypatch):
    from fastrnn.commands import build
    from fastrnn.compiled import flags

    monkeypatch.setattr(build, "library", lambda made, compiler: make())
    monkeypatch.setattr(program, "library_version", lambda: 7)
    out, isa = tmp_path / "out", program.running_isa()
    assert main(["build", "my_cells:leaky", "--out", str(out)]) == 0
    more = ["--isa", isa, "base", "base", "--dtype", "float32", "float64"]
    assert main(["build", "my_cells:leaky", *more, "--out", str(out)]) == 0
    printed = [Path(line) for line in capsys.readouterr().out.splitlines()]
    listed = json.loads((out / "index.json").read_text())["cells"]
    assert all(path.is_file() for path in printed)
    files = {entry["file"] for entry in listed}
    assert files == {path.name for path in printed} and len(listed) == len(files)
    found = {(entry["dtype"], entry["isa"]) for entry in listed}
    served = {flags.isa_for(isa, "float32"), "base"}
    assert found == {(dtype, isa) for dtype in ("float32", "float64") for isa in served}


@pytest.mark.slow
@pytest.mark.skipif(REAL is None, reason="no C++ compiler here")
def test_build_compiles_kernels(module, tmp_path, capfd):
    import ctypes

    assert main(["build", "my_cells:leaky", "--isa", "base", "--out", str(tmp_path / "out")]) == 0
    library = ctypes.CDLL(capfd.readouterr().out.strip())
    assert library.fastrnn_cell


def test_help_ends_well(tmp_path):
    """The one that starts a process: as a user would."""
    done = subprocess.run(
        [sys.executable, "-m", "fastrnn", "--help"], capture_output=True, text=True,
        env={**os.environ, "FASTRNN_CACHE": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0 and "usage: python -m fastrnn" in done.stdout
    assert all(f"    {name} " in done.stdout for name in ("build", "source", "cache"))

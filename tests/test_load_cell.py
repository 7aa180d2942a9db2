"""Loading compiled cells: what is refused, and how a cell that is not there yet is asked for."""

import re
import sys
from dataclasses import replace
from types import SimpleNamespace

import cell_libraries
import pytest
import torch
from cell_libraries import POLICIES, compile_library
from cell_problems import Problem, assert_close

from fastrnn import ops

pytestmark = pytest.mark.skipif(not ops.NATIVE_BUILT, reason="the native library is not built")

# What a library could say of itself, and what is answered.
LIES = {
    "version": ("kCellLibraryVersion + 1", "must have version 8, got 9: compile the cell again"),
    "name": ('"lstm"', "has another cell lstm than this build's own"),
    "gates": ("5", "has another cell test_peephole_lstm than the one loaded before"),
    "dtype": ('"float8"', "has kernels for float8"),
    "isa": ('"mmx"', "is compiled for mmx, which does not run here"),
}
LIAR = """
#include "cpu/library.h"
using namespace fastrnn;
static const CellLibrary library{VERSION, NAME, GATES, 2, 4, 1, 3, 4, 0, 0, false, DTYPE, ISA, {}};
const CellLibrary* fastrnn_cell() { return &library; }
"""


@pytest.mark.parametrize("field", [*LIES, "function", "file"])
def test_a_library_that_does_not_fit_is_refused(field, loaded, tmp_path):
    path, words = tmp_path / "none.so", "cannot be loaded: "
    if field == "function":
        words = "has no function fastrnn_cell"
        path = compile_library(tmp_path, field, {"cpp": ""}, ["-fPIC"])
    elif field != "file":
        truth = dict(version="kCellLibraryVersion", name='"test_peephole_lstm"', gates="4")
        truth.update(dtype='"float64"', isa='"base"')
        lie, words = LIES[field]
        text = LIAR
        for key, value in {**truth, field: lie}.items():
            text = text.replace(key.upper(), value)
        path = compile_library(tmp_path, field, {"cpp": text}, cell_libraries.flags("float64"))
    with pytest.raises(RuntimeError, match=re.escape(words)) as raised:
        torch.ops.fastrnn.load_cell(str(path))
    assert str(path) in str(raised.value)
    problem = Problem("peephole_lstm")
    assert_close(problem.ours(), problem.exact(), 1e-12)


@pytest.fixture
def provide(monkeypatch):
    """provide(function): what the ops find as fastrnn.compiled.provide."""
    monkeypatch.setitem(sys.modules, "fastrnn.compiled", None)  # as if there were no such module

    def place(function):
        module = SimpleNamespace(provide=function)
        monkeypatch.setitem(sys.modules, "fastrnn.compiled", module)

    return place


def test_an_unknown_cell_or_dtype_without_a_compiler(loaded, provide):
    problem = Problem("light_gru")
    with pytest.raises(RuntimeError, match="cell must be one of rnn_tanh, .*, got nothing"):
        torch.ops.fastrnn.forward("nothing", problem.input, [], [], *problem.rest, 1)
    half = Problem("light_gru", dtype=torch.float16)
    with pytest.raises(RuntimeError, match="the CPU kernels take float32, float64 and bfloat16"):
        half.ours()


def test_a_missing_cell_is_asked_of_python_once(loaded, provide, tmp_path):
    asked = []

    def compile_it(name, dtype):
        asked.append((name, dtype))
        torch.ops.fastrnn.load_cell(str(path))

    late = replace(POLICIES["light_gru"], label="late_light_gru")
    path = tmp_path / "late.so"  # the same library, but for the name
    text = loaded["light_gru", "float64"].read_bytes()
    path.write_bytes(text.replace(b"test_light_gru\0", b"late_light_gru\0"))
    problem = Problem("light_gru")
    problem.policy = late
    provide(lambda name, dtype: None)
    with pytest.raises(RuntimeError, match="cell must be one of"):
        problem.ours()
    provide(compile_it)
    for _ in range(2):
        assert_close(problem.ours(), problem.exact(), 1e-12)
    assert asked == [(late.name, "float64")]
    single = Problem("light_gru", dtype=torch.float32)
    single.policy = late
    with pytest.raises(RuntimeError, match=f"cell {late.name} has no CPU kernels for Float"):
        single.ours()
    assert asked[1:] == [(late.name, "float32")]


@pytest.mark.parametrize(
    "error, words", [(ValueError("no g++ here"), "no g++ here"), (KeyError(), "KeyError")]
)
def test_what_python_raises_is_the_error(error, words, loaded, provide):
    def fail(name, dtype):
        raise error

    provide(fail)
    problem = Problem("light_gru")
    with pytest.raises(RuntimeError, match=re.escape(words)):
        torch.ops.fastrnn.forward("nothing", problem.input, [], [], *problem.rest, 1)


def test_an_interrupt_of_the_compiler_stays_one(loaded, provide):
    def interrupt(name, dtype):
        raise KeyboardInterrupt

    provide(interrupt)
    problem = Problem("light_gru")
    with pytest.raises(RuntimeError, match="interrupted by a signal") as raised:
        torch.ops.fastrnn.forward("nothing", problem.input, [], [], *problem.rest, 1)
    assert isinstance(raised.value.__cause__, KeyboardInterrupt)

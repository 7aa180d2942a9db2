"""What pip does with this source tree, offline: wheels, editable installs, clear errors.

The quick run builds one wheel.
"""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from email import message_from_string
from importlib.util import find_spec
from pathlib import Path

import pytest
import source_tree

import fastrnn
from fastrnn import backends, ops

SETUPTOOLS = Path(find_spec("setuptools").origin).parents[1]

# Calls one hook of the build backend, as pip does.
HOOK = """
import sys
from buildtools import backend
print("RESULT", getattr(backend, sys.argv[1])(*sys.argv[2:]))
"""
# How pip isolates a build: the environment's own packages leave sys.path.
ISOLATION = """
import site, sys
hidden = [*site.getsitepackages(), site.getusersitepackages()]
sys.path[:] = [path for path in sys.path if path not in hidden]
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return source_tree.make(tmp_path_factory.mktemp("install") / "tree")


def hook(tree: Path, name: str, *arguments: str, **environment: str):
    # not python -c: the backend finds its source in the current directory, as under pip
    script = tree.parent / "hook.py"
    script.write_text(HOOK)
    path = os.pathsep.join(filter(None, [environment.pop("PYTHONPATH", ""), str(tree)]))
    return source_tree.python(
        str(script), name, *arguments, cwd=tree, PYTHONPATH=path, **environment
    )


def build_wheel(tree: Path, directory: Path, **environment: str) -> zipfile.ZipFile:
    directory.mkdir()
    done = hook(tree, "build_wheel", str(directory), **environment)
    assert done.returncode == 0, done.stdout
    (wheel,) = directory.glob("*.whl")
    return zipfile.ZipFile(wheel)


def isolated(directory: Path) -> str:
    """A PYTHONPATH that hides torch, with nothing but setuptools in it."""
    overlay = directory / "overlay"
    source_tree.write(overlay / "sitecustomize.py", ISOLATION)
    for path in SETUPTOOLS.glob("setuptools*"):  # the package and its metadata
        (overlay / path.name).symlink_to(path)
    return str(overlay)


@pytest.mark.slow
def test_isolated_build_uses_the_torch_that_is_here(tree, tmp_path):
    path = isolated(tmp_path)
    code = "import setuptools, importlib.util as u; print(u.find_spec('torch'))"
    assert source_tree.python("-c", code, cwd=tmp_path, PYTHONPATH=path).stdout.strip() == "None"
    done = hook(tree, "get_requires_for_build_wheel", PYTHONPATH=path)
    assert done.returncode == 0, done.stdout
    assert "torch" not in done.stdout.partition("RESULT")[2]
    wheel = build_wheel(tree, tmp_path / "wheel", PYTHONPATH=path)
    assert "fastrnn/_C.abi3.so" in wheel.namelist()


def test_wheel(tree, tmp_path):
    (tree / "build/lib").mkdir(parents=True, exist_ok=True)
    stale = tree / "build/lib.linux-x86_64-cpython-311/fastrnn/gone.py"
    source_tree.write(stale, "")
    wheel = build_wheel(tree, tmp_path / "wheel")
    assert re.search(r"fastrnn-[\d.]+-cp310-abi3-linux_\w+\.whl$", wheel.filename)
    names = set(wheel.namelist())
    assert {"fastrnn/_C.abi3.so", "fastrnn/py.typed", "fastrnn/triton/__init__.py"} <= names
    outside = {name.split("/")[0] for name in names}
    assert all(name.startswith("fastrnn") for name in outside), outside
    assert not [name for name in names if name.endswith((".cu", ".cuh", "gone.py"))]
    sources = {name.removeprefix("fastrnn/csrc/") for name in names if "/csrc/" in name}
    cells = {"cells/scale.h", "cpu/engine/forward.h"}
    assert sources == {*cells, "c/fastrnn.h", "c/fastrnn.cpp"}
    (metadata,) = (name for name in names if name.endswith("METADATA"))
    facts = message_from_string(wheel.read(metadata).decode())
    assert facts["Version"] == fastrnn.__version__ and facts["Requires-Python"] == ">=3.10"
    needed = [r for r in facts.get_all("Requires-Dist") if "extra ==" not in r]
    assert needed == ["torch>=2.11"]


COMPILE_A_CELL = """
import sys
# that of an editable install of fastrnn would find the _C of the other tree
sys.meta_path[:] = [f for f in sys.meta_path if "__editable__" not in getattr(f, "__module__", "")]
from fastrnn.commands import main
from fastrnn.compiled import headers
print(headers.folder())
sys.exit(main(["build", "leaky:leaky", "--isa", "base", "--out", "out"]))
"""
LEAKY = """
import torch, fastrnn
@fastrnn.cell(gates=1)
def leaky(x, r, state):
    return (0.9 * state[0] + 0.1 * torch.tanh(x[0] + r[0]),)
"""


@pytest.mark.slow
def test_a_cell_compiles_with_what_is_in_a_wheel(tmp_path):
    """The real headers, beside a native library that is none: it would take minutes."""
    rooms = [source_tree.ROOT / "csrc" / room for room in ("cells", "cpu")]
    paths = [path for room in rooms for path in room.rglob("*.h")]
    real = {str(path.relative_to(source_tree.ROOT)): path.read_text() for path in paths}
    tree = source_tree.make(tmp_path / "tree", {**source_tree.SOURCES, **real})
    build_wheel(tree, tmp_path / "wheel").extractall(tmp_path / "site")
    (tmp_path / "site/fastrnn/_C.abi3.so").unlink()
    source_tree.write(tmp_path / "leaky.py", LEAKY)
    path = os.pathsep.join([str(tmp_path / "site"), str(tmp_path)])
    cache = str(tmp_path / "cache")
    done = source_tree.python(
        "-c", COMPILE_A_CELL, cwd=tmp_path, PYTHONPATH=path, FASTRNN_CACHE=cache
    )
    assert done.returncode == 0, done.stdout
    assert str(tmp_path / "site/fastrnn/csrc") in done.stdout
    (library,) = (tmp_path / "out").glob("leaky-*-float32-base.so")
    assert library.read_bytes()[:4] == b"\x7fELF"


@pytest.mark.slow
def test_pure_python_wheel_works(tree, tmp_path):
    """FASTRNN_NATIVE=0: no compiler is needed, nothing native is in it, and it computes."""
    source_tree.write(tree / "fastrnn/_C.abi3.so", "left by an earlier build")
    wheel = build_wheel(tree, tmp_path / "wheel", FASTRNN_NATIVE="0", CXX="no-such-compiler")
    assert wheel.filename.endswith("-py3-none-any.whl")
    assert not [name for name in wheel.namelist() if name.endswith((".so", ".h"))]
    wheel.extractall(tmp_path / "site")
    code = """
import sys, warnings; warnings.simplefilter("ignore")
# that of an editable install of fastrnn would find the _C of the other tree
sys.meta_path[:] = [f for f in sys.meta_path if "__editable__" not in getattr(f, "__module__", "")]
import torch, fastrnn
ours, theirs = fastrnn.FastGRU(3, 5), torch.nn.GRU(3, 5)
ours.load_state_dict(theirs.state_dict())
x = torch.randn(7, 2, 3)
assert torch.allclose(ours(x)[0], theirs(x)[0], atol=1e-6)
print(fastrnn.__file__, fastrnn.explain(ours, x))
"""
    done = source_tree.python("-c", code, cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert done.returncode == 0, done.stdout
    assert str(tmp_path / "site") in done.stdout and "without its native library" in done.stdout


@pytest.mark.slow
def test_editable(tree, tmp_path):
    directory = tmp_path / "wheel"
    directory.mkdir()
    library = tree / "fastrnn/_C.abi3.so"
    library.unlink(missing_ok=True)
    done = hook(tree, "build_editable", str(directory))
    assert done.returncode == 0 and library.read_bytes()[:4] == b"\x7fELF", done.stdout
    done = hook(tree, "build_editable", str(directory), FASTRNN_NATIVE="0")
    assert done.returncode == 0 and not library.exists(), done.stdout


@pytest.mark.slow
def test_sdist_has_all_sources(tree, tmp_path):
    done = hook(tree, "build_sdist", str(tmp_path))
    assert done.returncode == 0, done.stdout
    (archive,) = tmp_path.glob("*.tar.gz")
    shutil.unpack_archive(archive, tmp_path)
    (unpacked,) = tmp_path.glob("fastrnn-*/")
    for name in [*source_tree.SOURCES, "buildtools/native.py", "constraints.txt", "LICENSE"]:
        assert (unpacked / name).exists(), name
    assert not list(unpacked.rglob("*.so"))


@pytest.mark.parametrize(
    "name", ["get_requires_for_build_wheel", "get_requires_for_build_editable"]
)
def test_no_compiler(tree, name):
    """One message, before pip downloads anything; no traceback."""
    done = hook(tree, name, PATH="/nonexistent")
    assert done.returncode == 1
    assert done.stdout.startswith("fastrnn: no C++ compiler found")
    assert "apt install g++" in done.stdout and "FASTRNN_NATIVE=0" in done.stdout
    assert "Traceback" not in done.stdout and "RESULT" not in done.stdout


def test_no_compiler_in_place(tree):
    (tree / "fastrnn/_C.abi3.so").unlink(missing_ok=True)
    done = source_tree.python(
        "setup.py", "-q", "build_ext", "--inplace", cwd=tree, PATH="/nonexistent"
    )
    assert done.returncode == 1 and "no C++ compiler found" in done.stdout
    assert "Traceback" not in done.stdout and not (tree / "fastrnn/_C.abi3.so").exists()


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("CXX", "no-such-compiler -O2", "'no-such-compiler' cannot be run"),
        ("FASTRNN_NATIVE", "no", "FASTRNN_NATIVE must be 0 or 1, got 'no'"),
        ("FASTRNN_CUDA", "yes", "FASTRNN_CUDA must be auto, 0 or 1, got 'yes'"),
        ("MAX_JOBS", "all", "MAX_JOBS must be a positive number, got 'all'"),
    ],
)
def test_bad_variables(tree, variable, value, message):
    done = source_tree.python(
        "setup.py", "-q", "build_ext", "--inplace", cwd=tree, **{variable: value}
    )
    assert done.returncode == 1 and message in done.stdout and "Traceback" not in done.stdout


@pytest.mark.skipif(not ops.NATIVE_BUILT, reason="the native library is not built")
def test_library_uses_stable_interfaces_only():
    """Torch's stable C shims and the limited Python API, so one file serves many versions."""
    library = source_tree.ROOT / "fastrnn/_C.abi3.so"
    if shutil.which("nm") is None:
        pytest.skip("no nm here")
    listing = subprocess.run(
        ["nm", "-D", "--undefined-only", library], capture_output=True, text=True, check=True
    )
    symbols = [line.split()[-1] for line in listing.stdout.splitlines()]
    assert any(symbol.startswith("aoti_torch_") for symbol in symbols)
    unstable = [s for s in symbols if re.match(r"_ZN?K?(2at|3c10|5torch)", s)]
    assert not unstable, unstable
    python = {s for s in symbols if s.startswith("Py")}  # the module itself, and Ctrl-C
    signals = {"Py_IsInitialized", "PyErr_CheckSignals", "PyGILState_Ensure", "PyGILState_Release"}
    # and the call of fastrnn.compiled where a cell's kernels are missing; all in the limited API
    call = {
        "PyImport_ImportModule",
        "PyObject_CallMethod",
        "PyObject_GetAttrString",
        "PyObject_Str",
    }
    text = {"PyUnicode_AsUTF8String", "PyBytes_AsString", "_Py_Dealloc", "Py_DecRef", "Py_IncRef"}
    # and the type of streams
    stream = set(
        "PyArg_ParseTuple PyCapsule_GetPointer PyDict_GetItem PyDict_Size PyEval_RestoreThread "
        "PyEval_SaveThread PyLong_FromLongLong PyModule_AddObject PyObject_Call PyTuple_GetItem "
        "PyTuple_New PyTuple_SetItem PyTuple_Size PyTuple_Type PyType_FromSpec PyType_GetSlot "
        "PyUnicode_InternFromString Py_BuildValue".split()
    )
    errors = {s for s in python if s.startswith(("PyErr_", "PyExc_"))}
    assert python <= {"PyModuleDef_Init", *signals, *call, *text, *stream, *errors}


def test_report():
    """`python -m fastrnn` names versions, and for each backend yes or the reason why not."""
    done = source_tree.python("-m", "fastrnn", cwd=source_tree.ROOT)
    facts = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in done.stdout.splitlines())
    assert facts["fastrnn"].startswith(fastrnn.__version__)
    assert facts["python"].startswith(sys.version.split()[0])
    for backend in [b.name for b in backends.serving("cpu")]:
        assert re.match(r"yes|ready|no: .+", facts[f"{backend} on cpu"]), facts
    assert (facts["cpu on cpu"] == "yes") == ops.NATIVE_BUILT

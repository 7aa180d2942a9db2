"""The in-tree build: what it finds, what it compiles how often, what it compiles again."""

import ctypes
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import source_tree

from buildtools import cuda, native, ninja, simulator, toolchain
from buildtools.toolchain import BuildError, Torch

X86 = "avx512" in native.isas()


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name in ("CXX", "CXXFLAGS", "LDFLAGS", "MAX_JOBS", "TORCH_CUDA_ARCH_LIST", "FASTRNN_CUDA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FASTRNN_CUDA", "0")
    return source_tree.make(tmp_path / "a tree")  # the space is part of the test


def fake_torch(directory: Path, version: str, cuda_version: str | None = None) -> Path:
    source_tree.write(directory / "torch" / "__init__.py", "raise ImportError('never import me')")
    facts = f"__version__ = {version!r}\ncuda = {cuda_version!r}\n"
    source_tree.write(directory / "torch" / "version.py", facts)
    return directory / "torch"


def objects(tree: Path) -> dict[str, int]:
    """Object files, and when they were written."""
    (directory,) = (tree / "build").glob("linux-*")
    return {
        str(path.relative_to(directory)): path.stat().st_mtime_ns for path in directory.rglob("*.o")
    }


def probe(library: Path, x: float) -> float:
    """Calls the library, from a copy: a second dlopen of one path gives the first library."""
    copy = shutil.copy(library, library.with_name(f"{os.urandom(4).hex()}.so"))
    function = ctypes.CDLL(copy).probe
    function.restype, function.argtypes = ctypes.c_float, [ctypes.c_float]
    return function(x)


def test_finds_a_torch_that_isolation_hides(monkeypatch, tmp_path):
    hidden = fake_torch(tmp_path / "outer", "2.14.1+cu130", "13.0")
    monkeypatch.setattr("sys.path", [str(tmp_path / "overlay")])
    monkeypatch.setattr("site.getsitepackages", lambda: [str(tmp_path / "outer")])
    assert toolchain.find_torch() == Torch(hidden, (2, 14), "13.0")


def test_an_old_torch_is_no_torch(monkeypatch, tmp_path):
    fake_torch(tmp_path, "2.10.1")
    monkeypatch.setattr("sys.path", [])
    monkeypatch.setattr("site.getsitepackages", lambda: [str(tmp_path)])
    monkeypatch.setattr("site.getusersitepackages", lambda: str(tmp_path / "user"))
    assert toolchain.find_torch() is None


def test_asks_for_the_tested_torch_where_there_is_none(monkeypatch):
    pinned = toolchain.torch_requirement(source_tree.ROOT)
    assert f"{pinned}\n" in (source_tree.ROOT / "constraints.txt").read_text()
    monkeypatch.setattr(toolchain, "TESTED_BELOW_PYTHON", (3, 0))
    assert toolchain.torch_requirement(source_tree.ROOT) == toolchain.TORCH_REQUIREMENT


@pytest.mark.parametrize(
    ("listed", "archs"),
    [
        ("8.0", ["80"]),
        ("8.0;9.0a", ["80", "90a"]),
        ("8.6 9.0+PTX", ["86", "90", "90+PTX"]),
        ("12.0f", ["120f"]),
    ],
)
def test_arch_list(listed, archs):
    assert cuda.parse_arch_list(listed) == archs


@pytest.mark.parametrize("listed", ["Hopper", "90", "7.5", ";"])
def test_bad_arch_list(listed):
    with pytest.raises(BuildError, match=r"TORCH_CUDA_ARCH_LIST|8\.0"):
        cuda.parse_arch_list(listed)


@pytest.mark.parametrize(
    ("gpus", "archs"),
    [
        ("9.0\n9.0\n", ["90", "90+PTX"]),
        ("10.0\n8.6\n7.5\n", ["86", "100", "100+PTX"]),
        ("7.5\n", ["80", "90", "100", "100+PTX"]),  # no GPU for these kernels: every major one
    ],
)
def test_architectures_of_the_gpus_here(monkeypatch, gpus, archs):
    monkeypatch.delenv("TORCH_CUDA_ARCH_LIST", raising=False)
    monkeypatch.setattr(cuda.shutil, "which", lambda name: name)
    codes = "sm_75\nsm_80\nsm_86\nsm_90\nsm_100\n"
    monkeypatch.setattr(cuda, "_output", lambda command: gpus if "-smi" in command[0] else codes)
    assert cuda.choose_archs("nvcc") == archs


def test_arch_flags():
    assert cuda.arch_flags(["90a", "90+PTX"]) == [
        "-gencode=arch=compute_90a,code=sm_90a",
        "-gencode=arch=compute_90,code=compute_90",
    ]


@pytest.mark.parametrize(
    ("want", "torch_cuda", "built"),
    [("auto", None, False), ("auto", "13.0", True), ("0", "13.0", False), ("1", None, True)],
)
def test_when_cuda_is_built(monkeypatch, want, torch_cuda, built):
    monkeypatch.setenv("FASTRNN_CUDA", want)
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "9.0")
    monkeypatch.setattr(cuda, "find_nvcc", lambda major: "/usr/bin/true")
    assert (cuda.find_cuda(Torch(Path("/t"), (2, 13), torch_cuda)) is not None) == built


def test_no_nvcc(monkeypatch, capfd):
    monkeypatch.setattr(cuda, "find_nvcc", lambda major: None)
    torch = Torch(Path("/t"), (2, 13), "13.0")
    monkeypatch.delenv("FASTRNN_CUDA", raising=False)
    assert cuda.find_cuda(torch) is None
    assert "no nvcc of CUDA 13 found" in capfd.readouterr().out
    monkeypatch.setenv("FASTRNN_CUDA", "1")
    with pytest.raises(BuildError, match="no nvcc of CUDA 13 found"):
        cuda.find_cuda(torch)


def test_max_jobs(tree, monkeypatch):
    commands = []
    done = subprocess.CompletedProcess([], 0)
    monkeypatch.setattr(
        ninja.subprocess, "run", lambda command, **_: commands.append(command) or done
    )
    monkeypatch.setenv("MAX_JOBS", "3")
    ninja.run(Path("build.ninja"), tree)
    assert commands[-1][-2:] == ["-j", "3"]


@pytest.mark.parametrize("value", ["0", "-1", "many"])
def test_bad_max_jobs(monkeypatch, value):
    monkeypatch.setenv("MAX_JOBS", value)
    with pytest.raises(BuildError, match=f"MAX_JOBS must be a positive number, got '{value}'"):
        ninja.max_jobs()


def test_each_source_has_its_flags(tree):
    native.build(tree)
    (file,) = (tree / "build").glob("*/build.ninja")
    step = r"^build \S*?/(csrc\S+): .*\n  tool = (.*)$"
    commands = dict(re.findall(step, file.read_text(), re.M))
    assert "-DTORCH_TARGET_VERSION=0x020b" in commands["csrc/op/module.o"]
    assert "torch" not in commands["csrc/cpu/dispatch.o"]
    for name, flags in native.isas_of(Path("scale.cpp")).items():
        command = commands[f"csrc/cpu/isa/scale.{name}.o"]
        assert f"-DFASTRNN_ISA={name}" in command and "torch" not in command
        assert re.findall(r" (-m\S+)", command) == flags
    assert all("-O3" in c and "fast-math" not in c for c in commands.values())
    assert ("-DFASTRNN_HAVE_AVX512 " in commands["csrc/cpu/dispatch.o"]) == X86


@pytest.mark.skipif(not X86, reason="this machine has one instruction set")
def test_an_instruction_set_for_one_dtype(tree):
    """AVX512-BF16 is compiled for the sources that it adds something to; all have the others."""
    source_tree.write(tree / "csrc/cpu/isa/bfloat16.cpp", "int low;\n")
    built = native.compile_steps(tree, Path("b"), ["c++"], Torch(Path("/t"), (2, 13), None), None)
    objects = {step.output.name: step.command for step in built}
    scale, bfloat16 = ({n for n in objects if n.startswith(s)} for s in ("scale.", "bfloat16."))
    assert scale == {"scale.base.o", "scale.avx2.o", "scale.avx512.o"}
    assert bfloat16 == {n.replace("scale", "bfloat16") for n in scale} | {"bfloat16.avx512bf16.o"}
    assert "-mavx512bf16" in objects["bfloat16.avx512bf16.o"]
    assert "-mavx512bf16" not in objects["bfloat16.avx512.o"]


def test_compiles_only_what_has_changed(tree):
    library = native.build(tree)
    assert probe(library, 3) == 6 and probe(library, -3) == -6
    first = objects(tree)
    assert native.build(tree) == library and objects(tree) == first

    source_tree.write(tree / "csrc/cells/scale.h", "#define FACTOR 5\n")
    assert probe(native.build(tree), 3) == 15
    second = objects(tree)
    assert second["csrc/cpu/dispatch.o"] == first["csrc/cpu/dispatch.o"]
    again = {name for name in first if second[name] != first[name]}
    isas = native.isas_of(Path("scale.cpp"))
    assert again == {"csrc/op/module.o", *(f"csrc/cpu/isa/scale.{isa}.o" for isa in isas)}

    source_tree.write(tree / "csrc/cpu/more.cpp", "int more;\n")
    native.build(tree)
    third = objects(tree)
    assert third.pop("csrc/cpu/more.o") and third == second


def test_without_ninja_the_library_is_the_same(tree, monkeypatch):
    monkeypatch.setattr(native, "find_ninja", lambda: None)
    assert probe(native.build(tree), 3) == 6
    source_tree.write(tree / "csrc/cells/scale.h", "#define FACTOR nonsense\n")
    with pytest.raises(BuildError, match="compiling the native library failed"):
        native.build(tree)


def test_an_error_in_the_source_ends_the_build(tree):
    source_tree.write(tree / "csrc/cpu/wrong.cpp", "int f( {\n")
    with pytest.raises(BuildError, match="compiling the native library failed"):
        native.build(tree)


def test_no_sources(tree):
    shutil.rmtree(tree / "csrc")
    with pytest.raises(BuildError, match="no C\\+\\+ sources"):
        native.build(tree)


def test_compiler_without_an_instruction_set(tree, monkeypatch):
    monkeypatch.setattr(native, "isas", lambda: {"base": [], "old": ["-march=no-such-cpu"]})
    with pytest.raises(BuildError, match=r"cannot compile for old .*g\+\+ 11"):
        native.build(tree)


@pytest.mark.skipif(cuda.find_nvcc(None) is None, reason="no nvcc here")
def test_cuda_sources(tree, monkeypatch):
    kernel = '__global__ void k(float* x) { *x = 1; }\nextern "C" void run(float* x) {'
    source_tree.write(tree / "csrc/cuda/kernel/k.cu", kernel + "k<<<1, 1>>>(x); }\n")
    source_tree.write(tree / "csrc/cuda/host/ops.cpp", "#include <torch/csrc/stable/tensor.h>\n")
    monkeypatch.setenv("FASTRNN_CUDA", "1")
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0;9.0+PTX")
    library = native.build(tree)
    code = (
        f"import torch, ctypes; library = ctypes.CDLL({str(library)!r});"
        "library.archs.restype = ctypes.c_char_p; print(library.archs().decode())"
    )
    assert source_tree.python("-c", code, cwd=tree).stdout.strip() == "80,90,90+PTX"
    assert not any("cudart" in line for line in needed(library))
    assert len(list((tree / "build").glob("*-cuda/csrc/cuda/*/*.o"))) == 2


def test_cuda_sources_are_nothing_to_a_build_without_cuda(tree):
    source_tree.write(tree / "csrc/cuda/host/ops.cpp", "#error for CUDA only\n")
    source_tree.write(tree / "csrc/cuda/kernel/k.cu", "#error for CUDA only\n")
    assert native.build(tree).exists()


def test_simulator(tree):
    """CUDA sources as C++, those that need torch's headers with them, each set of macros apart."""
    probe_source = 'extern "C" float probe(float x) { return FASTRNN_BUG * x; }\n'
    default = "#ifndef FASTRNN_BUG\n#define FASTRNN_BUG 1\n#endif\n"
    check = "#ifndef FASTRNN_SIM\n#error not simulated\n#endif\n"
    source_tree.write(tree / "csrc/cuda/kernel/k.cu", check + default + probe_source)
    source_tree.write(
        tree / "csrc/cuda/host/ops.cpp", check + "#include <torch/csrc/stable/tensor.h>\n"
    )
    right, wrong = simulator.build(tree), simulator.build(tree, ("FASTRNN_BUG=3",))
    assert probe(right, 2) == 2 and probe(wrong, 2) == 6
    source_tree.write(tree / "csrc/cuda/kernel/k.cu", "#include <torch/csrc/stable/tensor.h>\n")
    with pytest.raises(BuildError, match="compiling the native library failed"):
        simulator.build(tree)


def needed(library: Path) -> list[str]:
    """Names in the dynamic section's string table that look like libraries."""
    return re.findall(r"lib[\w+-]+\.so[.\d]*", library.read_bytes().decode("latin-1"))

"""CUDA kernels compiled for sm_80 and sm_90, with no GPU: what they take, no spills, right unit.

With --slow a few layers, together every kind of numbers, pass, engine and cell; `make cuda-check`
compiles all (some minutes) and prints the same table.
"""

from dataclasses import replace

import cuda_compile
import pytest
import sass
from cuda_compile import Kernel

from buildtools.cuda import find_nvcc

LAYERS = {
    90: ["lstm:bfloat16:forward", "gru:float16:backward", "rnn_tanh:float32:backward"],
    80: ["gru:tf32:forward", "lstm:float64:backward"],
}

MORE_CELLS = cuda_compile.ROOT / "tests/cuda/more_cells.h"
MORE_LAYERS = [
    ("peephole:bfloat16:backward", 90), ("peephole:float32:backward", 80),
    ("cascade4:bfloat16:backward", 80), ("cascade4:float32:forward", 90),
]  # fmt: skip

needs_nvcc = pytest.mark.skipif(
    find_nvcc(None) is None or cuda_compile.cuobjdump() is None,
    reason="needs nvcc and cuobjdump (of the CUDA toolkit or of triton)",
)


@pytest.mark.slow
@needs_nvcc
@pytest.mark.parametrize("arch", LAYERS)
def test_kernels_do_not_spill_and_use_their_unit(arch, capsys):
    kernels = cuda_compile.compile_all(LAYERS[arch], [arch])
    with capsys.disabled():
        print(*("", *(kernel.told() for kernel in kernels)), sep="\n")
    for layer in LAYERS[arch]:
        engines = [kernel.engine for kernel in kernels if kernel.layer == layer]
        resident = [] if "float64" in layer else ["block", "cluster", "grid"]
        assert sorted(engines) == sorted([*resident, "stepwise"])
    assert not [kernel.told() for kernel in kernels if kernel.complaint()]


@pytest.mark.slow
@needs_nvcc
@pytest.mark.parametrize(("layer", "arch"), MORE_LAYERS)
def test_parameters_and_many_states_do_not_spill(layer, arch):
    kernels = cuda_compile.compile_all([layer], [arch], header=MORE_CELLS)
    assert sorted(k.engine for k in kernels) == ["block", "cluster", "grid", "stepwise"]
    assert not [kernel.told() for kernel in kernels if kernel.complaint()]


def test_every_layer_has_its_source():
    found = cuda_compile.layers()
    assert len(found) == 5 * 5 * 2
    for layer in found:
        cell = layer.split(":")[0]
        assert f"FASTRNN_PASS({cell}, {cuda_compile.policies()[cell]})" in cuda_compile.source(
            layer
        )
    assert set(cuda_compile.policies(MORE_CELLS)) == {"peephole", "cascade4", "cascade8"}
    text = cuda_compile.source("cascade8:tf32:backward", MORE_CELLS)
    assert "FASTRNN_PASS(cascade8, Cascade<8, 1>)" in text


@pytest.mark.parametrize(
    ("kind", "instructions", "spills", "wrong"),
    [
        ("bfloat16", {"HMMA.16816.F32.BF16": 4, "FFMA": 9}, 0, None),
        ("bfloat16", {"HMMA.16816.F32": 4}, 0, "has no HMMA.16816.F32.BF16"),
        ("float16", {"HMMA.16816.F32": 4, "HMMA.1688.F32.TF32": 1}, 0, "has HMMA.1688.F32.TF32"),
        ("float32", {"FFMA": 9, "HMMA.1688.F32.TF32": 1}, 0, "has HMMA.1688.F32.TF32"),
        ("tf32", {"FFMA": 9}, 0, "has no HMMA.1688.F32.TF32"),
        ("tf32", {"HMMA.1688.F32.TF32": 9}, 8, "spills 8 times a step"),
    ],
)
def test_complaints(kind, instructions, spills, wrong):
    kernel = Kernel(f"lstm:{kind}:forward", "grid", 90, 100, 0, 16, spills, instructions)
    assert kernel.complaint() == wrong
    assert replace(kernel, engine="cluster", arch=80).complaint() is None
    assert (wrong or "spilled bytes  16, a step   0") in kernel.told()


def test_spills_count_in_the_loop_that_does_the_work():
    code = ["STL", "STL", "LDL", "HMMA.16816", "BRA 0x20", "BAR.SYNC 0x0", "BRA 0x10", "BRA 0x00"]
    text = "".join(f"/*{16 * i:04x}*/  {c} ;\n" for i, c in enumerate(code))
    assert sass.spills_in_loops(text) == 3
    assert sass.spills_in_main_loop(text, "HMMA") == 2  # not the innermost loop, not the outermost
    assert sass.spills_in_main_loop(text, "FFMA") == 2  # any loop will do: the smallest
    assert sass.spills_in_main_loop(text.replace("BAR", "MOV"), "HMMA") == 3


def test_reads_the_compilers_figures():
    ptxas = (
        "ptxas info    : Compiling entry function '_Z1kPf' for 'sm_90'\n"
        "ptxas info    : Function properties for _Z1kPf\n"
        "    16 bytes stack frame, 12 bytes spill stores, 8 bytes spill loads\n"
        "ptxas info    : Used 34 registers, used 1 barriers, 16 bytes cumulative stack size\n"
    )
    assert cuda_compile.resources(ptxas) == [("_Z1kPf", 34, 16, 20)]
    listing = (
        "\t\tFunction : _Z1kPf\n  HMMA.16816.F32.BF16 R1\n FFMA R2\n\tFunction : _Z2kk\n FFMA R2\n"
    )
    assert [name for name, _ in cuda_compile.functions(listing)] == ["_Z1kPf", "_Z2kk"]
    assert cuda_compile.re.findall(cuda_compile.COUNTED, listing)[0] == "HMMA.16816.F32.BF16"

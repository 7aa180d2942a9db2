"""Compiles CUDA kernels by nvcc, without a GPU, and says what each one takes.

    python tests/cuda_compile.py                                    every kernel, sm_80 and sm_90
    python tests/cuda_compile.py --arch 90 lstm:bfloat16:forward    the kernels of one pass
    python tests/cuda_compile.py --cells HEADER                     of the cells that HEADER lists

Registers, stack and spilled bytes are ptxas' own figures; spills inside the loop over the steps and
the kinds of matrix and multiply-add instructions are counted in the machine code. Ends with 1 where
a kernel that keeps its weights on the chip spills there, or multiplies by other instructions than
its numbers ask for.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sass import spills_in_main_loop

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from buildtools.cuda import find_nvcc  # noqa: E402
from buildtools.native import NVCC_FLAGS  # noqa: E402

ARCHS = (80, 90)
REGISTRY = ROOT / "csrc/cells/registry.h"
PASSES = ("forward", "backward")
# Kind of numbers -> the matrix instruction of its resident kernels, as the machine code names it.
INSTRUCTIONS = {
    "float32": "FFMA",
    "tf32": "HMMA.1688.F32.TF32",
    "bfloat16": "HMMA.16816.F32.BF16",
    "float16": "HMMA.16816.F32",
    "float64": "DFMA",
}
COUNTED = r"\b(HMMA\.\d+\.F32(?:\.TF32|\.BF16)?|FFMA|DFMA)\b"
EXCHANGES = {"BlockExchange": "block", "ClusterExchange": "cluster", "GridExchange": "grid"}


@dataclass(frozen=True)
class Kernel:
    """One kernel as compiled: cell:kind:pass, engine, and what it takes."""

    layer: str
    engine: str
    arch: int
    registers: int
    stack: int
    spilled: int  # bytes of spill stores and loads
    spills: int  # such instructions inside the loop over the steps
    instructions: dict[str, int]

    def complaint(self) -> str | None:
        """What is wrong with it, if anything."""
        kind = self.layer.split(":")[1]
        if self.engine == "stepwise" or (self.engine == "cluster" and self.arch < 90):
            return None  # clusters begin with sm_90: for older GPUs the code is a trap
        if self.spills:
            return f"spills {self.spills} times a step"
        if not self.instructions.get(INSTRUCTIONS[kind]):
            return f"has no {INSTRUCTIONS[kind]}"
        others = [n for n in self.instructions if "HMMA" in n and n != INSTRUCTIONS[kind]]
        return f"has {others[0]}" if others else None

    def told(self) -> str:
        kind = self.layer.split(":")[1]
        counts = ", ".join(f"{n} {name}" for name, n in sorted(self.instructions.items()))
        counts = counts or f"no {INSTRUCTIONS[kind]}"
        wrong = self.complaint()
        return (
            f"sm_{self.arch} {self.layer:<30} {self.engine:<8} registers {self.registers:>3}  "
            f"stack {self.stack:>4}  spilled bytes {self.spilled:>3}, a step {self.spills:>3}  "
            f"{counts}" + (f"  <- {wrong}" if wrong else "")
        )


def cuobjdump() -> str | None:
    """The toolkit's, or the one inside the triton package."""
    if path := shutil.which("cuobjdump"):
        return path
    triton = find_spec("triton")
    inside = triton and Path(triton.origin).parent / "backends/nvidia/bin/cuobjdump"
    return str(inside) if inside and inside.exists() else None


def policies(header: Path = REGISTRY) -> dict[str, str]:
    """Cell -> its C++ policy, from a header's cell list."""
    listed = header.read_text().split("_CELL_LIST(F) ")[-1].split("CELLS(F) ")[-1]
    return dict(re.findall(r"F\((\w+), ([\w<>, ]+)\)", listed))


def layers(header: Path = REGISTRY) -> list[str]:
    return [f"{c}:{k}:{p}" for k in INSTRUCTIONS for p in PASSES for c in policies(header)]


def source(layer: str, header: Path = REGISTRY) -> str:
    """The instance file of a kind and pass, for one cell."""
    cell, kind, pass_ = layer.split(":")
    text = (ROOT / f"csrc/cuda/kernel/{kind}_{pass_}.cu").read_text()
    one = rf"extern const PassKernels \1[] = {{FASTRNN_PASS({cell}, {policies(header)[cell]})}};"
    text, count = re.subn(r"^FASTRNN_PASSES\((\w+)\)$", one, text, flags=re.M)
    assert count == 1, f"csrc/cuda/kernel/{kind}_{pass_}.cu has another form"
    return text


def compile_layer(nvcc: str, layer: str, arch: int, header: Path = REGISTRY) -> list[Kernel]:
    """The kernels of one cell, kind and pass: one of each engine."""
    with tempfile.TemporaryDirectory() as directory:
        file, cubin = Path(directory, "one.cu"), Path(directory, "one.cubin")
        file.write_text(source(layer, header))
        include = [f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'csrc/cuda/kernel'}"]
        if header != REGISTRY:
            include.append(f'-DFASTRNN_EXTRA_CELLS="{header.resolve()}"')
        flags = ["-cubin", f"-arch=sm_{arch}", "-Xptxas=-v,-warn-spills", *include]
        command = [nvcc, *NVCC_FLAGS, *flags, str(file), "-o", str(cubin)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{layer} does not compile for sm_{arch}:\n{done.stderr}")
        dump = [cuobjdump(), "-sass", str(cubin)]
        sass = subprocess.run(dump, capture_output=True, text=True, check=True).stdout
    code, unit = dict(functions(sass)), INSTRUCTIONS[layer.split(":")[1]].split(".")[0]
    kernels = []
    for name, registers, stack, spilled in resources(done.stderr):
        spills = spills_in_main_loop(code[name], unit) if stack else 0
        counts = dict(Counter(re.findall(COUNTED, code[name])))
        taken = registers, stack, spilled, spills, counts
        kernels.append(Kernel(layer, engine_of(name), arch, *taken))
    return kernels


def functions(sass: str) -> list[tuple[str, str]]:
    """(mangled name, machine code) of each kernel."""
    parts = re.split(r"^\s*Function : (\S+)$", sass, flags=re.M)[1:]
    return list(zip(parts[::2], parts[1::2]))


def resources(ptxas: str) -> list[tuple[str, int, int, int]]:
    """(mangled name, registers, stack, spilled bytes) of each kernel, from ptxas -v."""
    found = []
    for part in ptxas.split("Compiling entry function ")[1:]:
        name = re.match(r"'(\w+)'", part)[1]
        stack, stores, loads = map(
            int, re.search(r"(\d+) bytes stack frame, (\d+) \D+, (\d+)", part).groups()
        )
        found.append((name, int(re.search(r"Used (\d+) reg", part)[1]), stack, stores + loads))
    return found


def engine_of(name: str) -> str:
    return next((e for mangled, e in EXCHANGES.items() if mangled in name), "stepwise")


def compile_all(
    names: list[str], archs: list[int], report=lambda kernel: None, header: Path = REGISTRY
) -> list[Kernel]:
    """All kernels of those layers, several compilers side by side."""
    nvcc = find_nvcc(None)
    jobs = [(nvcc, layer, arch, header) for layer in names for arch in archs]
    kernels = []
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for found in pool.map(lambda job: compile_layer(*job), jobs):
            kernels += found
            for kernel in found:
                report(kernel)
    return kernels


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", type=int, action="append", help="80, 90 (both)")
    parser.add_argument("--cells", type=Path, default=REGISTRY, help="a header that lists cells")
    parser.add_argument("layers", nargs="*", help="cell:kind:pass (all)")
    options = parser.parse_args()
    if find_nvcc(None) is None or cuobjdump() is None:
        parser.error("needs nvcc, and cuobjdump (of the CUDA toolkit or of triton)")
    kernels = compile_all(
        options.layers or layers(options.cells),
        options.arch or list(ARCHS),
        lambda kernel: print(kernel.told(), flush=True),
        options.cells,
    )
    wrong = [kernel for kernel in kernels if kernel.complaint()]
    print(f"{len(kernels)} kernels, {len(wrong)} with a fault")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())

"""Builds the CUDA kernels for a CPU: for the tests, on machines without a GPU; never installed.

The very sources of `csrc/cuda/` are compiled as C++ with -DFASTRNN_SIM, which puts the simulator of
blocks, barriers and shared memory in `tests/cuda/sim/` in the place of the device
(`csrc/cuda/kernel/device.cuh`). The library defines the ops `torch.ops.fastrnn_sim.*` for CPU
tensors.

    python -m buildtools.simulator
"""

import os
import shlex
import sys
from pathlib import Path

from buildtools import native, ninja
from buildtools.ninja import Compile, Link
from buildtools.toolchain import TORCH_REQUIREMENT, BuildError, find_compiler, find_torch

LIBRARY = "libfastrnn_sim.so"

DEVICE = "tests/cuda/sim"  # the simulator itself, which kernels include as sim/
SIMULATED = ["-DFASTRNN_SIM", "-Icsrc", f"-I{Path(DEVICE).parent}"]
# Kernels cast between types that share bytes, as CUDA allows.
FLAGS = [
    *("-std=c++17", "-O1", "-g0", "-fPIC", "-fno-strict-aliasing", "-Wall", "-Wextra"),
    *("-Wno-unknown-pragmas", *SIMULATED),
]


def build(root: Path, defines: tuple[str, ...] = (), cells: str = "") -> Path:
    """Compiles what has changed below `root` and returns the library in `build/<tag>-sim…/`.

    defines: macros besides, as "FASTRNN_BUG=3" for the tests of the tests.
    cells: a header of `tests/cuda/` for FASTRNN_EXTRA_CELLS.
    """
    compiler, torch = find_compiler(), find_torch()
    if torch is None:
        raise BuildError(f"fastrnn: no {TORCH_REQUIREMENT} found to build the simulator against")
    parts = [native.build_tag(torch, None), "sim", *defines, Path(cells).stem]
    directory = Path("build", "-".join(filter(None, parts)).replace("=", ""))
    user_flags = shlex.split(os.environ.get("CXXFLAGS", ""))
    extra = [f'-DFASTRNN_EXTRA_CELLS="{cells}"'] if cells else native.extra_cells()
    base = [*compiler, *FLAGS, *user_flags, *extra]
    base += [f"-D{define}" for define in defines]
    steps = []
    for source in native.sources(root, "csrc/cuda/kernel/*.cu"):
        steps.append(Compile(source, directory / f"{source}.o", [*base, "-x", "c++"]))
    for source in native.sources(root, "csrc/cuda/host/*.cpp"):
        command = [*base, *native.torch_flags(torch)]
        steps.append(Compile(source, directory / f"{source}.o", command))
    if not steps:
        raise BuildError(f"fastrnn: no CUDA sources in {root / 'csrc/cuda'}")
    link = Link(
        directory / LIBRARY,
        [*compiler, "-shared", *user_flags, f"-L{torch.root / 'lib'}"],
        ["-ltorch_cpu", "-lpthread"],
    )
    with ninja.lock(root / directory):
        if ninja.find_ninja():
            ninja.write(root / directory / "build.ninja", steps, link)
            ninja.run(directory / "build.ninja", root)
        else:
            ninja.run_without_ninja(steps, link, root)
    return root / link.output


if __name__ == "__main__":
    defines = tuple(argument.removeprefix("-D") for argument in sys.argv[1:])
    print(build(Path(__file__).resolve().parents[1], defines))

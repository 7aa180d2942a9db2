"""What the native library is made of: which source is compiled how often, and with which flags.

csrc/op/*.cpp           once, with torch's stable ABI headers
csrc/cpu/*.cpp          once, without torch
csrc/cpu/isa/*.cpp      once for each instruction set of isas_of(), without torch; each object lives
                        in its own namespace fastrnn::FASTRNN_ISA; one is chosen at run time
csrc/stream/            likewise
csrc/cuda/kernel/*.cu   by nvcc where CUDA kernels are built
csrc/cuda/host/*.cpp    there too, with torch's headers
"""

import os
import platform
import shlex
import shutil
import sys
import sysconfig
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from buildtools import ninja
from buildtools.cuda import Cuda, arch_flags, find_cuda
from buildtools.ninja import Compile, Link
from buildtools.toolchain import (
    TORCH_REQUIREMENT,
    BuildError,
    Torch,
    compiler_accepts,
    find_compiler,
    find_ninja,
    find_torch,
)

LIBRARY = "_C.abi3.so"

# Shared with what compiles a cell at run time. Found by its path: fastrnn itself imports torch.
_SPEC = spec_from_file_location(
    "fastrnn_flags", Path(__file__).resolve().parents[1] / "fastrnn" / "compiled" / "flags.py"
)
_SPEC.loader.exec_module(shared := module_from_spec(_SPEC))
ISAS_X86_64, OPTIMISE, FLAGS, isas = shared.ISAS_X86_64, shared.OPTIMISE, shared.FLAGS, shared.isas
ISA_SOURCES = shared.ISA_DTYPES  # a source of csrc/cpu/isa/ bears its dtype's name

# Target 2.11: the library runs on that torch and all later ones. Limited API: Python 3.10 and up.
STABLE_ABI = ["-DTORCH_TARGET_VERSION=0x020b000000000000", "-DPy_LIMITED_API=0x030A0000"]

NVCC_FLAGS = ["-O3", "-std=c++17", "-Xcompiler=-fPIC,-fvisibility=hidden,-Wall,-Wextra"]
# libtorch.so brings libtorch_cuda.so into scope where there is one; the static runtime leaves no
# dependency that a machine without CUDA lacks. So one library serves both.
CUDA_LIBRARIES = [
    *("-Wl,--no-as-needed", "-ltorch", "-Wl,--as-needed"),
    *("-lcudart_static", "-ldl", "-lrt", "-lpthread"),
]


def build(root: Path) -> Path:
    """Compiles what has changed below `root` and returns the library in `build/<tag>/`."""
    if not sys.platform.startswith("linux"):
        raise BuildError(
            "fastrnn: the native library builds on Linux only; set FASTRNN_NATIVE=0 for an install"
            " without it (Triton and reference backends)"
        )
    compiler = find_compiler()
    torch = find_torch()
    if torch is None:
        raise BuildError(
            f"fastrnn: no {TORCH_REQUIREMENT} found to build against: pip install torch"
        )
    check_compiler(compiler)
    cuda = find_cuda(torch)
    directory = Path("build", build_tag(torch, cuda))
    steps = compile_steps(root, directory, compiler, torch, cuda)
    link = link_step(directory / LIBRARY, compiler, torch, cuda)
    with ninja.lock(root / directory):
        if find_ninja():
            ninja.write(root / directory / "build.ninja", steps, link)
            ninja.run(directory / "build.ninja", root)
        else:
            print("fastrnn: no ninja found: everything is compiled anew", flush=True)
            ninja.run_without_ninja(steps, link, root)
    return root / link.output


def install(library: Path, target: Path) -> None:
    """Puts the library at `target` in one move: a process that has the old one mapped keeps it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copyfile(library, new)
    new.chmod(0o755)
    os.replace(new, target)


def isas_of(source: Path) -> dict[str, list[str]]:
    """The instruction sets that a source of csrc/cpu/isa/ is compiled for."""
    return {
        name: flags
        for name, flags in isas().items()
        if source.stem in ISA_SOURCES.get(name, (source.stem,))
    }


def check_compiler(compiler: list[str]) -> None:
    """Fails in one sentence where an old compiler lacks an instruction set."""
    for name, flags in isas().items():
        if not compiler_accepts(compiler, [*FLAGS, *flags]):
            raise BuildError(
                f"fastrnn: {shlex.join(compiler)} cannot compile for {name}"
                f" ({shlex.join([*FLAGS, *flags])}); g++ 11 and newer can"
            )


def build_tag(torch: Torch, cuda: Cuda | None) -> str:
    """Name of the build directory: builds that share no object files do not spoil each other's."""
    version = ".".join(map(str, torch.version))
    return f"linux-{platform.machine()}-torch{version}-{'cuda' if cuda else 'cpu'}"


def compile_steps(
    root: Path, directory: Path, compiler: list[str], torch: Torch, cuda: Cuda | None
) -> list[Compile]:
    """One step per object file; all paths relative to `root`, so that a tree can be moved."""
    user_flags = shlex.split(os.environ.get("CXXFLAGS", ""))
    # the user's flags may change the optimisation, never the language or the instruction set
    cells = extra_cells()
    base = [*compiler, *OPTIMISE, *user_flags, *FLAGS, "-Icsrc", *cells]
    have = [f"-DFASTRNN_HAVE_{name.upper()}" for name in isas() if name != "base"]
    stable = torch_flags(torch)
    cuda_sources = sources(root, "csrc/cuda/kernel/*.cu") if cuda else []
    if cuda_sources:
        stable += ["-DFASTRNN_CUDA", "-DUSE_CUDA", *(f"-isystem{d}" for d in cuda.include_dirs)]
        stable.append(f'-DFASTRNN_CUDA_ARCHS="{",".join(cuda.archs)}"')

    steps = []

    def add(source: Path, command: list[str], suffix: str = "") -> None:
        output = directory / source.with_name(f"{source.stem}{suffix}.o")
        steps.append(Compile(source, output, command))

    for source in sources(root, "csrc/op/*.cpp"):
        add(source, [*base, *have, *stable])
    for source in sources(root, "csrc/cuda/host/*.cpp") if cuda_sources else []:
        add(source, [*base, *stable])
    for source in [*sources(root, "csrc/cpu/*.cpp"), *sources(root, "csrc/stream/*.cpp")]:
        add(source, [*base, *have])
    for source in [*sources(root, "csrc/cpu/isa/*.cpp"), *sources(root, "csrc/stream/isa/*.cpp")]:
        for name, flags in isas_of(source).items():
            add(source, [*base, *flags, f"-DFASTRNN_ISA={name}"], f".{name}")
    for source in cuda_sources:
        host = ["-ccbin", compiler[-1]] if os.environ.get("CXX") else []
        command = [cuda.nvcc, *NVCC_FLAGS, *host, *arch_flags(cuda.archs), "-Icsrc", *cells]
        add(source, command, ".cu")
    if not steps:
        raise BuildError(f"fastrnn: no C++ sources in {root / 'csrc'}: is the copy complete?")
    return steps


def extra_cells() -> list[str]:
    """The flag for cells of the user's own: FASTRNN_EXTRA_CELLS names a header that lists them."""
    header = os.environ.get("FASTRNN_EXTRA_CELLS")
    if not header:
        return []
    if not Path(header).is_file():
        raise BuildError(f"fastrnn: FASTRNN_EXTRA_CELLS must name a header, got {header!r}")
    return [f'-DFASTRNN_EXTRA_CELLS="{Path(header).resolve()}"']


def torch_flags(torch: Torch) -> list[str]:
    """What a source that includes torch's stable ABI headers is compiled with."""
    include = f"-isystem{torch.root / 'include'}"
    return [*STABLE_ABI, include, f"-I{sysconfig.get_path('include')}"]


def sources(root: Path, pattern: str) -> list[Path]:
    """Source files by pattern, relative to `root`, in a fixed order."""
    return sorted(path.relative_to(root) for path in root.glob(pattern))


def shipped(root: Path) -> list[Path]:
    """What a wheel holds of csrc/, relative to `root`: to compile cells and the C library with."""
    found = [path for room in shared.HEADERS for path in sources(root, f"csrc/{room}/**/*.h")]
    for room in shared.LIBRARY:
        found += sources(root, f"csrc/{room}/**/*.h") + sources(root, f"csrc/{room}/**/*.cpp")
    return found


def link_step(library: Path, compiler: list[str], torch: Torch, cuda: Cuda | None) -> Link:
    """torch's directory is not recorded in the library: `import torch` has always come first."""
    user_flags = shlex.split(os.environ.get("CXXFLAGS", "") + " " + os.environ.get("LDFLAGS", ""))
    strip = [] if "-g" in user_flags else ["-Wl,-s"]
    directories = [str(torch.root / "lib"), *(cuda.library_dirs if cuda else [])]
    command = [*compiler, "-shared", *strip, *user_flags, *(f"-L{d}" for d in directories)]
    return Link(library, command, ["-ltorch_cpu", *(CUDA_LIBRARIES if cuda else [])])

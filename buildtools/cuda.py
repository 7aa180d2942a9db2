"""Decides whether CUDA kernels are built, with which nvcc and for which GPUs."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass

from buildtools.toolchain import BuildError, Torch

# The kernels use mma.m16n8k16, and bfloat16 and tf32 in mma, which begin with sm_80.
MIN_ARCH = 80


@dataclass(frozen=True)
class Cuda:
    """What compiling CUDA sources takes."""

    nvcc: str
    archs: list[str]  # as nvcc names them: "80", "90a", "90+PTX"
    include_dirs: list[str]
    library_dirs: list[str]


def find_cuda(torch: Torch) -> Cuda | None:
    """The CUDA toolchain to build with, or None for a build without CUDA kernels.

    FASTRNN_CUDA: "auto" (default) builds them for a CUDA torch where its nvcc is found, "0" never,
    "1" always (beside a CPU torch too), and then a missing nvcc is an error.
    """
    want = os.environ.get("FASTRNN_CUDA", "auto")
    if want not in ("auto", "0", "1"):
        raise BuildError(f"fastrnn: FASTRNN_CUDA must be auto, 0 or 1, got {want!r}")
    if want == "0" or (want == "auto" and torch.cuda is None):
        return None
    major = torch.cuda.split(".")[0] if torch.cuda else None
    nvcc = find_nvcc(major)
    if nvcc is None:
        needed = f"nvcc of CUDA {major}" if major else "nvcc"
        message = f"fastrnn: no {needed} found (looked in $CUDA_HOME, $CUDA_PATH, PATH, /usr/local)"
        if want == "1":
            raise BuildError(f"{message}, but FASTRNN_CUDA=1")
        print(f"{message}: CUDA kernels are not built", flush=True)
        return None
    return Cuda(nvcc, choose_archs(nvcc), *toolkit_dirs(nvcc))


def find_nvcc(major: str | None) -> str | None:
    """Path of an nvcc of this major version (None: of any), else None."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    candidates = [os.path.join(home, "bin", "nvcc") for home in homes if home]
    candidates.insert(-1, shutil.which("nvcc") or "")
    if major:
        candidates.append(f"/usr/local/cuda-{major}/bin/nvcc")
    for nvcc in candidates:
        if not os.access(nvcc, os.X_OK):
            continue
        release = re.search(r"release (\d+)\.", _output([nvcc, "--version"]))
        if release and major in (None, release[1]):
            return nvcc
    return None


def choose_archs(nvcc: str) -> list[str]:
    """TORCH_CUDA_ARCH_LIST; else the GPUs of this machine; else every major architecture.

    Of the newest one PTX too, where no list is given, so that the library also runs on newer GPUs.
    """
    if listed := os.environ.get("TORCH_CUDA_ARCH_LIST"):
        return parse_arch_list(listed)
    if smi := shutil.which("nvidia-smi"):
        found = _output([smi, "--query-gpu=compute_cap", "--format=csv,noheader"])
        here = {int(a + b) for a, b in re.findall(r"^(\d+)\.(\d)\s*$", found, re.M)}
        if archs := sorted(arch for arch in here if arch >= MIN_ARCH):
            return [*map(str, archs), f"{archs[-1]}+PTX"]
    numbers = sorted(
        {int(n) for n in re.findall(r"sm_(\d+)\b", _output([nvcc, "--list-gpu-code"]))}
    )
    majors = [n for n in numbers if n >= MIN_ARCH and n % 10 == 0]
    return [*map(str, majors), f"{majors[-1]}+PTX"]


def parse_arch_list(listed: str) -> list[str]:
    """Torch's spelling ("8.0;9.0a+PTX", separated by semicolons or spaces) to nvcc's numbers."""
    archs = []
    for item in listed.replace(" ", ";").split(";"):
        if not item:
            continue
        match = re.fullmatch(r"(\d+)\.(\d)([af]?)(\+PTX)?", item)
        if match is None:
            raise BuildError(
                f"fastrnn: TORCH_CUDA_ARCH_LIST takes items like 8.0 or 9.0+PTX, got {item!r}"
            )
        number = match[1] + match[2]
        if int(number) < MIN_ARCH:
            raise BuildError(f"fastrnn: the CUDA kernels need compute capability 8.0, got {item}")
        archs.append(number + match[3])
        if match[4]:
            archs.append(number + match[3] + "+PTX")
    if not archs:
        raise BuildError(f"fastrnn: TORCH_CUDA_ARCH_LIST names no architecture: {listed!r}")
    return archs


def arch_flags(archs: list[str]) -> list[str]:
    """`-gencode` flags: machine code for "90", PTX for "90+PTX"."""
    flags = []
    for arch in archs:
        number = arch.removesuffix("+PTX")
        code = "compute" if arch.endswith("+PTX") else "sm"
        flags.append(f"-gencode=arch=compute_{number},code={code}_{number}")
    return flags


def toolkit_dirs(nvcc: str) -> tuple[list[str], list[str]]:
    """Include and library directories as nvcc uses them: its path may be a wrapper script."""
    dry_run = subprocess.run([nvcc, "-dryrun", "-c", "x.cu"], capture_output=True, text=True).stderr
    found = (re.findall(rf'"-{letter}([^"]+)"', dry_run) for letter in "IL")
    include_dirs, library_dirs = (list(dict.fromkeys(dirs)) for dirs in found)
    return include_dirs, library_dirs


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout

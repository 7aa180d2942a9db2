"""What CPU kernels are compiled with: in the native library's build, and for a cell at run time.

Imports nothing of fastrnn's: `buildtools` runs this file by its path, before there is a torch.
"""

import platform

# Instruction set -> compiler flags. Every machine runs "base"; FASTRNN_HAVE_<NAME> tells the
# dispatcher in csrc/cpu/ which of the others are there.
ISAS_X86_64 = {
    "base": [],
    "avx2": ["-march=x86-64-v3"],
    "avx512": ["-march=x86-64-v4"],
    "avx512vnni": ["-march=x86-64-v4", "-mavx512vnni"],
    "avx512bf16": ["-march=x86-64-v4", "-mavx512bf16"],
}
ISAS_OTHER = {"base": []}
# Instruction sets that add something for these dtypes alone, and what serves the others.
ISA_DTYPES = {"avx512vnni": ("int8",), "avx512bf16": ("bfloat16",)}
ISA_OF_OTHERS = {"avx512vnni": "avx512", "avx512bf16": "avx512vnni"}

# -fno-trapping-math and -fno-math-errno let gcc vectorise the cells' loops. Never -ffast-math: it
# would let the compiler drop NaNs and reorder sums.
OPTIMISE = ["-O3", "-g0"]
FLAGS = [
    *("-std=c++17", "-fPIC", "-fvisibility=hidden", "-fopenmp-simd"),
    *("-fno-math-errno", "-fno-trapping-math", "-Wall", "-Wextra"),
]
# The rooms of csrc/ whose headers a cell is compiled with: a wheel has them in fastrnn/csrc/.
HEADERS = ("cells", "cpu")
# Those that the C library is compiled from, besides: their sources are in a wheel, too.
LIBRARY = ("file", "stream", "c")


def isas() -> dict[str, list[str]]:
    """The instruction sets that are built on this kind of machine."""
    return ISAS_X86_64 if platform.machine() in ("x86_64", "AMD64") else ISAS_OTHER


def isa_for(isa: str, dtype: str) -> str:
    """The instruction set whose kernels serve that dtype where `isa` runs."""
    while dtype not in ISA_DTYPES.get(isa, (dtype,)):
        isa = ISA_OF_OTHERS[isa]
    return isa

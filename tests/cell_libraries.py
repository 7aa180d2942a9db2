"""Cells that the test run compiles by themselves, each with its step in plain torch."""

import itertools
import os
import subprocess
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from buildtools import native, toolchain
from fastrnn import ops

ROOT = Path(__file__).parents[1]
DTYPES = {"float32": "float", "float64": "double", "bfloat16": "Bf16"}
UNIT = """
#include "{header}"
#define FASTRNN_CELL ::fastrnn::{struct}
#define FASTRNN_CELL_NAME "{name}"
#include "cpu/engine/library.h"
"""


@dataclass(frozen=True)
class Policy:
    """A hand-written policy, and what it computes: step(x, r, state, p) on tuples of tensors."""

    header: str
    struct: str
    gates: int
    states: int
    params: int
    step: Callable[..., tuple[Tensor, ...]]
    label: str = ""

    @property
    def name(self) -> str:
        """What the ops call it."""
        return self.label or f"test_{Path(self.header).stem}"


def _one_gate(x, r, state, p):
    return (p[0] + torch.sigmoid(x[0] + r[0]) * (state[0] - p[0]),)


def _light_gru(x, r, state, p):
    z, n = torch.sigmoid(x[0] + r[0]), torch.relu(x[1] + r[1])
    return (n + z * (state[0] - n),)


def _peephole_lstm(x, r, state, p):
    c = state[1]
    i, f = torch.sigmoid(x[0] + r[0] + p[0] * c), torch.sigmoid(x[1] + r[1] + p[1] * c)
    c = f * c + i * torch.tanh(x[2] + r[2])
    return torch.sigmoid(x[3] + r[3] + p[2] * c) * torch.tanh(c), c


def _four_states(x, r, state, p):
    _, c, n, m = state
    i, f, o = (torch.sigmoid(x[k] + r[k]) for k in (0, 1, 3))
    z = torch.tanh(x[2] + r[2])
    c, n, m = f * c + i * z, f * n + i, p[0] * m + (1 - p[0]) * z
    return o * c / (1 + n * n) + m, c, n, m


def _six_gates(x, r, state, p):
    h, c = state
    reset, z, f, i = (torch.sigmoid(x[k] + r[k]) for k in (0, 1, 3, 4))
    n, g = torch.tanh(x[2] + reset * r[2]), torch.tanh(x[5] + p[0] * r[5])
    c = f * c + i * g
    return n + z * (h - n) + p[1] * c, c


POLICIES = {
    "one_gate": Policy("tests/cpu/one_gate.h", "OneGate", 1, 1, 1, _one_gate),
    "light_gru": Policy(
        "tests/cpu/light_gru.h", "LightGru", 2, 1, 0, _light_gru,
    ),
    "peephole_lstm": Policy(
        "tests/cpu/peephole_lstm.h", "PeepholeLstm", 4, 2, 3, _peephole_lstm,
    ),
    "four_states": Policy("tests/cpu/four_states.h", "FourStates", 4, 4, 1, _four_states),
    "six_gates": Policy("tests/cpu/six_gates.h", "SixGates", 6, 2, 2, _six_gates),
}  # fmt: skip


QUICK = [(name, "float64") for name in POLICIES]
QUICK += [("peephole_lstm", "bfloat16"), ("one_gate", "bfloat16")]
OF_TWO_SOURCES = ("six_gates", "float64")
ALL = list(itertools.product(POLICIES, DTYPES))


def isa_for(dtype: str) -> str:
    """The instruction set that runs here, as far as it adds something for that dtype."""
    isa = ops.BUILD_INFO["isa"]
    return isa if dtype in native.ISA_SOURCES.get(isa, (dtype,)) else "avx512"


def flags(dtype: str) -> list[str]:
    """Optimised as little as vectors allow: the engine compiles in half the time."""
    isa = isa_for(dtype)
    defines = [f"-DFASTRNN_ISA={isa}", f"-DFASTRNN_DTYPE={DTYPES[dtype]}"]
    includes = [f"-I{ROOT}", f"-I{ROOT / 'csrc'}"]
    return ["-O1", "-g0", *native.FLAGS, "-Werror", *native.isas()[isa], *defines, *includes]


def compile_library(folder: Path, stem: str, units: dict[str, str], options: list[str]) -> Path:
    """units: file name -> text, compiled one after the other and linked as `stem`.so."""
    compiler = toolchain.find_compiler()
    for name, text in units.items():
        (folder / f"{stem}.{name}").write_text(text)
    sources = [f"{stem}.{name}" for name in units]
    command = [*compiler, *options, "-shared", "-Wl,-z,defs", "-o", f"{stem}.so", *sources]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return folder / f"{stem}.so"


def library(folder: Path, name: str, dtype: str) -> Path:
    """A cell's library: of one source, and one of them of a source for each way."""
    policy = POLICIES[name]
    text = UNIT.format(header=policy.header, struct=policy.struct, name=policy.name)
    units = {"both.cpp": text}
    if (name, dtype) == OF_TWO_SOURCES:
        units = {
            f"{way}.cpp": f"#define FASTRNN_CELL_{way.upper()}{text}"
            for way in ("forward", "backward")
        }
    return compile_library(folder, f"{policy.name}_{dtype}", units, flags(dtype))


def libraries(folder: Path, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Path]:
    """(policy, dtype) -> its library, compiled at the same time as far as there are cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        paths = {key: pool.submit(library, folder, *key) for key in wanted}
        return {key: path.result() for key, path in paths.items()}

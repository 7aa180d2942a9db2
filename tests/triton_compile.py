"""Compiles Triton's scan kernels ahead of time, without a GPU, and says what each one takes.

    python tests/triton_compile.py --arch 90 lstm:bfloat16:128 rnn_tanh:tf32:64 light_gru:ieee:64

The host code of the backend runs as it would on a GPU of that architecture, on CPU tensors, with
every launch turned into a compilation: so the kernels are those that a GPU would get, with the same
specialisation. One JSON object a line: registers, stack bytes, spilling instructions inside loops,
shared memory, barriers of all threads ("syncs"; "barriers" are the explicit ones), reads and writes
of words that programs exchange, which kinds of tensor core instructions there are, and an estimate
of the cycles of a step. Must run
without TRITON_INTERPRET.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import triton
from devices import BY_ARCH
from sass import spills_in_loops
from step_cycles import cycles
from triton.backends.compiler import GPUTarget
from triton_new_cells import named

from fastrnn import cells, ops
from fastrnn.triton import config, engine


class Driver:
    """Stands for the CUDA driver of one architecture, as far as a compilation asks for it."""

    def __init__(self, arch: int):
        self.arch = arch

    def get_current_target(self):
        return GPUTarget("cuda", self.arch, 32)

    def get_current_device(self):
        return self.arch

    def get_current_stream(self, device):
        return 0

    def get_active_torch_device(self):
        return torch.device("cpu")


def resources(compiled) -> dict:
    """What a compiled kernel takes, read from its machine code."""
    cuobjdump = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()

        def show(flag: str) -> str:
            command = [cuobjdump, flag, file.name]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout

        registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", show("-res-usage")).groups()
        sass = show("-sass")
    return dict(
        registers=int(registers),
        stack=int(stack),
        spills=spills_in_loops(sass),
        cycles=cycles(sass, compiled.metadata.num_warps),
        shared=compiled.metadata.shared,
        syncs=len(re.findall(r"\bbar(?:rier)?\.sync\b", compiled.asm["ptx"])),
        barriers=len(re.findall(r"\b(?:gpu|ttg)\.barrier", compiled.asm["ttir"])),
        # Words of others must be read anew each time, and written where the others read.
        words=[compiled.asm["ptx"].count(way) for way in ("ld.volatile.global", "st.global.cg")],
        dots=sorted(set(re.findall(r"(?:w?g?mma)\S*\.(tf32|bf16|f16)\.", compiled.asm["ptx"]))),
    )


def compile_layer(
    arch: int, cell: str, multiply: str, H: int, B: int, report, only: int, dense: bool = False
) -> None:
    """Compiles both kernels of one layer in every configuration that may be chosen for it."""
    dtype = torch.float32 if multiply in ("tf32", "ieee") else getattr(torch, multiply)
    torch.backends.cudnn.allow_tf32 = multiply == "tf32"
    spec, T, directions = cells.get(cell), 3, 2

    def launch(kernel, layer, option, tensors, events, **constants):
        args, shared = engine._arguments(layer, tensors)
        compiled = kernel.warmup(*args, grid=(1,), **shared, **constants, **option.options())
        direction = "forward" if "BIAS" in constants else "backward"
        report(direction, option, resources(compiled))

    def choose(direction, layer, run):
        device = BY_ARCH[arch]
        sizes = B, directions, device.sms, device.shared
        need = config.Need.of(direction, spec, H, layer.multiply)
        options = config.candidates(need, *sizes)
        return [run(option)[0] for option in options[:only]][0]

    engine._launch, engine.choose = launch, choose
    shapes = [(spec.gates * H, 8)] + [(spec.recurrent * H, H)] * (spec.recurrent > 0)
    shapes += [(rows,) for rows, _ in shapes]
    shapes += [(spec.params, H)] if spec.params else []
    lines = (T, B) if dense else (T * B,)
    shapes += [(*lines, spec.extra * H)] if spec.extra else []
    weights = [torch.zeros(s, dtype=dtype) for s in shapes * directions]
    state = [torch.zeros(directions, B, H, dtype=dtype) for _ in range(spec.states)]
    input, sizes = torch.zeros(T * B, 8, dtype=dtype), torch.full((T,), B)
    resets = torch.zeros(T * B, dtype=torch.bool)
    if dense:
        input, sizes, resets = input.view(T, B, 8), None, None
    output, final, saved = engine.forward(cell, input, weights, state, sizes, resets, 3, True, True)
    kept = output, saved, sizes, resets
    engine.backward(cell, output, final, input, weights, state, *kept, 3, True, ops.NEED_ALL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", type=int, choices=BY_ARCH, required=True)
    parser.add_argument("--only", type=int, default=99, help="configurations of each layer")
    parser.add_argument("--dense", action="store_true", help="neither ragged rows nor resets")
    parser.add_argument("layers", nargs="+", help="cell:multiply:H[:B]")
    options = parser.parse_args()
    if os.environ.get("TRITON_INTERPRET", "0") not in ("", "0"):
        parser.error("TRITON_INTERPRET must be unset: the interpreter compiles nothing")
    warnings.simplefilter("ignore")
    triton.runtime.driver.set_active(Driver(options.arch))
    engine.unavailable = lambda *_: None
    for layer in options.layers:
        cell, multiply, H, *B = layer.split(":")
        B = int(B[0]) if B else 16

        def report(direction, option, found, layer=layer):
            record = dict(layer=layer, arch=options.arch, kernel=direction)
            print(json.dumps(record | dict(config=vars(option)) | found), flush=True)

        name, only = named(cell), options.only
        compile_layer(options.arch, name, multiply, int(H), B, report, only, options.dense)


if __name__ == "__main__":
    main()

"""The contestants, in one registry. Each builds its own form of a problem once, outside the timing.

A builder gets the Problem and the number of threads and returns a Runner: `call` is what is timed
and returns whatever is native to the library; `read` turns that into named tensors for the gate.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import nn

from ..cases import layers, lookup
from ..cases.case import Case
from ..cases.problem import Problem
from . import forms
from .loops import EAGER, Loop
from .registry import CONTESTANTS, Contestant, Runner, contestant, named, rows, torch_runner

__all__ = ["AGAIN", "BASELINE", "CONTESTANTS", "EAGER", "Contestant", "Runner", "int8"]

BASELINE, AGAIN = "torch.nn", "torch.nn again"


def _torch_serves(case: Case, device: str) -> str | None:
    return None if layers.of(case.cell).torch else f"torch.nn has no {case.cell}"


def _fastrnn_serves(backend: str):
    def cannot(case: Case, device: str) -> str | None:
        try:
            from fastrnn import backends
        except ImportError:  # `compare` with a revision where the choice was in ops
            from fastrnn import ops as backends

        try:
            name, dtype = lookup.get(case.cell).name, getattr(torch, case.tensor_dtype)
            backends.choose(name, device, dtype, backend)
        except (RuntimeError, ImportError) as refusal:
            return str(refusal).split(": ", 1)[-1]
        return None

    return cannot


def fastrnn_layer(problem: Problem, backend: str) -> nn.Module:
    return problem.load(layers.fast(problem.case.cell), backend=backend)


def _fastrnn_runner(problem: Problem, backend: str) -> Runner:
    layer = fastrnn_layer(problem, backend)
    if problem.extra is None:
        return torch_runner(layer, problem)
    extra = problem.extra.chunk(lookup.get(problem.case.cell).extra, -1)
    return torch_runner(layer, problem, forward=partial(layer, extra=extra))


@contestant(BASELINE, "torch", cannot=_torch_serves)
def torch_nn(problem: Problem, threads: int) -> Runner:
    """cuDNN on a GPU; on a CPU oneDNN where it has the cell, else ATen operations a step."""
    return torch_runner(problem.torch_layer(), problem)


@contestant(AGAIN, "torch", cannot=_torch_serves)
def torch_nn_again(problem: Problem, threads: int) -> Runner:
    """The A/A check: the baseline once more, as a contestant like any other."""
    return torch_runner(problem.torch_layer(), problem)


@contestant("torch.compile", "torch", cannot=_torch_serves, setup=0.4)
def torch_compile(problem: Problem, threads: int) -> Runner:
    torch._dynamo.reset()  # every case starts with an empty cache of compiled code
    layer = problem.torch_layer()
    return torch_runner(layer, problem, forward=torch.compile(layer))


@contestant("fastrnn", "fastrnn", cannot=_fastrnn_serves("native"))
def fastrnn_native(problem: Problem, threads: int) -> Runner:
    return _fastrnn_runner(problem, "native")


def _zoo_layer_serves(library: str, table: dict):
    def cannot(case: Case, device: str) -> str | None:
        if device != "cpu" or case.dtype != "float32":
            return "float32 on a CPU"
        return _knows(library, table, case)

    return cannot


def _zoo_layer(name: str, problem: Problem) -> Runner:
    from . import zoo_layers

    return torch_runner(getattr(zoo_layers, name)(problem), problem)


@contestant("xlstm", "xlstm", cannot=_zoo_layer_serves("xlstm", forms.XLSTM))
def xlstm(problem: Problem, threads: int) -> Runner:
    return _zoo_layer(forms.XLSTM[problem.case.cell], problem)


# The difference of two sums of T logarithms: at T = 10,000 gradients are a tenth off.
LOG_SPACE_ERROR = 0.25


@contestant("minGRU-pytorch", "minGRU_pytorch", inexact=LOG_SPACE_ERROR,
            cannot=_zoo_layer_serves("minGRU-pytorch", forms.MIN_GRU))  # fmt: skip
def min_gru_pytorch(problem: Problem, threads: int) -> Runner:
    return _zoo_layer(forms.MIN_GRU[problem.case.cell], problem)


@contestant("log-space scan", "torch", inexact=LOG_SPACE_ERROR,
            cannot=_zoo_layer_serves("the log-space scan", forms.LOG_SPACE))  # fmt: skip
def log_space_scan(problem: Problem, threads: int) -> Runner:
    return _zoo_layer(forms.LOG_SPACE[problem.case.cell], problem)


def _lengths_serve(case: Case, device: str) -> str | None:
    return _fastrnn_serves("native")(case, device) if case.ragged else "for ragged cases"


@contestant("fastrnn-lengths", "fastrnn", cannot=_lengths_serve)
def fastrnn_lengths(problem: Problem, threads: int) -> Runner:
    """The padded tensors with lengths=, where the others take a PackedSequence."""
    padded = replace(problem, case=replace(problem.case, ragged=False))
    layer = fastrnn_layer(padded, "native")
    return torch_runner(layer, padded, forward=partial(layer, lengths=problem.lengths))


def _stream_serves(case: Case, device: str) -> str | None:
    if device != "cpu" or case.mode != "stream":
        return "for single steps on a CPU"
    if case.dtype not in ("float32", "bfloat16"):
        return "float32 and bfloat16 weights only"
    return _fastrnn_serves("native")(case, device)


@contestant("fastrnn-stream", "fastrnn", cannot=_stream_serves)
def fastrnn_stream(problem: Problem, threads: int) -> Runner:
    """fastrnn.Stream on one thread, with out=: each call goes on where the last one ended. Of a
    bfloat16 case the matrices are bfloat16, input and output float32."""
    import fastrnn

    stream = fastrnn.Stream(fastrnn_layer(problem, "native"), problem.case.B)
    stream.state = problem.hx
    x = problem.x[0].float()
    out = torch.empty(problem.case.B, problem.case.H)

    def read(output):
        return named(output.unsqueeze(0), stream.state, problem)

    return Runner(lambda: stream(x, out=out), read)


@contestant("fastrnn-triton", "fastrnn", "triton", cannot=_fastrnn_serves("triton"), setup=2.0)
def fastrnn_triton(problem: Problem, threads: int) -> Runner:
    return _fastrnn_runner(problem, "triton")


@contestant("reference", "fastrnn")
def fastrnn_reference(problem: Problem, threads: int) -> Runner:
    """The scan in plain torch operations: fastrnn's oracle."""
    return _fastrnn_runner(problem, "reference")


def _knows(library: str, table: dict, case: Case) -> str | None:
    return None if case.cell in table else f"{library} has no {case.cell}"


def _onnx_serves(case: Case, device: str) -> str | None:
    if case.mode == "training":
        return "inference only"
    if device != "cpu" or case.dtype != "float32":
        return "its recurrent kernels are for float32 on a CPU"
    if case.mode == "stream" and case.layers > 1:
        return "its graph here takes the state of one layer"
    return _knows("ONNX", forms.ONNX, case)


@contestant("onnxruntime", "onnxruntime", "onnx", cannot=_onnx_serves, setup=0.05)
def onnxruntime(problem: Problem, threads: int) -> Runner:
    from . import onnx_graph

    session, feeds = onnx_graph.session(problem, threads)

    def read(result):
        output, *final = (torch.from_numpy(a) for a in result)
        return named(rows(problem.packed(output)), final, problem)

    return Runner(lambda: session.run(None, feeds), read)


def _jax_serves(case: Case, device: str) -> str | None:
    if device == "cuda":
        import jax

        if jax.default_backend() != "gpu":
            return "this jax has no GPU support"
    if case.ragged:
        return "lax.scan has no ragged form"
    if case.dtype == "float64":
        return "float64 is off by default"
    return _knows("the jax contestant", forms.JAX, case)


@contestant("jax", "jax", cannot=_jax_serves, setup=0.4)
def jax(problem: Problem, threads: int) -> Runner:
    from . import jax_scan

    return Runner(*jax_scan.runner(problem))


def _flashrnn_serves(case: Case, device: str) -> str | None:
    plain = (case.layers, case.directions, case.ragged) == (1, 1, False)
    if device != "cuda" or not plain:
        return "one layer on CUDA"
    return _knows("flashrnn", forms.FLASHRNN, case)


@contestant("flashrnn", "flashrnn", cannot=_flashrnn_serves, setup=60.0)
def flashrnn(problem: Problem, threads: int) -> Runner:
    """NX-AI's fused CUDA kernel; the input projection is ours, since it takes a ready one."""
    from . import cuda_layers

    return torch_runner(
        problem.load(getattr(cuda_layers, forms.FLASHRNN[problem.case.cell])), problem
    )


def _haste_serves(case: Case, device: str) -> str | None:
    plain = (case.layers, case.directions, case.ragged) == (1, 1, False)
    if device != "cuda" or not plain or case.dtype not in ("float32", "float64"):
        return "one layer in float32 on CUDA"
    return _knows("haste", forms.HASTE, case)


@contestant("haste", "haste_pytorch", cannot=_haste_serves)
def haste(problem: Problem, threads: int) -> Runner:
    from . import cuda_layers

    kind = getattr(cuda_layers, forms.HASTE[problem.case.cell])
    return torch_runner(problem.load(kind), problem)


def baseline_of(case: Case) -> str:
    """Whom ratios refer to: torch.nn, for a cell that it lacks the reference scan; for the suite's
    own cells the eager loop.
    """
    if lookup.own(case.cell):
        return EAGER
    return BASELINE if layers.of(case.cell).torch else "reference"


def step_seconds(cell: str) -> tuple[float, float]:
    """Rough seconds of one step of the baseline on a CPU: (forward, forward + backward)."""
    if lookup.own(cell):
        return forms.EAGER_STEP_SECONDS
    return forms.TORCH_STEP_SECONDS.get(layers.of(cell).torch, forms.OTHER_STEP_SECONDS)


def exact(problem: Problem) -> dict[str, torch.Tensor]:
    """The float64 result of the case's baseline."""
    wide, baseline = problem.to(torch.float64), baseline_of(problem.case)
    if baseline == EAGER:
        layer = Loop(wide)
    else:
        layer = wide.torch_layer() if baseline == BASELINE else fastrnn_layer(wide, baseline)
    runner = torch_runner(layer, wide)
    with torch.set_grad_enabled(problem.training):
        return runner.read(runner.call())


from . import int8  # noqa: E402  its contestants come after those above

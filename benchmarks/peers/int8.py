"""Inference with int8 weights and activations that are quantised as they come.

Cases of the dtype "int8" have float32 tensors; what takes part in float32 too is their yardstick.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from pathlib import Path

import torch
from torch import nn

from ..cases import layers
from ..cases.case import Case
from ..cases.problem import Problem
from .registry import Runner, contestant, named, rows, torch_runner


def _int8(case: Case, device: str, kinds: tuple[str, ...], who: str) -> str | None:
    if case.dtype != "int8" or case.mode == "training" or device != "cpu":
        return "for inference in int8 on a CPU"
    kind = layers.of(case.cell).torch
    return None if kind in kinds else f"{who} has no {kind or case.cell} in int8"


@contestant(
    "fastrnn int8", "fastrnn", cannot=lambda c, d: _int8(c, d, ("RNN", "LSTM", "GRU"), "fastrnn")
)
def fastrnn_int8(problem: Problem, threads: int) -> Runner:
    """fastrnn.quantize: a scale for each row of the weights, and of x and h at each step."""
    import fastrnn

    return torch_runner(fastrnn.quantize(problem.torch_layer()), problem)


@contestant("torch int8", "torch", cannot=lambda c, d: _int8(c, d, ("LSTM", "GRU"), "torch"))
def torch_int8(problem: Problem, threads: int) -> Runner:
    """torch.ao.quantization.quantize_dynamic with its default settings."""
    layer = problem.torch_layer()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and has no successor for these layers
        model = torch.ao.quantization.quantize_dynamic(
            nn.ModuleDict({"layer": layer}), {type(layer)}, torch.qint8
        )
    return torch_runner(model.layer, problem)


@contestant(
    "onnxruntime int8",
    "onnxruntime",
    "onnx",
    cannot=lambda c, d: _int8(c, d, ("LSTM",), "ONNX Runtime"),
    setup=0.2,
)
def onnxruntime_int8(problem: Problem, threads: int) -> Runner:
    """DynamicQuantizeLSTM, as onnxruntime.quantization.quantize_dynamic makes it."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from . import onnx_graph

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        logging.disable(logging.WARNING)  # it warns of shapes that nobody has inferred
        try:
            quantize_dynamic(onnx_graph.model(problem), path, weight_type=QuantType.QInt8)
        finally:
            logging.disable(logging.NOTSET)
        session, feeds = onnx_graph.session(problem, threads, path.read_bytes())

    def read(result):
        output, *final = (torch.from_numpy(a) for a in result)
        return named(rows(problem.packed(output)), final, problem)

    return Runner(lambda: session.run(None, feeds), read)

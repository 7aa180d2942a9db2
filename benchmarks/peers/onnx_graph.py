"""ONNX Runtime: the case as a graph of ONNX's recurrent nodes, and a session with N threads."""

from __future__ import annotations

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from ..cases.problem import Problem
from .forms import ONNX

OPSET = 14


def _reorder(order: tuple[int, ...], rows: np.ndarray) -> np.ndarray:
    """[G*H, ...] from torch.nn's order of gates to ONNX's."""
    if not order:
        return rows
    parts = np.split(rows, len(order))
    return np.concatenate([parts[g] for g in order])


def _weights(problem: Problem, layer: int) -> dict[str, np.ndarray]:
    """W [D, G*H, I], R [D, G*H, H], B [D, 2*G*H] of a layer."""
    order, suffixes = ONNX[problem.case.cell].order, ("", "_reverse")[: problem.case.directions]

    def stacked(name: str) -> np.ndarray:
        keys = [f"{name}_l{layer}{suffix}" for suffix in suffixes]
        return np.stack([_reorder(order, problem.weights[k].numpy()) for k in keys])

    bias = np.concatenate([stacked("bias_ih"), stacked("bias_hh")], axis=1)
    return {"W": stacked("weight_ih"), "R": stacked("weight_hh"), "B": bias}


def _attributes(case) -> dict:
    node = ONNX[case.cell]
    found = {"hidden_size": case.H, **node.attributes}
    if case.directions == 2:
        found["direction"] = "bidirectional"
    return found | {name: [v] * case.directions for name, v in node.each_direction.items()}


def model(problem: Problem):
    """The case's layers as an ONNX model: X [T, B, I] -> Y [T, B, D*H], h_n, c_n [L*D, B, H]."""
    case = problem.case
    kind, states = ONNX[case.cell].operator, ONNX[case.cell].states
    nodes, constants, current = [], {"flat": np.array([0, 0, -1], np.int64)}, "X"
    for layer in range(case.layers):
        names = {}
        for key, value in _weights(problem, layer).items():
            names[key] = f"{key}{layer}"
            constants[names[key]] = value
        # state inputs exist for one layer only: the streaming cases
        initial = [f"{s}_0" for s in states] if problem.state is not None else []
        lengths = "lengths" if case.ragged else ""
        outputs = [f"Y{layer}", *(f"{s}{layer}" for s in states)]
        inputs = [current, names["W"], names["R"], names["B"], lengths, *initial]
        nodes.append(helper.make_node(kind, inputs, outputs, **_attributes(case)))
        nodes.append(helper.make_node("Transpose", [f"Y{layer}"], [f"P{layer}"], perm=[0, 2, 1, 3]))
        nodes.append(helper.make_node("Reshape", [f"P{layer}", "flat"], [f"O{layer}"]))
        current = f"O{layer}"
    results = [current]
    for s in states:
        parts = [f"{s}{layer}" for layer in range(case.layers)]
        nodes.append(helper.make_node("Concat", parts, [f"{s}_n"], axis=0))
        results.append(f"{s}_n")
    return _assemble(problem, nodes, constants, results)


def _assemble(problem: Problem, nodes, constants, results):
    inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT, list(problem.x.shape))]
    if problem.case.ragged:
        inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, ["B"]))
    for name, s in zip(("h_0", "c_0"), problem.state or ()):
        inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(s.shape)))
    outputs = [helper.make_tensor_value_info(r, TensorProto.FLOAT, [None] * 3) for r in results]
    held = [numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "case", inputs, outputs, held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def session(problem: Problem, threads: int, made: bytes | None = None):
    """(session, feeds): default optimisations, N threads, which stop spinning when a run ends.

    Threads that spin on after a run would slow down whoever is timed next. made: a model that was
    made of the case's, in place of it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")
    made = onnxruntime.InferenceSession(
        made or model(problem).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feeds = {"X": problem.x.numpy()}
    if problem.case.ragged:
        feeds["lengths"] = np.array(problem.case.lengths, np.int32)
    for name, s in zip(("h_0", "c_0"), problem.state or ()):
        feeds[name] = s.numpy()
    return made, feeds

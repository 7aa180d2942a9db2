"""What other libraries call a cell, by fastrnn's name for it: the one file here that names cells.

A peer serves the cells of its table and says so of every other one. The names of classes and
functions are those in the peer's own file, which is imported once the peer takes part.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class OnnxNode:
    """order: the operator's gates as numbers of torch.nn's gates, () for the same order;
    attributes: the operator's own; each_direction: those that are a list over the directions.
    """

    operator: str
    order: tuple[int, ...] = ()
    states: tuple[str, ...] = ("h",)
    attributes: dict[str, object] = field(default_factory=dict)
    each_direction: dict[str, object] = field(default_factory=dict)


# ONNX orders LSTM's gates i o f c and GRU's z r h; torch.nn has i f g o and r z n.
ONNX = {
    "rnn_tanh": OnnxNode("RNN", each_direction={"activations": "Tanh"}),
    "rnn_relu": OnnxNode("RNN", each_direction={"activations": "Relu"}),
    "rnn_identity": OnnxNode(
        "RNN",
        each_direction={
            "activations": "Affine",
            "activation_alpha": 1.0,
            "activation_beta": 0.0,
        },
    ),
    "lstm": OnnxNode("LSTM", (0, 3, 1, 2), states=("h", "c")),
    "gru": OnnxNode("GRU", (1, 0, 2), attributes={"linear_before_reset": 1}),
}
JAX = {  # functions of jax_steps.py
    "rnn_tanh": "tanh_step",
    "rnn_relu": "relu_step",
    "rnn_identity": "identity_step",
    "lstm": "lstm_step",
    "gru": "gru_step",
    "light_gru": "light_gru_step",
    "janet": "janet_step",
    "peephole_lstm": "peephole_lstm_step",
    "layer_norm_lstm": "layer_norm_lstm_step",
    "layer_norm_gru": "layer_norm_gru_step",
    "slstm": "slstm_step",
    "lstm_zoneout": "zoneout_lstm_step",
    "min_gru": "min_gru_step",
}
FLASHRNN = {"lstm": "FlashLSTM"}  # classes of cuda_layers.py
XLSTM = {"slstm": "XLSTM"}  # classes of zoo_layers.py
MIN_GRU = {"min_gru": "LucidMinGRU"}
LOG_SPACE = {"min_gru": "LogSpaceMinGRU"}
HASTE = {"lstm": "HasteLSTM", "gru": "HasteGRU"}

# Seconds of one dependent step of torch.nn's layers on a CPU: (forward, forward + backward).
TORCH_STEP_SECONDS = {"LSTM": (3e-6, 14e-6), "GRU": (20e-6, 150e-6), "RNN": (9e-6, 40e-6)}
OTHER_STEP_SECONDS = (9e-6, 40e-6)  # a reference scan's, near enough
EAGER_STEP_SECONDS = (80e-6, 400e-6)  # an eager loop's
TORCH_FUSED_ON_CPU = ("LSTM",)  # by oneDNN; the others are ATen operations a step

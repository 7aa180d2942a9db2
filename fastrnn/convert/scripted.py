"""An eager layer of torch.nn from a scripted one, which holds its weights and a compiled graph.

torch.jit keeps the constructor's arguments in the graph alone, a loaded file too: they are the
constants that forward hands to torch's kernel.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.jit import ScriptModule

from ..torch_private import scripted_class

KERNELS = {
    "RNN": ("aten::rnn_tanh", "aten::rnn_relu"),
    "LSTM": ("aten::lstm",),
    "GRU": ("aten::gru",),
    "RNNCell": ("aten::rnn_tanh_cell", "aten::rnn_relu_cell"),
    "LSTMCell": ("aten::lstm_cell",),
    "GRUCell": ("aten::gru_cell",),
}


def kind_of(module: nn.Module) -> str | None:
    """The name of torch.nn's recurrent class that a scripted module was made of, if of one."""
    if not isinstance(module, ScriptModule):
        return None
    place, _, name = scripted_class(module).rpartition(".")
    ours = place.startswith("__torch__.torch.nn.modules.rnn")  # a number may follow
    return name if ours and name in KERNELS else None


def unscript(layer: nn.Module) -> nn.Module:
    """The layer of torch.nn that a scripted (traced, loaded) one was made of, for `accelerate`.

        model.lstm = fastrnn.accelerate(fastrnn.convert.unscript(model.lstm))

    layer: a scripted nn.RNN, nn.LSTM, nn.GRU or one of their cells, from torch.jit.script or trace
    or a file. The arguments come from its graph. Its parameters are the layer's own where they are
    nn.Parameters, and share memory with them where they are not, as in a loaded file. Hooks stay
    behind. Raises TypeError for any other module; ValueError where the graph does not tell the
    arguments, or the parameters do not fit them.
    """
    kind = kind_of(layer)
    if kind is None:
        raise TypeError(
            "layer must be a scripted nn.RNN, nn.LSTM, nn.GRU or cell of these, got "
            f"{getattr(layer, 'original_name', type(layer).__name__)}"
        )
    weights = dict(layer.named_parameters())
    cell = kind.endswith("Cell")
    first = "weight_ih" if cell else "weight_ih_l0"
    if first not in weights:
        raise ValueError(f"layer must have a parameter {first}, got {sorted(weights)}")
    arguments = _cell_arguments(weights) if cell else _arguments(layer, kind, weights)
    if kind.startswith("RNN"):
        arguments["nonlinearity"] = _nonlinearity(layer, kind)
    eager = getattr(nn, kind)(**arguments, device="meta")
    expected = {name: weight.shape for name, weight in eager.named_parameters()}
    given = {name: weight.shape for name, weight in weights.items()}
    if expected != given:
        raise ValueError(f"layer must have the weights {expected}, got {given}")
    for name, weight in weights.items():
        same = isinstance(weight, nn.Parameter)
        eager._parameters[name] = weight if same else nn.Parameter(weight, weight.requires_grad)
    if isinstance(eager, nn.RNNBase):
        eager._init_flat_weights()
    return eager.train(layer.training)


def _cell_arguments(weights: dict[str, Tensor]) -> dict[str, Any]:
    return {
        "input_size": weights["weight_ih"].shape[1],
        "hidden_size": weights["weight_hh"].shape[1],
        "bias": "bias_ih" in weights,
    }


def _arguments(layer: ScriptModule, kind: str, weights: dict[str, Tensor]) -> dict[str, Any]:
    """From aten::lstm(input, hx, params, has_biases, num_layers, dropout, train, bidirectional,
    batch_first), which the other kinds' kernels are like.
    """
    calls = [list(node.inputs())[3:] for name in KERNELS[kind] for node in _nodes(layer, name)]
    if not calls:
        raise ValueError(f"layer must call {' or '.join(KERNELS[kind])}, and its graph does not")
    bias, num_layers, dropout, _, bidirectional, batch_first = (v.toIValue() for v in calls[0])
    arguments = {
        "input_size": weights["weight_ih_l0"].shape[1],
        "hidden_size": weights["weight_hh_l0"].shape[0] // {"LSTM": 4, "GRU": 3, "RNN": 1}[kind],
        "num_layers": num_layers,
        "bias": bias,
        "dropout": dropout,
        "bidirectional": bidirectional,
        "batch_first": batch_first,
    }
    if "weight_hr_l0" in weights:
        arguments["proj_size"] = weights["weight_hr_l0"].shape[0]
    return arguments


def _nonlinearity(layer: ScriptModule, kind: str) -> str:
    """Of the two kernels that forward names, the graph has the one that is called."""
    called = [name for name in KERNELS[kind] if _nodes(layer, name)]
    if len(called) != 1:
        raise ValueError(f"layer must call one of {KERNELS[kind]}, got {called} in its graph")
    return "relu" if "relu" in called[0] else "tanh"


def _nodes(layer: ScriptModule, kind: str) -> list:
    # forward__0 is what is called with a Tensor where forward has a form for packed batches too.
    overload = getattr(layer, "forward__0", None)
    graph = layer.graph if overload is None else overload.graph
    return list(graph.findAllNodes(kind))

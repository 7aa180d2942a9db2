"""Steps become graphs: traced, derived and cut right, or refused with the reason."""

import re

import pytest
import torch
import torch.nn.functional as F
from derived_cells import ORACLES, PARTS, STEPS, by_autograd, by_graphs, leaves_of
from new_cells import light_gru
from torch import nn

import fastrnn
from fastrnn import cells
from fastrnn.cells import cpp
from fastrnn.cells.derive import derive
from fastrnn.cells.graph import Graph, order
from fastrnn.cells.lowering import LOWER
from fastrnn.cells.trace import CellError

FUNCTIONS = {
    "arithmetic": lambda a, b: (a + 2) * (3 - b) / (b * b + 1) - a / 4 + (-a) * 0.5,
    "where": lambda a, b: torch.where(a > b, a * b, b - 1) + torch.where(a <= 0.5, 0.0, a),
    "comparisons": lambda a, b: (a < b).to(a) * a + (a >= 0).float() * b + (a == b) * a,
    "not equal": lambda a, b: (a != b) * b + (a.sign() != b.sign()) * a,
    "where_of_numbers": lambda a, b: a + torch.where(a > b, 0.1, 0.0) * torch.where(b > a, 0.3, a),
    "masks": lambda a, b: torch.where(((a > 0) & ~(b > 1)) | (a < -1), a, b * b),
    "logical": lambda a, b: torch.where(torch.logical_and(a > 0, torch.logical_not(b > 0)), a, b),
    "maximum": lambda a, b: torch.maximum(a, b) * torch.minimum(a, 2 * b),
    "max": lambda a, b: torch.max(a, b) * torch.min(a, b),
    "clamp": lambda a, b: a.clamp(-0.5, 0.7) * b.clamp(min=0.1) + a.clamp(max=0.3),
    "abs": lambda a, b: a.abs() * b.sign() + torch.abs(b),
    "sqrt": lambda a, b: a.abs().sqrt() + torch.rsqrt(b.abs() + 1),
    "log": lambda a, b: torch.log(a.abs() + 0.1) * torch.log1p(b * b),
    "exp": lambda a, b: torch.exp(a) + torch.expm1(b * 0.1),
    "sigmoid": lambda a, b: torch.sigmoid(a) * b.tanh(),
    "relu": lambda a, b: torch.relu(a) + F.relu(b) * F.relu6(a),
    "leaky_relu": lambda a, b: F.leaky_relu(a) * F.leaky_relu(b, 0.3),
    "elu": lambda a, b: F.elu(a) * F.elu(b, 0.7) + F.selu(a) + F.celu(b, 1.3),
    "silu": lambda a, b: F.silu(a) * F.mish(b) + F.hardswish(a),
    "softplus": lambda a, b: F.softplus(a) * F.softplus(30 * b, beta=2) + F.logsigmoid(a * b),
    "gelu": lambda a, b: F.gelu(a) * F.gelu(b, approximate="tanh"),
    "hardtanh": lambda a, b: F.hardtanh(a) * F.hardsigmoid(b) + F.hardtanh(b, -0.2, 0.4),
    "softsign": lambda a, b: F.softsign(a) * F.tanhshrink(b),
    "threshold": lambda a, b: F.threshold(a, 0.1, 20.0) * b,
    "sin": lambda a, b: torch.sin(a) * torch.cos(b) + torch.tan(0.3 * a),
    "erf": lambda a, b: torch.erf(a) * b,
    "powers": lambda a, b: a**3 + b**-2 + a.pow(2) * torch.square(b) + a.abs() ** 0.5 + b**1 + a**0,
    "lerp": lambda a, b: torch.lerp(a, b, 0.3) * torch.lerp(a, b, torch.sigmoid(a)),
    "addcmul": lambda a, b: torch.addcmul(a, a, b, value=0.5) + torch.addcdiv(a, b, b * b + 1),
    "constants": lambda a, b: a * torch.tensor(3.0) + torch.zeros_like(b) + torch.full_like(a, 2.0),
    "in place": lambda a, b: (a * b).add_(b).mul_(2).sigmoid_(),
    "masked_fill": lambda a, b: a.masked_fill(b > 0, 1.5),
    "modules": lambda a, b: nn.Softplus()(a) * nn.Hardtanh(-2, 2)(b),
}  # fmt: skip


def assert_derived(step, gates, states, params=0):
    derived = derive(step, gates, states, params)
    for seed in range(3):
        leaves = leaves_of(gates, states, params, seed=seed)
        ours, theirs = by_graphs(derived, leaves), by_autograd(step, leaves)
        for part in PARTS:
            for a, b in zip(ours[part], theirs[part], strict=True):
                torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11, msg=part)
    return derived


@pytest.mark.parametrize("name", STEPS | ORACLES)
def test_cells_are_derived(name):
    assert_derived(*(STEPS | ORACLES)[name])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_derived(name):
    function = FUNCTIONS[name]

    def step(x, r, state):
        return (function(x[0] + r[0], state[0]) + state[0],)

    assert_derived(step, 1, 1)


def test_gradients_are_those_that_autograd_gives():
    class Spike(torch.autograd.Function):  # a step function with a surrogate gradient
        @staticmethod
        def forward(ctx, v):
            ctx.save_for_backward(v)
            return (v > 0).to(v.dtype)

        @staticmethod
        def backward(ctx, grad):
            (v,) = ctx.saved_tensors
            return grad / (1 + (3 * v).square())

    def spiking(x, r, state):
        v = 0.9 * state[1] * (1 - state[0].detach()) + x[0] + r[0]
        return Spike.apply(v - 1), v

    derived = assert_derived(spiking, 1, 2)
    assert derived.dprev[0].at == 0, "detach lets no gradient through"


# What hand-written kernels keep: of LSTM i f g o, of GRU r z n and r_n.
@pytest.mark.parametrize(("name", "saved", "split", "kept_gate"), [
    ("rnn_tanh", 0, False, None), ("rnn_relu", 0, False, None), ("rnn_identity", 0, False, None),
    ("lstm", 4, False, 3), ("gru", 4, True, 1), ("light_gru", 2, False, 1), ("janet", 3, False, 1),
    ("peephole_lstm", 4, False, 3),
])  # fmt: skip
def test_the_cut_keeps_no_more_than_by_hand(name, saved, split, kept_gate):
    derived = derive(*(STEPS | ORACLES)[name])
    assert (len(derived.saved), derived.split, derived.kept_gate) == (saved, split, kept_gate)


def test_the_kept_gate_is_at_its_place_and_alone():
    derived = derive(*STEPS["peephole_lstm"])
    for place, node in enumerate(derived.saved):
        gates = {n.at for n in order([node]) if n.op in ("x", "r")}
        assert (derived.kept_gate in gates) == (place == derived.kept_gate)


def test_kept_values_are_what_is_dear():
    derived = derive(lambda x, r, s: (torch.tanh(torch.tanh(x[0] + r[0])) * s[0],), 1, 1, 0)
    inner, outer = (n for n in order(derived.next) if n.op == "tanh")
    assert derived.saved == (inner,), "the outer one costs less to compute again than to keep"
    assert sum(n.op == "tanh" for n in order(derived.dx)) == 1


def test_names_come_from_the_step():
    assert [n.name for n in light_gru.derived.saved] == ["z", "n"]
    source = cpp.policy(light_gru)
    assert (
        "const T z = sigmoid(x[0] + r[0]);" in source
        and "// Kept for backward: 0: z, 1: n." in source
    )


def test_a_graph_has_no_equal_nodes_and_no_needless_ones():
    g = Graph()
    a, b = g.leaf("x", 0), g.leaf("x", 1)
    assert a + b is b + a and a * b is b * a and a - b is not b - a
    assert a + 0 is a and 1 * a is a and a / 1 is a and g.make("neg", -a) is a and a + (-b) is a - b
    assert (0.0 * a).op == "mul", "0 * NaN is NaN"
    assert g.const(0.0) is not g.const(-0.0)
    assert g.const(float("nan")) is g.const(float("nan"))


def _if_positive(x, r, state):
    if x[0].max() > 0:
        return (x[0] + r[0],)
    return (x[0] - r[0],)


REFUSED = {
    "sum": (lambda x, r, s: (x[0].sum() + r[0],), "'sum': it looks across rows: .* units alone"),
    "mean": (lambda x, r, s: (x[0].mean(0) + r[0],), "'mean': it looks across rows"),
    "var": (lambda x, r, s: (x[0] * x[0].var(-1, keepdim=True),), "'var': it looks across units"),
    "softmax": (lambda x, r, s: (x[0].softmax(-1),), "'_softmax': it looks across units or rows"),
    "flip": (lambda x, r, s: (x[0].flip(-1),), "'flip': it looks across units or rows"),
    "matmul": (lambda x, r, s: (x[0] @ r[0].T,), r"'(t|numpy_T|transpose|permute)': "),
    "layer_norm": (
        lambda x, r, s: (F.layer_norm(x[0], x[0].shape),),
        r"'native_layer_norm': it is over the axes \[2, 3\]: a row's units are the last axis alone",
    ),
    "turned": (lambda x, r, s: (x[0].view(3, 2).mean(-1) + r[0],), "'view': .* another order"),
    "number": (
        lambda x, r, s: (x[0] / x[0].shape[-1] + x[0].mean(-1, keepdim=True),),
        "something else for 5 units than for 3",
    ),
    "slice": (lambda x, r, s: (x[0][..., :1] + r[0],), "'slice': it takes a part"),
    "if": (_if_positive, "'max': it looks across units or rows"),
    "one of them": (lambda x, r, s: (x[0] * x[0][0, 0],), "'select': it takes a part"),
    "bool": (lambda x, r, s: (x[0] if x[0] > 0 else r[0],), "ambiguous .*choose with torch.where"),
    "item": (lambda x, r, s: (x[0] * r[0].item(),), "Scalar .*choose with torch.where"),
    "random": (lambda x, r, s: (x[0] * torch.rand_like(x[0]),), "it draws random numbers"),
    "dropout": (lambda x, r, s: (F.dropout(x[0], 0.5, True),), "it draws random numbers"),
    "floor": (lambda x, r, s: (x[0].floor(),), "'floor': fastrnn has no kernel for it"),
    "half": (lambda x, r, s: (x[0].half(),), r"'_to_copy': it converts to torch.float16"),
    "root": (lambda x, r, s: (x[0] ** 0.3,), "'pow': kernels have powers with constant whole"),
    "mask": (lambda x, r, s: (x[0] > 0,), "state 0 that it returns is a comparison"),
}  # fmt: skip
LATER = {"if": 1, "layer_norm": 0}  # lines from the step's first to the one that is refused


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_say_where_and_why(name):
    step, reason = REFUSED[name]
    line = step.__code__.co_firstlineno
    with pytest.raises(CellError, match=reason) as refusal:
        fastrnn.cell(gates=1)(step)
    if name != "number":  # which only its results show
        assert re.search(rf"{__file__}:{line + LATER.get(name, 0)}\)", str(refusal.value))
    assert isinstance(refusal.value, ValueError)


@pytest.mark.parametrize(("given", "words"), [
    (lambda x, r, s: x[0] + r[0], "must return a tuple of 1 tensors .*got Tensor"),
    (lambda x, r, s: (x[0], r[0]), "must return a tuple of 1 tensors .*got 2"),
    (lambda x, r, s: (1.0,), "got float at place 0"),
    (lambda x, r, s: (x[1] + r[0],), r"x has 1 tensors \(gates=1\), and it reads x\[1\]"),
    (lambda x, r, s: (x[0] + s[1],), r"state has 1 tensors \(states=1\), and it reads state\[1\]"),
    (lambda x, r: (x[0],), "must take 3 arguments: x, r, state"),
    (lambda x, r, s, p: (x[0],), "must take 3 arguments: x, r, state"),
])  # fmt: skip
def test_wrong_steps(given, words):
    with pytest.raises(CellError, match=words):
        fastrnn.cell(gates=1)(given)


def test_wrong_closures():
    weight, vector = torch.randn(3, requires_grad=True), torch.randn(3)
    with pytest.raises(CellError, match=r"needs a gradient and is no argument.*params="):
        fastrnn.cell(gates=1)(lambda x, r, s: (x[0] * weight,))
    with pytest.raises(CellError, match=r"of shape \[3\] that is no argument"):
        fastrnn.cell(gates=1)(lambda x, r, s: (x[0] * vector,))
    scale = torch.tensor(2.5)
    made = fastrnn.cell(gates=1)(lambda x, r, s: (x[0] * scale + r[0],))
    assert "T(2.5)" in cpp.policy(made)
    made = fastrnn.cell(gates=1)(lambda x, r, s: (x[0] * scale.item() + r[0],))
    assert "T(2.5)" in cpp.policy(made)


@pytest.mark.parametrize("counts", [
    {"gates": 0}, {"gates": 1.0}, {"gates": True}, {"gates": 1, "states": 0},
    {"gates": 1, "params": -1}, {"gates": 1, "states": 9},
])  # fmt: skip
def test_wrong_counts(counts):
    word = list(counts)[-1]
    with pytest.raises(ValueError, match=f"{word} must be"):
        fastrnn.cell(**counts)


def test_a_cell_is_known_by_what_it_computes():
    def make(scale):
        @fastrnn.cell(gates=1)
        def scaled(x, r, state):
            return (torch.tanh(x[0] + scale * r[0]),)

        return scaled

    one, same, other = make(0.5), make(0.5), make(0.25)
    assert one.name == same.name != other.name and one.title == other.title == "scaled"
    assert cells.get(one.name) is same and cells.get(other.name) is other
    with pytest.raises(ValueError, match="'scaled' has changed: this needs scaled@0, and here it"):
        cells.get("scaled@0")
    with pytest.raises(ValueError, match="import the module that defines nowhere@0"):
        cells.get("nowhere@0")
    assert not hasattr(one, "weight") and "gates=1" in repr(one)


def test_a_wrong_derivation_is_refused(monkeypatch):
    """Whatever this package gets wrong of a step is an error where the cell is declared."""
    monkeypatch.setitem(LOWER, "tanh", lambda g, a: a * (1 - 1e-7))
    with pytest.raises(CellError, match="gives other results than its operations alone"):
        derive(lambda x, r, s: (torch.tanh(x[0] + r[0]),), 1, 1, 0)

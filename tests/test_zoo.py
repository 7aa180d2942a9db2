"""fastrnn.zoo: every layer against the equations of its paper, in float64."""

import copy
import math
import pickle

import pytest
import torch
from helpers import DEVICE, assert_same, backends, flat, gradients, randn, run_python, slow_but
from recurrent_cells import dense
from torch import nn
from torch.nn import functional as F

import fastrnn
from fastrnn import zoo

F64 = torch.float64
T, B, I, H = 7, 3, 4, 6  # noqa: E741
OPTIONS = {"SLSTM": dict(heads=2)}  # of a layer of such a size


class Weights:
    """A layer's weights by gate: w(k, x, h) is W_k x + U_k h + b_k."""

    def __init__(self, layer):
        named = dict(layer.named_parameters())
        self.w_ih = named["weight_ih_l0"].split(H)
        self.b = sum(b for name, b in named.items() if name.startswith("bias"))
        self.b = self.b.split(H) if layer.bias else [0.0] * len(self.w_ih)
        if "weight_hh_l0" in named:
            w_hh = named["weight_hh_l0"]
            self.w_hh = (dense(w_hh) if layer.heads else w_hh).split(H)
        self.p = named.get("params_l0")
        self.forget_gate = getattr(layer, "forget_gate", "")

    def __call__(self, k, x, h=None):
        return x @ self.w_ih[k].T + self.b[k] + (0 if h is None else h @ self.w_hh[k].T)


def peephole_lstm(w, x, h, c):
    i, f = (torch.sigmoid(w(k, x, h) + w.p[k] * c) for k in (0, 1))
    c = f * c + i * torch.tanh(w(2, x, h))
    return torch.sigmoid(w(3, x, h) + w.p[2] * c) * torch.tanh(c), c


def cifg_lstm(w, x, h, c):
    i = torch.sigmoid(w(0, x, h))
    c = (1 - i) * c + i * torch.tanh(w(1, x, h))
    return torch.sigmoid(w(2, x, h)) * torch.tanh(c), c


def light_gru(w, x, h):
    z = torch.sigmoid(w(0, x, h))
    return (z * h + (1 - z) * torch.relu(w(1, x, h)),)


def reset_before_gru(w, x, h):
    r, z = torch.sigmoid(w(0, x, h)), torch.sigmoid(w(1, x, h))
    return (z * h + (1 - z) * torch.tanh(w(2, x, r * h)),)


def janet(w, x, h):
    s = w(0, x, h)
    return (torch.sigmoid(s) * h + (1 - torch.sigmoid(s - 1)) * torch.tanh(w(1, x, h)),)


def ind_rnn(w, x, h):
    return (torch.relu(w(0, x) + w.p[0] * h),)


def g(a):
    return torch.where(a >= 0, a + 0.5, torch.sigmoid(a))


def min_gru(w, x, h):
    z = torch.sigmoid(w(0, x))
    return ((1 - z) * h + z * g(w(1, x)),)


def min_lstm(w, x, h):
    f, i = torch.sigmoid(w(0, x)), torch.sigmoid(w(1, x))
    return (f / (f + i) * h + i / (f + i) * g(w(2, x)),)


def layer_norm(gates, scales, shifts):
    gates = torch.cat(gates, -1)
    gates = F.layer_norm(gates, gates.shape[-1:], scales.flatten(), shifts.flatten())
    return gates.split(H, -1)


def layer_norm_lstm(w, x, h, c):
    i, f, g, o = layer_norm([w(k, x, h) for k in range(4)], w.p[:4], w.p[4:8])
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    (c,) = layer_norm([c], w.p[8], w.p[9])
    return torch.sigmoid(o) * torch.tanh(c), c


def layer_norm_gru(w, x, h):
    u = layer_norm([x @ w_k.T for w_k in w.w_ih], w.p[:3], w.p[3:6])
    v = layer_norm([h @ w_k.T for w_k in w.w_hh], w.p[6:9], w.p[9:])
    r, z = torch.sigmoid(u[0] + v[0]), torch.sigmoid(u[1] + v[1])
    return (z * h + (1 - z) * torch.tanh(u[2] + r * v[2]),)


def slstm(w, x, h, c, n, m):
    """With an exponential forget gate: c and n are what the paper has over exp(m)."""
    i, f, z, o = (w(k, x, h) for k in range(4))
    log_f = f if w.forget_gate == "exp" else F.logsigmoid(f)
    new = torch.maximum(log_f + m, i)
    i, f = torch.exp(i - new), torch.exp(log_f + m - new)
    c, n = f * c + i * torch.tanh(z), f * n + i
    return torch.sigmoid(o) * c / n, c, n, new


STEPS = {
    "PeepholeLSTM": peephole_lstm, "CIFGLSTM": cifg_lstm, "LightGRU": light_gru, "JANET": janet,
    "IndRNN": ind_rnn, "MinGRU": min_gru, "MinLSTM": min_lstm, "SLSTM": slstm,
    "LayerNormLSTM": layer_norm_lstm, "LayerNormGRU": layer_norm_gru,
    "ResetBeforeGRU": reset_before_gru,
}  # fmt: skip
NORMED = ["LayerNormLSTM", "LayerNormGRU"]
each_layer = pytest.mark.parametrize("name", STEPS)


def layer_of(name, *sizes, dtype=F64, **options):
    options = {**OPTIONS.get(name, {}), **options}
    return getattr(zoo, name)(*sizes, dtype=dtype, device=DEVICE, **options)


def test_the_list_is_all_of_it():
    assert sorted(zoo.__all__) == sorted(STEPS) and set(STEPS) <= set(dir(zoo))
    with pytest.raises(AttributeError, match="no attribute 'GRU'"):
        zoo.GRU  # noqa: B018


# Kernels of the quick tests are those that other tests compile too.
QUICK = ["PeepholeLSTM", "LightGRU", "IndRNN", "MinGRU"]


@each_layer
def test_steps_are_the_papers_equations(name):
    compare_with_equations(name, "reference")


@backends(F64, kernels=True)
@pytest.mark.parametrize("name", slow_but(QUICK, STEPS))
def test_kernels_compute_the_papers_equations(name, backend, poisoned):
    compare_with_equations(name, backend)


def compare_with_equations(name, backend):
    layer = layer_of(name, I, H, backend=backend)
    if name in NORMED:  # whose scales begin with ones
        nn.init.normal_(layer.params_l0)
    x = randn(T, B, I, dtype=F64, grad=True)
    state = [randn(1, B, H, dtype=F64, grad=True) for _ in range(layer.states)]
    if layer.states > 2:
        state[2] = state[2].detach().abs().requires_grad_()  # a normaliser
    ours = flat(layer(x, tuple(state) if len(state) > 1 else state[0]))
    w, current, outputs = Weights(layer), [s[0] for s in state], []
    for x_t in x:
        current = STEPS[name](w, x_t, *current)
        outputs.append(current[0])
    exact = [torch.stack(outputs), *(s[None] for s in current)]
    assert_same(ours, exact, 1e-12)
    inputs = [x, *state, *layer.parameters()]
    assert_same(gradients(ours, inputs), gradients(exact, inputs), 1e-10)


def log_g(a):
    return torch.where(a >= 0, (F.relu(a) + 0.5).log(), -F.softplus(-a))


def scan_log(log_coefficients, log_values):
    """Feng et al., appendix B: h from log(a_1 .. a_T) and log(h_0, b_1 .. b_T)."""
    total = F.pad(log_coefficients.cumsum(0), (0, 0, 0, 0, 1, 0))
    return (total + (log_values - total).logcumsumexp(0)).exp()[1:]


@backends(F64)
@pytest.mark.parametrize("given", [False, True], ids=["zeros", "hx"])
@pytest.mark.parametrize("name", slow_but(["MinGRU"], ["MinGRU", "MinLSTM"]))
def test_against_the_papers_parallel_form(name, given, backend):
    layer, x = layer_of(name, I, H, backend=backend), randn(50, B, I, dtype=F64, grad=True)
    w, h0 = Weights(layer), torch.rand(1, B, H, dtype=F64).to(DEVICE)
    if name == "MinGRU":
        k = w(0, x)
        log_a, log_b = -F.softplus(k), -F.softplus(-k) + log_g(w(1, x))
    else:
        difference = F.softplus(-w(0, x)) - F.softplus(-w(1, x))
        log_a, log_b = -F.softplus(difference), -F.softplus(-difference) + log_g(w(2, x))
    start = h0.log() if given else torch.full_like(h0, -1e300)
    exact = scan_log(log_a, torch.cat([start, log_b]))
    ours = layer(x, h0 if given else None)[0]
    assert_same(ours, exact, 1e-12)
    inputs = [x, *layer.parameters()]
    assert_same(gradients(ours, inputs), gradients(exact, inputs), 1e-10)


@pytest.mark.slow
@backends()
def test_min_lstm_where_both_gates_are_closed(backend):
    """The quotient of two gates that float32 has no numbers for."""
    layer = layer_of("MinLSTM", I, H, dtype=torch.float32, backend=backend)
    with torch.no_grad():
        layer.bias_ih_l0[: 2 * H] = -300.0
    x = randn(T, B, I, grad=True)
    twin = copy.deepcopy(layer).double()
    twin.backend = "reference"
    assert_same(layer(x), twin(x.double()), 1e-4)
    assert all(grad.isfinite().all() for grad in gradients(layer(x), [x, *layer.parameters()]))


@each_layer
def test_a_module_as_others(name):
    layer = layer_of(name, I, H, 2, bidirectional=True, dtype=torch.float32, backend="reference")
    bias = "bias=False, " if name in NORMED else ""
    more = "".join(f", {k}={v}" for k, v in OPTIONS.get(name, {}).items())
    told = f"{name}({I}, {H}, num_layers=2, {bias}bidirectional=True, backend='reference'{more})"
    assert repr(layer) == told and isinstance(layer, fastrnn.Recurrent)
    x = randn(T, B, I)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert type(twin) is type(layer) and repr(twin) == told
        assert_same(twin(x), layer(x), 0.0)
    _, left = fastrnn.accelerate(nn.Sequential(layer), report=True)
    assert not left
    output, _ = layer_of(name, I, H, batch_first=True, backend="reference")(x.double())
    assert output.shape == (T, B, H)


def test_what_the_papers_begin_with():
    for name, shifts in (
        ("LayerNormLSTM", [4, 5, 6, 7, 9]),
        ("LayerNormGRU", [3, 4, 5, 9, 10, 11]),
    ):
        layer = layer_of(name, 4, 6, num_layers=2, bidirectional=True)
        begun = torch.ones_like(layer.params_l0)
        begun[shifts] = 0
        assert torch.equal(layer.params_l1_reverse, begun) and not hasattr(layer, "bias_ih_l0")
        assert layer_of(name, 4, 6, bias=True).bias_hh_l0.shape == layer.weight_hh_l0.shape[:1]
    u = layer_of("IndRNN", 4, 2000).params_l0
    assert 0 <= u.min() < 0.01 and 0.99 < u.max() <= 1 and abs(u.mean() - 0.5) < 0.03
    layer = layer_of("JANET", 4, 2000, longest=100)
    forget, other = layer.bias_ih_l0.chunk(2)
    assert 0 <= forget.min() < 0.5 and 4.5 < forget.max() <= math.log(99)
    assert abs(forget.exp().mean() - 50) < 3
    assert not other.any() and not layer.bias_hh_l0.any() and layer.weight_hh_l0.any()
    assert "longest=100" in repr(layer) and "longest" not in repr(layer_of("JANET", 4, 5))
    with pytest.raises(ValueError, match="longest must be a number of steps from 3 on, got 2"):
        zoo.JANET(4, 5, longest=2)


def test_nothing_is_traced_before_it_is_asked_for(tmp_path):
    code = (
        "import sys, fastrnn\n"
        "def loaded(): return sorted(m for m in sys.modules if m.startswith('fastrnn.zoo'))\n"
        "print(loaded(), 'networkx' in sys.modules)\n"
        "from fastrnn import zoo\n"
        "print(loaded(), 'networkx' in sys.modules)\n"
        "fastrnn.zoo.MinGRU(32, 64)\n"
        "print(loaded())\n"
    )
    done = run_python("-c", code, cwd=tmp_path)
    assert done.stdout.splitlines() == [
        "[] False",
        "['fastrnn.zoo'] False",
        "['fastrnn.zoo', 'fastrnn.zoo.layer', 'fastrnn.zoo.min_gru']",
    ], done.stderr

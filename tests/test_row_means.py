"""Cells that look across the units of a row: traced, planned in passes, and run."""

import pytest
import torch
import torch.nn.functional as F
from across_cells import ACROSS as CELLS
from across_cells import centred
from derived_cells import PARTS, by_autograd, by_graphs, leaves_of
from helpers import DEVICE, assert_same, backends, flat, gradients, randn, slow_but
from hypothesis import HealthCheck, given, settings
from random_cells import ACROSS, Step, steps

import fastrnn
from fastrnn import backends as all_backends
from fastrnn import zoo
from fastrnn.cells import cpp, cpp_passes
from fastrnn.cells.derive import derive
from fastrnn.cells.evaluate import evaluate
from fastrnn.cells.graph import order
from fastrnn.cells.passes import plan


def mean(a):
    return a.mean(-1, keepdim=True)


F64 = torch.float64
PLAIN = {
    "product": lambda x, r, s, p: (mean(x[0]) * r[0] + s[0],),
    "nothing else": lambda x, r, s, p: (s[0] * 0.5 + mean(x[0]),),
    "mean alone": lambda x, r, s, p: (mean(x[0] + r[0]),),
    "of a mean": lambda x, r, s, p: (x[0] - (mean(x[0]) + r[0]).mean(-1).unsqueeze(-1),),
    "of a parameter": lambda x, r, s, p: (torch.tanh(x[0] + r[0]) * mean(p[0]),),
    "weighted": lambda x, r, s, p: (F.layer_norm(x[0], x[0].shape[-1:], p[0].exp(), p[0]) * r[0],),
    "shift alone": lambda x, r, s, p: (F.layer_norm(x[0], x[0].shape[-1:], bias=p[0]) * r[0],),
    "masked": lambda x, r, s, p: (torch.where(x[0] > mean(x[0]), r[0], s[0]),),
    "chosen": lambda x, r, s, p: (torch.where(mean(x[0]) > 0, r[0], s[0]),),
    "counted": lambda x, r, s, p: (mean((x[0] > r[0]).to(x[0])) * s[0] + x[0],),
    "detached": lambda x, r, s, p: (x[0] * mean(r[0].detach()) + r[0],),
    "softmax": lambda x, r, s, p: (x[0].exp() / x[0].exp().sum(-1, keepdim=True) + r[0],),
    "deep": lambda x, r, s, p: (ACROSS["norm"](torch.tanh(ACROSS["norm"](x[0] + r[0])) * p[0]),),
}  # fmt: skip


def by_passes(derived, leaves: dict) -> dict:
    """What `by_graphs` gives, pass by pass as the engines go."""
    plans = cpp_passes.plans(derived)
    like = leaves["x"][0]
    ours = run_passes(plans["forward"], {op: leaves[op] for op in ("x", "r", "prev", "param")})
    states, saved = derived.states, [ours["saved", k] for k in range(len(derived.saved))]
    result = {"next": [ours["next", k] for k in range(states)]}
    given = {op: leaves[op] for op in ("prev", "param", "d")} | result | {"saved": saved}
    given["row"] = saved[len(saved) - derived.rows :]
    ours = run_passes(plans["backward"], given)
    for part, name, count in (("dx", "dx", derived.dx), ("dprev", "d", derived.dprev)):
        result[part] = [ours[name, k] for k in range(len(count))]
    name = "dr" if derived.split else "dx"
    result["dr"] = [ours[name, k] for k in range(len(derived.dr))]
    result["dparam"] = [ours["dp", k] for k in range(derived.params)]
    return {part: [t.expand_as(like) for t in ts] for part, ts in result.items()}


def run_passes(made, leaves: dict) -> dict:
    like = next(t for ts in leaves.values() for t in ts)
    missing = torch.full_like(like, torch.nan)
    leaves = leaves | {"total": [missing] * made.totals, "temp": [missing] * made.temps}
    leaves["row"] = [*leaves.get("row", ()), *[missing] * made.rows]
    results = {}
    for one in made.passes:
        values = evaluate(one.rows.values(), leaves)
        for (_, k), value in zip(one.rows, values):
            leaves["row"][k] = value
        values = evaluate(one.outputs.values(), leaves)
        for (name, k), value in zip(one.outputs, values):
            if name == "total":
                value = value.sum(-1, keepdim=True).expand_as(like)
            if name in ("total", "temp"):
                leaves[name][k] = value
            else:
                results[name, k] = value
    return results


def assert_derived(step, gates, states, params, tolerance=1e-9, product="dense"):
    derived = derive(step, gates, states, params, product)
    called = step if derived.dr else lambda x, state, *p: step(x, (), state, *p)
    for seed in range(2):
        leaves = leaves_of(gates, states, params, seed=seed)
        like = leaves["x"][0]
        leaves["r"] = leaves["r"][: len(derived.dr)]
        leaves["param"] = [t[0] for t in leaves["param"]]
        exact = by_autograd(called, leaves)
        leaves["param"] = [t.expand_as(like) for t in leaves["param"]]
        ways = [by_graphs(derived, leaves)] + [by_passes(derived, leaves)] * derived.across
        for part in PARTS:
            for ours in ways:
                for a, b in zip(ours[part], exact[part], strict=True):
                    a = a.sum(0) if part == "dparam" else a
                    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance, msg=part)
    return derived


@pytest.mark.parametrize("name", PLAIN)
def test_graphs_and_passes(name):
    assert assert_derived(PLAIN[name], 1, 1, 1).across


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.title)
def test_cells_in_passes(cell):
    assert_derived(cell.step, cell.gates, cell.states, cell.params, product=cell.product)


@settings(max_examples=30, deadline=None, derandomize=True, database=None,
          suppress_health_check=list(HealthCheck))  # fmt: skip
@given(made=steps(across=True))
def test_random_steps_in_passes(made: Step):
    assert_derived(made, made.gates, made.states, made.params, tolerance=1e-7)


def test_what_passes_leave():
    """Of the layer norm LSTM: five passes for four sums, and no exponential twice."""
    derived = zoo.LayerNormLSTM.definition.derived
    plans = cpp_passes.plans(derived)
    forward, backward = plans["forward"], plans["backward"]
    assert (len(forward.passes), forward.totals, forward.temps) == (5, 4, 1)
    assert len(backward.passes) <= 4
    for made in plans.values():
        dear = [
            n for one in made.passes for n in order(one.outputs.values())
            if n.op in ("sigmoid", "tanh")
        ]  # fmt: skip
        assert len(dear) <= 6
    assert derived.rows == 3 and [n.uniform for n in derived.saved] == [False] * 4 + [True] * 3
    alone = plan({"next": derived.next})
    assert {name for one in alone.passes for name, _ in one.outputs} == {"total", "temp", "next"}
    assert all(name != "next" for one in alone.passes[:-1] for name, _ in one.outputs)
    assert "kForwardPasses = 5" in cpp.policy(zoo.LayerNormLSTM.definition)


def test_a_cell_that_looks_across():
    assert centred.across and not zoo.MinGRU.definition.across
    assert centred.kept == centred.saved
    with pytest.raises(RuntimeError, match="CUDA kernels have no cell that looks across the units"):
        all_backends.choose(centred.name, "cuda", torch.float32, "cuda")


SIZES = {
    "odd": dict(t=7, b=3, h=17), "one": dict(t=1, b=1, h=1), "wide": dict(t=4, b=2, h=70),
    "rows": dict(t=3, b=53, h=5), "step": dict(t=1, b=60, h=33),
}  # fmt: skip


def problem_of(layer, t, b, *, ragged=False, dtype=F64):
    x = randn(t, b, layer.input_size, dtype=dtype, grad=True)
    shape = layer.num_layers * (2 if layer.bidirectional else 1), b, layer.hidden_size
    state = tuple(randn(*shape, dtype=dtype, grad=True) for _ in range(layer.states))
    options = {}
    if ragged:
        lengths = torch.randint(0, t + 1, (b,), generator=torch.Generator().manual_seed(2))
        lengths[0] = t
        options = {"lengths": lengths, "resets": torch.rand(t, b).to(DEVICE) < 0.2}
    return x, state if len(state) > 1 else state[0], options


def results(layer, x, state, options):
    ours = flat(layer(x, state, **options))
    states = state if isinstance(state, tuple) else (state,)
    return ours, gradients(ours, [x, *states, *layer.parameters()])


def twin_of(layer, **options):
    twin = fastrnn.Recurrent(
        layer.cell, layer.input_size, layer.hidden_size, layer.num_layers, layer.bias,
        bidirectional=layer.bidirectional, backend="reference", **options,
    )  # fmt: skip
    twin.load_state_dict(layer.state_dict())
    return twin


@backends(F64, kernels=True)
@pytest.mark.parametrize("form", ["dense", "ragged", "recompute"])
@pytest.mark.parametrize("size", SIZES)
def test_kernels(size, form, backend, poisoned):
    sizes = dict(SIZES[size])
    layer = fastrnn.Recurrent(
        centred, 4, sizes.pop("h"), bidirectional=True, dtype=F64, backend=backend, device=DEVICE,
        recompute_gates=form == "recompute",
    )  # fmt: skip
    given = problem_of(layer, **sizes, ragged=form == "ragged")
    ours, exact = results(layer, *given), results(twin_of(layer, dtype=F64), *given)
    assert_same(ours[0], exact[0], 1e-12)
    assert_same(ours[1], exact[1], 1e-11)


@backends(F64, kernels=True)
@pytest.mark.parametrize("b", [1, 3])
def test_the_number_of_threads_does_not_show(b, backend):
    """One of them has all units of a row, several share them: not in a bit of what comes out."""
    layer = fastrnn.Recurrent(centred, 16, 190, dtype=F64, backend=backend).to(DEVICE)
    x, before, found = randn(300 // b, b, 16, dtype=F64, grad=True), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            result = flat(layer(x))
            found.append([*result, *gradients(result, [x, *layer.parameters()])])
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, found[0]))


@pytest.mark.slow
@backends(kernels=True)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("t", [1, 3, 40])
def test_lower_precision(t, dtype, backend):
    """Against float64 on the rounded numbers."""
    layer = fastrnn.Recurrent(
        centred, 20, 33, 2, bidirectional=True, dtype=dtype, backend=backend, device=DEVICE
    )
    exact = twin_of(layer).to(F64)
    exact.load_state_dict(layer.state_dict())
    x = randn(t, 5, 20, dtype=dtype, grad=True)
    wide = x.detach().double().requires_grad_()
    ours, theirs = flat(layer(x)), flat(exact(wide))
    limit = 0.05 if dtype == torch.bfloat16 else 1e-5
    pairs = [
        *zip(ours, theirs),
        *zip(
            gradients(ours, [x, *layer.parameters()]),
            gradients(theirs, [wide, *exact.parameters()]),
        ),
    ]
    for a, b in pairs:
        assert (a.double() - b).norm() <= limit * (b.norm() + 1e-3)


def test_second_derivatives_and_transforms():
    layer = fastrnn.Recurrent(centred, 2, 3, dtype=F64, backend="reference")
    x = randn(2, 2, 2, dtype=F64, grad=True)
    assert torch.autograd.gradgradcheck(lambda x: layer(x)[0], (x,))


def test_a_mean_may_be_a_state():
    """The reference gives every unit its share, as kernels do."""

    @fastrnn.cell(gates=1, states=2)
    def mean_is_state(x, r, state):
        return x[0] + r[0] + state[1], x[0].mean(-1, keepdim=True)

    layer = fastrnn.Recurrent(mean_is_state, 2, 3, backend="reference")
    _, (h, m) = layer(randn(4, 2, 2))
    assert m.shape == (1, 2, 3) and torch.equal(m[..., 0], m[..., 2])


@backends(F64, kernels=True)
@pytest.mark.parametrize("name", slow_but([], ["LayerNormLSTM", "LayerNormGRU"]))
def test_zoo_kernels(name, backend, poisoned):
    layer = getattr(zoo, name)(4, 33, 2, dtype=F64, backend=backend, device=DEVICE)
    given = problem_of(layer, 6, 3, ragged=True)
    ours, exact = results(layer, *given), results(twin_of(layer, dtype=F64), *given)
    assert_same(ours[0], exact[0], 1e-12)
    assert_same(ours[1], exact[1], 1e-11)

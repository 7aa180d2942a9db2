"""Cells compiled by themselves: the CPU engine with all that a policy may have."""

import re
import subprocess

import pytest
import torch
from cell_libraries import ALL, POLICIES, QUICK
from cell_problems import EVERYTHING, Problem, assert_close
from helpers import slow_but

from fastrnn import ops

pytestmark = pytest.mark.skipif(not ops.NATIVE_BUILT, reason="the native library is not built")


RAGGED = dict(t=9, lengths=[9, 7, 7, 3, 1])
CASES = {
    "one row": dict(t=7, b=1, h=33),
    "one row, one unit": dict(t=7, b=1, h=1),
    "three rows": dict(t=7),
    "forty rows": dict(t=9, b=40, h=33),
    "one unit": dict(t=9, b=40, h=1),
    "one step": dict(t=1),
    "one step, one row": dict(t=1, b=1, h=33),
    "one step, forty rows": dict(t=1, b=40, h=33),
    "few steps": dict(t=3, b=40),
    "few steps, one row": dict(t=2, b=1, h=33),
    "reverse": dict(directions=2),
    "both directions": dict(directions=3, b=1),
    "no bias": dict(bias=False, directions=3),
    "ready projection": dict(t=9, project=False),
    "ready projection, no bias": dict(t=2, project=False, bias=False),
    "ragged": dict(**RAGGED),
    "ragged, reverse": dict(**RAGGED, directions=2),
    "ragged, both directions": dict(**RAGGED, directions=3, h=33),
    "resets": dict(t=9, b=5, resets=True, directions=3),
    "resets, ragged": dict(**RAGGED, resets=True, directions=3),
    "several blocks": dict(t=12, b=220, h=9),
    "several blocks, ragged": dict(t=12, lengths=[12] * 100 + [11] * 80 + [2] * 40, directions=3),
    "no row": dict(b=0, directions=3),
    "no step": dict(t=0, directions=3),
}


@pytest.mark.parametrize("save", [1, 2], ids=["all", "partial"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", POLICIES)
def test_values_and_gradients(name, case, save, loaded, poisoned):
    torch.set_num_threads(1)
    problem = Problem(name, **CASES[case])
    assert_close(problem.ours(save), problem.exact(), 1e-12)


@pytest.mark.parametrize("case", ["forty rows", "few steps", "one row", "several blocks"])
@pytest.mark.parametrize("key", slow_but(QUICK[-2:], [k for k in ALL if k[1] != "float64"]))
def test_other_precisions(key, case, loaded, poisoned):
    torch.set_num_threads(1)
    name, dtype = key
    problem = Problem(name, **CASES[case], dtype=getattr(torch, dtype))
    if name == "light_gru":
        problem.clear_of_the_kink()
    for save in (1, 2):
        assert_close(problem.ours(save), problem.exact(), 2e-5 if dtype == "float32" else 0.03)


@pytest.mark.parametrize("sizes", [dict(t=60, b=20, h=64, i=64), dict(t=40, b=1, h=272, i=64)])
@pytest.mark.parametrize("name, dtype", QUICK)
def test_threads_change_no_bit(name, dtype, sizes, loaded, poisoned):
    """Whether they share rows or units."""
    problem = Problem(name, **sizes, dtype=getattr(torch, dtype))
    runs = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        runs.append([problem.ours(save) for save in (1, 2)])
    for one, two in zip(*runs):
        assert all(map(torch.equal, one, two))


def test_gradients_of_parameters_are_summed_unrounded(loaded):
    """Each row gives a half of +-1 + 2^-9, which bfloat16 rounds to +-1, and the ones cancel."""
    problem = Problem("one_gate", t=1, b=4000, dtype=torch.bfloat16)
    for weight in problem.weights[:-1]:
        weight.zero_()
    ones = torch.ones_like(problem.state[0])
    ones[:, ::2] = -1
    problem.gradients = lambda results: [ones, ones * 0 + 2**-9]
    params = problem.ours()[7]
    assert torch.equal(params, torch.full_like(params, 4000 * 2**-10))


def test_what_is_not_wanted_is_not_computed(loaded, poisoned):
    problem = Problem("peephole_lstm", directions=3)
    every = problem.ours()
    for bit in (1, 4, 8, 16, 32, 64):
        grads = problem.ours(needs=bit)[3:]
        wanted = [k for k, g in enumerate(grads) if g.numel()]
        places = [0] if bit == 1 else [1 + d * 5 + bit.bit_length() - 3 for d in range(2)]
        assert wanted == places
        assert all(torch.equal(grads[k], every[3 + k]) for k in wanted)


def test_flat_ops(loaded, poisoned):
    problem = Problem("peephole_lstm", directions=3)
    name, output, h, c, *grads = problem.policy.name, *problem.ours()
    state = torch.stack(problem.state)
    flat = torch.ops.fastrnn.forward_flat(
        name, problem.input, problem.weights, state, *problem.rest, 1
    )
    assert torch.equal(flat[0], output) and torch.equal(flat[1], torch.stack([h, c]))
    given = problem.gradients([output, h, c])
    flat = torch.ops.fastrnn.backward_flat(
        name, given[0], torch.stack(given[1:]), problem.input, problem.weights, state, flat[0],
        flat[2], *problem.rest, EVERYTHING,
    )  # fmt: skip
    kinds = [torch.stack([grads[1 + k], grads[6 + k]]) for k in range(5)]
    expected = [grads[0], *kinds, torch.empty(0), torch.empty(0), torch.stack(grads[11:])]
    assert len(flat) == len(expected) and all(map(torch.equal, flat, expected))


def test_wrong_weights_are_refused(loaded):
    problem = Problem("peephole_lstm")
    *weights, params = problem.weights
    for given, words in (
        (weights[:3], "params must be [3, 17], got [68]"),
        (weights, "weights must be 3 or 5 tensors for each of 1 directions, the last of them the"),
        ([*weights, params[:2]], "params must be [3, 17], got [2, 17]"),
    ):
        problem.weights = given
        with pytest.raises(RuntimeError, match=re.escape(words)):
            problem.ours()


def test_a_library_needs_nothing_but_libc(loaded):
    listing = subprocess.run(
        ["nm", "-D", loaded["six_gates", "float64"]], capture_output=True, text=True, check=True
    ).stdout
    needed = re.findall(r"^ +U (\S+)$", listing, re.M)
    assert needed and all("@GLIBC_" in symbol for symbol in needed), needed
    assert re.findall(r"^[0-9a-f]+ T (\S+)$", listing, re.M) == ["fastrnn_cell"]

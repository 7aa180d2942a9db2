"""A cell of one's own in plain torch: the loops over time that people write today.

All of them project the inputs of all steps in one GEMM and then walk: one GEMM for the hidden state
and the cell's own step, on tuples of tensors. They differ in who runs the walk.
"""

from __future__ import annotations

import time
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..cases import layers, lookup, zoo_cells
from ..cases.case import Case
from ..cases.problem import Problem
from . import scripted, time_limit
from .registry import Runner, contestant, torch_runner

EAGER = "eager loop"
COMPILE_LIMIT = 300.0  # seconds for one case of the compiled loop: T steps become one long graph
TO_WARM = 3  # calls until TorchScript has seen the shapes and rewritten its graph

State = tuple[Tensor, ...]


class Loop(nn.Module):
    """One layer with torch.nn's parameters and call; x [T, B, I] -> (y [T, B, H], finals)."""

    def __init__(self, problem: Problem):
        super().__init__()
        self.cell, self.extra = lookup.get(problem.case.cell), problem.extra
        self.form, self.hidden = layers.form(self.cell), problem.case.H
        for name, weight in problem.weights.items():
            self.register_parameter(name, nn.Parameter(weight.clone()))

    def forward(self, x: Tensor, hx=None) -> tuple[Tensor, State]:
        gx = F.linear(x, self.weight_ih_l0, self.bias_ih_l0)
        if hx is None:
            zero = x.new_zeros(x.shape[1], self.hidden)
            state = (zero,) * self.cell.states
        else:
            state = tuple(s[0] for s in ((hx,) if isinstance(hx, Tensor) else hx))
        output, final = self.walk(gx, state)
        return output, tuple(s[None] for s in final)

    def params(self) -> tuple[tuple[Tensor, ...], ...]:
        """The step's arguments after the state: () or a tuple of P vectors [H]."""
        return (self.params_l0.unbind(0),) if self.cell.params else ()

    def walk(self, gx: Tensor, state: State) -> tuple[Tensor, State]:
        """gx [T, B, G*H], S states [B, H] -> (y [T, B, H], the last states)."""
        step, inputs, params, output = self.cell.step, self.form.inputs, self.params(), []
        extras = [()] * len(gx)
        if self.extra is not None:
            extras = [row.chunk(self.form.extra, -1) for row in self.extra.unbind(0)]
        for row, extra in zip(gx.unbind(0), extras):
            x = (*row.chunk(inputs, -1), *extra)
            state = step(x, self.product(state[0]), state, *params)
            output.append(state[0])
        return torch.stack(output), state

    def product(self, h: Tensor) -> tuple[Tensor, ...]:
        """h [B, H] -> r: a tensor [B, H] for each of its slots."""
        slots = self.form.recurrent
        if not slots:
            return ()
        if self.form.heads == 1:
            return F.linear(h, self.weight_hh_l0, self.bias_hh_l0).chunk(slots, -1)
        heads = self.form.heads
        rows = torch.bmm(h.view(len(h), heads, -1).transpose(0, 1), self.weight_hh_l0.mT)
        r = rows.view(heads, len(h), slots, -1).permute(1, 2, 0, 3).flatten(1)  # gate by gate
        return (r + self.bias_hh_l0).chunk(slots, -1)


class ScriptedLoop(Loop):
    def __init__(self, problem: Problem):
        super().__init__(problem)
        self.run = scripted.loop(self.cell)

    def walk(self, gx: Tensor, state: State) -> tuple[Tensor, State]:
        return self.run(gx, self.weight_hh_l0, self.bias_hh_l0, state, *self.params())


class ScanLoop(Loop):
    """torch's own scan. Its function of a step is made once: a new one would be traced again."""

    def __init__(self, problem: Problem):
        super().__init__(problem)
        gates = self.cell.gates

        def step(state: State, row: Tensor) -> tuple[State, Tensor]:
            r = F.linear(state[0], self.weight_hh_l0, self.bias_hh_l0)
            arguments = row.chunk(gates, -1), r.chunk(gates, -1), state, *self.params()
            state = self.cell.step(*arguments)
            return state, state[0].clone()  # scan refuses results that share memory

        self.step = step

    def walk(self, gx: Tensor, state: State) -> tuple[Tensor, State]:
        from torch._higher_order_ops.scan import scan

        # refused too: starts that are one tensor
        state, output = scan(self.step, tuple(s.clone() for s in state), gx)
        return output, state


def _serves(case: Case, device: str) -> str | None:
    if not lookup.own(case.cell):
        return "a loop is written for the suite's own cells"
    plain = (case.layers, case.directions, case.ragged) == (1, 1, False)
    return None if plain else "one dense layer in one direction"


def _plain_serves(case: Case, device: str) -> str | None:
    if case.cell in zoo_cells.ZOO:
        return "a loop of its kind is written for dense products of all gates alone"
    return _serves(case, device)


def _scripted_serves(case: Case, device: str) -> str | None:
    return _plain_serves(case, device) or scripted.refusal(lookup.get(case.cell))


def _scan_serves(case: Case, device: str) -> str | None:
    try:
        import torch._higher_order_ops.scan  # noqa: F401
    except ImportError:
        return f"torch {torch.__version__} has no scan"
    return _plain_serves(case, device)


_compiled_for: list[Problem] = []  # the problem that compiled code in memory belongs to


def _start_empty(problem: Problem) -> None:
    """Empties the cache of compiled code, but not of what was compiled for the same problem."""
    if not any(held is problem for held in _compiled_for):
        torch._dynamo.reset()
        _compiled_for[:] = [problem]


def _warmed(runner: Runner, start: float, calls: int = 1) -> Runner:
    """The runner once it has compiled itself, and how long that took."""
    for _ in range(calls):
        runner.call()
    return replace(runner, compiled=time.perf_counter() - start)


@contestant(EAGER, "torch", cannot=_serves)
def eager_loop(problem: Problem, threads: int) -> Runner:
    return torch_runner(Loop(problem), problem)


@contestant("scripted loop", "torch", cannot=_scripted_serves, setup=0.5)
def scripted_loop(problem: Problem, threads: int) -> Runner:
    """The loop and the cell's step in TorchScript."""
    start = time.perf_counter()
    return _warmed(torch_runner(ScriptedLoop(problem), problem), start, TO_WARM)


def compile_whole(problem: Problem, kind: type[Loop]) -> Runner:
    """A loop under torch.compile with default options, compiled now."""
    _start_empty(problem)
    layer, start = kind(problem), time.perf_counter()
    return _warmed(torch_runner(layer, problem, forward=torch.compile(layer)), start)


@contestant("compiled loop", "torch", cannot=_serves, setup=120.0)
def compiled_loop(problem: Problem, threads: int) -> Runner:
    """torch.compile of the eager loop, which unrolls it; compiled first where it can be stopped."""
    with time_limit.compiled_beforehand(problem, "Loop", threads, COMPILE_LIMIT) as seconds:
        return replace(compile_whole(problem, Loop), compiled=seconds)


@contestant("torch scan", "torch", cannot=_scan_serves, setup=10.0)
def torch_scan(problem: Problem, threads: int) -> Runner:
    _start_empty(problem)
    start = time.perf_counter()
    return _warmed(torch_runner(ScanLoop(problem), problem), start)


@contestant("compiled scan", "torch", cannot=_scan_serves, setup=20.0)
def compiled_scan(problem: Problem, threads: int) -> Runner:
    return compile_whole(problem, ScanLoop)

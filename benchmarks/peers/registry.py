"""What a contestant is, the registry of all of them, and how a layer's call becomes a Runner."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ..cases.case import Case
from ..cases.problem import Problem


@dataclass(frozen=True)
class Runner:
    """compiled: seconds that compiling the case took, where that is worth telling."""

    call: Callable[[], Any]
    read: Callable[[Any], dict[str, Tensor]]
    compiled: float | None = None


@dataclass(frozen=True)
class Contestant:
    """needs: modules that must be importable; cannot: why it does not serve a case, or None;
    setup: rough seconds to build one case (compilation), for the estimate only; inexact: the error
    that its method has by its nature, which the gate allows it and the report tells."""

    name: str
    build: Callable[[Problem, int], Runner]
    needs: tuple[str, ...]
    cannot: Callable[[Case, str], str | None]
    setup: float = 0.02
    inexact: float = 0.0

    @property
    def slow(self) -> bool:
        """Whether building it takes longer than timing it."""
        return self.setup >= 5.0

    def missing(self) -> str | None:
        absent = [m for m in self.needs if importlib.util.find_spec(m) is None]
        return f"not installed: {', '.join(absent)}" if absent else None

    def version(self) -> str:
        try:
            return importlib.metadata.version(self.needs[0])
        except importlib.metadata.PackageNotFoundError:
            return getattr(importlib.import_module(self.needs[0]), "__version__", "unknown")


CONTESTANTS: dict[str, Contestant] = {}


def contestant(
    name: str, *needs: str, cannot=lambda case, device: None, setup=0.02, inexact: float = 0.0
):
    """Registers a builder under a name."""

    def register(build):
        CONTESTANTS[name] = Contestant(name, build, needs, cannot, setup, inexact)
        return build

    return register


def named(output: Tensor, final, problem: Problem) -> dict[str, Tensor]:
    """The tensors that the gate compares: output [T, B, D*H], h_n and c_n [L*D, B, H]."""
    final = (final,) if isinstance(final, Tensor) else final
    return {"output": problem.pad(output), **dict(zip(("h_n", "c_n"), final))}


def rows(value: Tensor | PackedSequence) -> Tensor:
    """The rows of a packed sequence [N, F], or the tensor itself."""
    return value.data if isinstance(value, PackedSequence) else value


def torch_runner(layer: nn.Module, problem: Problem, forward=None) -> Runner:
    """A layer that is called as torch.nn's is; training asks for d(input) and d(weights).

    forward: what is called in place of the layer itself, such as its compiled form.
    """
    x, forward = problem.packed(problem.x), layer if forward is None else forward
    if not problem.training:

        def read(result):
            output, final = result
            return named(rows(output), final, problem)

        return Runner(lambda: forward(x, problem.hx), read)

    leaf = rows(x).detach().requires_grad_()
    inputs = PackedSequence(leaf, x.batch_sizes) if problem.case.ragged else leaf
    parameters = dict(layer.named_parameters())
    leaves, grad = [leaf, *parameters.values()], rows(problem.packed(problem.grad))

    def call():
        output, final = forward(inputs)
        output = rows(output)
        return output, final, torch.autograd.grad(output, leaves, grad)

    def read_training(result):
        output, final, (grad_x, *grads) = result
        gradients = {f"grad {n}": g for n, g in zip(parameters, grads)}
        return named(output, final, problem) | {"grad x": problem.pad(grad_x)} | gradients

    return Runner(call, read_training)

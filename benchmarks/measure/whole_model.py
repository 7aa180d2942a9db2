"""A model of another library with torch.nn's layers beside the same one with fastrnn's.

Both are made from one seed. Whose results differ by more than rounding is WRONG and is not timed.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import fastrnn
from fastrnn.convert import kind_of

from ..clients.model import Client, Model
from . import timing
from .gate import error

ROUNDING = 1e-4  # of results, float32, relative to the largest number
GRADIENT_ROUNDING = 1e-3  # of the net's gradients, relative to the largest of all
ALLOWANCE, LEAST = 1.0, 5
RECURRENT = (nn.RNNBase, nn.RNNCellBase)


@dataclass(frozen=True)
class Row:
    """status: ok, WRONG, failed, missing; why: in words. Times in ms, ratios torch.nn / fastrnn.

    share: of the recurrent layers in the time of inference with torch.nn's.
    difference: the largest of any number of the results.
    """

    package: str
    title: str
    shapes: str
    version: str = ""
    status: str = "ok"
    why: str = ""
    changed: int = 0
    left: int = 0
    left_why: str = ""
    share: float | None = None
    difference: float | None = None
    infer_ms: float | None = None
    infer_p20: float | None = None
    infer: float | None = None
    infer_p80: float | None = None
    train_ms: float | None = None
    train_p20: float | None = None
    train: float | None = None
    train_p80: float | None = None


class Wrong(Exception):
    """The two models' results differ by more than rounding."""


def measure(client: Client) -> Row:
    """One row of the table. A library that is not there, or fails, is a row as well."""
    about = {"package": client.package, "title": client.title, "shapes": client.shapes}
    try:
        about["version"] = metadata.version(client.package)
    except metadata.PackageNotFoundError:
        return Row(**about, status="missing", why="not installed")
    try:
        theirs, ours = made(client), made(client)
        nn.Module.load_state_dict(ours.net, theirs.net.state_dict())  # OpenNMT has its own
        _, left = fastrnn.accelerate(ours.net, report=True)
        about |= {
            "changed": sum(
                type(a) is not type(b) for a, b in zip(theirs.net.modules(), ours.net.modules())
            ),
            "left": len(left),
            "left_why": "; ".join(sorted(set(left.values()))),
        }
        return Row(**about, **figures(theirs, ours))
    except Wrong as problem:
        return Row(**about, status="WRONG", why=str(problem))
    except Exception as problem:  # of someone else's code: a result, and the others go on
        return Row(**about, status="failed", why=f"{type(problem).__name__}: {problem}"[:300])


def seeded() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)


def made(client: Client) -> Model:
    """The model, without dropout: whose random numbers would hide what differs."""
    seeded()
    model = client.make()
    for module in model.net.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        elif isinstance(module, nn.RNNBase):
            module.dropout = 0.0
    return model


def figures(theirs: Model, ours: Model) -> dict[str, Any]:
    pair = {"torch.nn": theirs, "fastrnn": ours}
    found: dict[str, Any] = {}
    for mode in ("infer", "train") if theirs.train else ("infer",):
        for model in pair.values():
            model.net.train(mode == "train")
        calls = {name: _call(model, mode) for name, model in pair.items()}
        difference = compare(calls["fastrnn"], calls["torch.nn"], mode)
        if mode == "infer":
            found |= {"difference": difference, "share": share(theirs, calls["torch.nn"])}
        times = timing.interleaved(calls, ALLOWANCE, LEAST, cpu_time).seconds
        low, middle, high = timing.spread(times["torch.nn"] / times["fastrnn"])
        found |= {f"{mode}_p20": low, mode: middle, f"{mode}_p80": high}
        found[f"{mode}_ms"] = timing.spread(times["torch.nn"])[1] * 1e3
    return found


def _call(model: Model, mode: str) -> Callable[[], list[Tensor]]:
    def infer() -> list[Tensor]:
        with torch.no_grad():
            return list(tensors(model.infer()))

    def train() -> list[Tensor]:
        model.net.zero_grad(set_to_none=True)
        loss = model.train()
        if loss is None:
            return [weight.detach().clone() for weight in model.net.parameters()]
        loss.backward()
        return [w.grad for w in model.net.parameters() if w.grad is not None]

    return infer if mode == "infer" else train


def tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor of floats in what a model gave: nested lists, tuples, dicts."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
        return
    items = value.values() if isinstance(value, dict) else value
    if isinstance(items, (list, tuple)) or isinstance(value, dict):
        for item in items:
            yield from tensors(item)


def compare(ours: Callable, theirs: Callable, mode: str) -> float:
    """The largest difference of any number of two calls from one seed; raises Wrong."""
    results = []
    for call in (ours, theirs):
        seeded()
        results.append([t.detach().clone() for t in call()])
    mine, wanted = results
    if not wanted or [t.shape for t in mine] != [t.shape for t in wanted]:
        raise Wrong(f"{mode}: {len(mine)} tensors of other shapes than {len(wanted)}")
    scale = max(t.abs().max().item() for t in wanted if t.numel())
    found = 0.0
    for got, want in zip(mine, wanted):
        relative, apart = error(got, want), (got - want).abs().max().item() if want.numel() else 0.0
        if mode == "infer" and not relative <= ROUNDING:
            raise Wrong(f"inference differs by {relative:.1e} of the largest number")
        if mode == "train" and not apart <= GRADIENT_ROUNDING * scale:
            raise Wrong(f"training differs by {apart / scale:.1e} of the largest gradient")
        found = max(found, apart)
    return found


def share(model: Model, call: Callable[[], Any]) -> float | None:
    """Of the time of a call, that in torch.nn's recurrent layers; None where none is seen."""
    inside, begun, hooks = 0.0, [], []

    def begin(*_):
        begun.append(time.process_time())

    def end(*_):
        nonlocal inside
        inside += time.process_time() - begun.pop()

    for module in model.net.modules():
        if isinstance(module, (*RECURRENT, *model.recurrent)) and not kind_of(module):
            hooks += [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]
    try:
        call()
        inside, start = 0.0, time.process_time()
        call()
        whole = time.process_time() - start
    finally:
        for hook in hooks:
            hook.remove()
    return inside / whole if inside else None


def cpu_time(call: Callable[[], object], calls: int) -> float:
    """Seconds of the process a call: one thread works, whatever else the machine does."""
    start = time.process_time()
    for _ in range(calls):
        call()
    return (time.process_time() - start) / calls

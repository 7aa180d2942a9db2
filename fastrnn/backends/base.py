"""What a backend is: one set of kernels behind the two ops of `fastrnn.ops`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch


class Size(NamedTuple):
    """The size of one layer's call, as far as it decides how a backend runs it.

    In N heads a layer is to a GPU one of N D directions of H/N units (`fastrnn.gpu.heads`).
    """

    cell: str
    rows: int  # B
    hidden: int  # H
    directions: int  # D
    dtype: torch.dtype
    device: torch.device


class Backend:
    """A set of kernels: what it refuses, how it is called, how it explains itself.

    `fastrnn.backends.add` makes one known; nothing else has to know it.

    name: what `explain` calls it, and a user may ask for
    title: the same in a sentence, as "the Triton kernels"
    words: other words that a user may ask for it with
    devices: the types of device that it is made for; none: any
    forward, backward: the ops, of the schemas in `fastrnn.ops`, with the rules of
        `ops.register_rules`; there once `refusal` was None
    prefix: of the names of its ops for compiled graphs, which `graph.define` makes of those two
    knows_zeros: `grad_final` and, where input is not packed, `state` may be empty
    reads_lengths: input may be [T, B, I] with lengths [B] as `batch_sizes`
    steps: a single step's input may be [B, I], its states [B, H]
    recomputes: backward takes what SAVE_PARTIAL saves
    projects: the ops take torch.nn's weight_hr; else `projection` does without
    draws: masks are drawn in its kernels (`drawn`); else they are tensors while a pass runs
    in_torch: no kernels: plain differentiable torch, one time step at a time
    """

    name: str
    title: str
    words: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    prefix: str
    knows_zeros = False
    reads_lengths = False
    steps = False
    recomputes = False
    projects = False
    draws = False
    in_torch = False
    forward: Callable
    backward: Callable

    def refusal(self, cell: str, device: str, dtype: torch.dtype, proj: bool) -> str | None:
        """Why it cannot serve this, or None if it can. A subclass adds what else it cannot.

        cell: a registered one; proj: the layer has proj_size
        """
        if self.devices and device not in self.devices:
            return f"{self.title} run on {self.devices[0]}, not on {device}"
        return None

    def automatic(self, device: str) -> bool:
        """Whether "auto" asks it for tensors on that type of device."""
        return device in self.devices

    def compute_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """The dtype of its tensors, in and out, for a layer's `dtype`."""
        return dtype

    def explain(self, size: Size) -> list[str]:
        """How it would run that: lines for `fastrnn.explain`."""
        return []

    def __repr__(self) -> str:
        return f"<fastrnn backend {self.name}>"

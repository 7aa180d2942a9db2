"""The processes of one training, as torchrun starts them: each takes a share of the batch's rows.

The loss of a batch is a mean over all its rows, so one process alone (`Team()`) and several get the
same numbers from the same rows, but for the order of sums.
"""

from __future__ import annotations

import gc
import os
import sys

import common
import torch
from torch import Tensor, nn


class Team:
    """One process, or those of torchrun: who it is, its rows, and sums over all of them."""

    rank, size = 0, 1

    def rows(self, count: int) -> slice:
        """Which of `count` rows are this process's."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def total(self, value: float) -> float:
        """The sum of a number over the processes."""
        return value

    def whole(self, state):
        """A state of this process's rows [L, b, H] -> of all rows, in process 0; else None."""
        return state

    def share(self, state):
        """A state of all rows -> of this process's."""
        return state

    def average(self, model: nn.Module) -> nn.Module:
        """The model as it is called in training: backward averages gradients over the processes."""
        return model

    def end(self) -> None:
        """Leaves the others."""


def mapped(function, state):
    """function of each tensor of a state: None, a tensor or a tuple of them."""
    if isinstance(state, tuple):
        return tuple(function(s) for s in state)
    return None if state is None else function(state)


class Processes(Team):
    """The processes that torchrun has started, over gloo; all but the first are silent."""

    def __init__(self) -> None:
        import torch.distributed as dist

        self._dist = dist
        dist.init_process_group("gloo")
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        if self.rank:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115  as long as the process

    def total(self, value: float) -> float:
        sum_ = torch.tensor(value, dtype=torch.float64)
        self._dist.all_reduce(sum_)
        return sum_.item()

    def whole(self, state):
        def joined(mine: Tensor) -> Tensor | None:
            parts = [None] * self.size if self.rank == 0 else None
            self._dist.gather_object(mine, parts)
            return torch.cat(parts, 1) if parts else None

        return mapped(joined, state)

    def share(self, state):
        return mapped(lambda s: s[:, self.rows(s.shape[1])].contiguous(), state)

    def average(self, model: nn.Module) -> nn.Module:
        return nn.parallel.DistributedDataParallel(model)

    def end(self) -> None:
        # A DistributedDataParallel that is freed later than its group waits for a thread of that,
        # which waits for the interpreter's lock: whoever has one lets it go before.
        gc.collect()
        self._dist.destroy_process_group()


def team(args) -> Team:
    """What the options ask for; says what is missing for it."""
    if not args.distributed:
        return Team()
    if "RANK" not in os.environ:
        common.fail(
            "--distributed is for processes that torchrun starts: "
            f"torchrun --nproc-per-node 2 {sys.argv[0]} --distributed"
        )
    if args.device.type != "cpu":
        common.fail(f"--distributed is for --device cpu, got {args.device}")
    if int(os.environ["WORLD_SIZE"]) > args.batch:
        common.fail(f"--batch {args.batch} has no row for each of {os.environ['WORLD_SIZE']}"
                    " processes")  # fmt: skip
    return Processes()

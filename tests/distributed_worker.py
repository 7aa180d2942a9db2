"""Started by torchrun from test_distributed.py: trains over all ranks, rank 0 writes the losses.

torchrun --standalone --nproc-per-node 2 tests/distributed_worker.py ddp|fsdp OUT
"""

import json
import os
import sys

import torch
import torch.distributed as dist
from torch import nn

import fastrnn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = fastrnn.FastLSTM(4, 16, num_layers=2)
        self.gru = fastrnn.FastGRU(16, 8, bidirectional=True)
        self.head = nn.Linear(16, 1)

    def forward(self, x):
        return self.head(self.gru(self.lstm(x)[0])[0])


def train(kind: str) -> list[float]:
    """The losses of eight steps, averaged over all rows of all ranks; kind "alone": one process."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x, y = torch.randn(8, 7, 6, 4), torch.randn(8, 7, 6, 1)  # 8 steps of [T, B, I]
    model = Model()
    rank, size = 0, 1
    if kind != "alone":
        rank, size = dist.get_rank(), dist.get_world_size()
    if kind == "ddp":
        model = nn.parallel.DistributedDataParallel(model)
    elif kind == "fsdp":
        from torch.distributed.fsdp import fully_shard

        mesh = dist.init_device_mesh("cpu", (size,))
        for layer in (model.lstm, model.gru):
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    losses = []
    share = slice(rank * 6 // size, (rank + 1) * 6 // size)  # this rank's rows of the batch
    for k in range(len(x)):
        optimizer.zero_grad()
        loss = (model(x[k][:, share]) - y[k][:, share]).pow(2).mean()
        loss.backward()
        optimizer.step()
        total = loss.detach()
        if size > 1:
            dist.all_reduce(total)
        losses.append(total.item() / size)
    return losses


if __name__ == "__main__":
    dist.init_process_group("gloo")
    losses = train(sys.argv[1])
    if dist.get_rank() == 0:
        with open(sys.argv[2], "w") as file:
            json.dump(losses, file)
    dist.destroy_process_group()
    # Gloo's threads live on. One that lets go of a tensor while Python shuts down would abort the
    # process (pytorch/pytorch#179291), after the test's work is done.
    os._exit(0)

"""A new cell in all three backends: the light GRU of Ravanelli et al. (arXiv 1803.10225).

It has no reset gate, and relu in place of tanh:

    z = sigmoid(x_z + r_z),  n = relu(x_n + r_n),  h' = n + z (h - n)

    python examples/light_gru/light_gru.py   # learns to remember, and says on which backend

This file holds the reference and the Triton pair; `light_gru.h` beside it is the C++ policy,
compiled in where the build was told of it. docs/adding_a_cell.md explains every step.
"""

from __future__ import annotations

import argparse
import importlib.util

import torch
from torch import Tensor, nn

from fastrnn import backends, cells, functional

NAME = "light_gru"


def step(x: Tensor, r: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """x, r [.., 2, H] and h [.., H] -> h' [.., H]: what every kernel is held to."""
    z, n = (x + r).unbind(-2)
    z, n = z.sigmoid(), n.relu()
    return (n + z * (state[0] - n),)


cells.register(cells.CellSpec(NAME, gates=2, states=1, saved=2, step=step))

if importlib.util.find_spec("triton") is not None:
    import triton
    import triton.language as tl

    from fastrnn.triton import TritonCell, register

    @triton.jit
    def forward(x, r, state):
        z = tl.sigmoid(x[0] + r[0])
        a = x[1] + r[1]
        n = tl.where(a <= 0, 0.0, a)
        return (n + z * (state[0] - n),), (z, n)

    @triton.jit
    def backward(saved, prev, next, grad):
        z, n = saved[0], saved[1]
        dz = grad[0] * (prev[0] - n) * z * (1.0 - z)
        dn = tl.where(n > 0, grad[0] * (1.0 - z), 0.0)
        return (dz, dn), (dz, dn), (grad[0] * z,)

    register(NAME, TritonCell(forward, backward))


class LightGRU(nn.Module):
    """One layer, one direction: input [T, B, I] -> (output [T, B, H], h_n [B, H])."""

    def __init__(self, input_size: int, hidden_size: int, backend: str = "auto"):
        super().__init__()
        self.backend = backend
        self.weight_hh = nn.Parameter(torch.empty(2 * hidden_size, hidden_size))
        self.bias_hh = nn.Parameter(torch.zeros(2 * hidden_size))
        self.project = nn.Linear(input_size, 2 * hidden_size)
        nn.init.orthogonal_(self.weight_hh)

    def forward(self, input: Tensor) -> tuple[Tensor, Tensor]:
        h = input.new_zeros(input.shape[1], self.weight_hh.shape[1])
        output, (h,) = functional.scan(
            NAME, self.project(input), self.weight_hh, self.bias_hh, (h,), backend=self.backend
        )
        return output, h


def remember(steps: int, backend: str, device: str) -> tuple[float, float]:
    """Trains a layer to say at the end what it read first; (first, last) mean squared error."""
    torch.manual_seed(0)
    layer, read = LightGRU(2, 24, backend).to(device), nn.Linear(24, 1).to(device)
    optimizer = torch.optim.Adam([*layer.parameters(), *read.parameters()], lr=1e-2)
    losses = []
    for _ in range(steps):
        x = torch.randn(12, 32, 2, device=device)
        x[1:, :, 1] = 0  # the second input is there at the first step only
        loss = (read(layer(x)[1])[:, 0] - x[0, :, 1]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[0], losses[-1]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--backend", choices=backends.words(), default="auto")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(arguments)
    backend, reason = backends.choose(
        NAME, torch.device(options.device).type, torch.float32, options.backend
    )
    print(f"{NAME} runs on the {backend.name} backend: {reason}")
    first, last = remember(options.steps, options.backend, options.device)
    print(f"mean squared error: {first:.3f} at first, {last:.3f} after {options.steps} steps")


if __name__ == "__main__":
    main()

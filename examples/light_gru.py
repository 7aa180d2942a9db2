"""A cell of your own: the light GRU of Ravanelli et al. (arXiv 1803.10225), in two lines of maths.

    python examples/light_gru.py   # learns to remember, and says what its kernels are

It has no reset gate, and relu in place of tanh. docs/adding_a_cell.md says what happens to it.
"""

from __future__ import annotations

import argparse

import torch
from torch import nn

import fastrnn


@fastrnn.cell(gates=2)
def light_gru(x, r, state):
    """z = sigmoid(x_z + r_z),  n = relu(x_n + r_n),  h' = n + z (h - n)."""
    z, n = torch.sigmoid(x[0] + r[0]), torch.relu(x[1] + r[1])
    return (n + z * (state[0] - n),)


def remember(steps: int, backend: str, device: str) -> tuple[float, float]:
    """Trains a layer to say at the end what it read first; (first, last) mean squared error."""
    torch.manual_seed(0)
    layer = fastrnn.Recurrent(light_gru, 2, 24, backend=backend, device=device)
    nn.init.orthogonal_(layer.weight_hh_l0)
    read = nn.Linear(24, 1, device=device)
    optimizer = torch.optim.Adam([*layer.parameters(), *read.parameters()], lr=1e-2)
    print(fastrnn.explain(layer, torch.zeros(12, 32, 2, device=device)))
    losses = []
    for _ in range(steps):
        x = torch.randn(12, 32, 2, device=device)
        x[1:, :, 1] = 0  # the second input is there at the first step only
        _, h = layer(x)
        loss = (read(h[0])[:, 0] - x[0, :, 1]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[0], losses[-1]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--backend", default="auto", help="auto, native, triton or reference")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(arguments)
    first, last = remember(options.steps, options.backend, options.device)
    print(f"mean squared error: {first:.3f} at first, {last:.3f} after {options.steps} steps")


if __name__ == "__main__":
    main()

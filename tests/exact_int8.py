"""Layers whose numbers int8 holds without an error, so that results can be told to the last bit.

Of rows of whole numbers up to 127, of which one is 127 itself, the scale is 1. A linear cell then
gives whole numbers, which float32 holds up to 2^24.
"""

import torch
from torch import Tensor

import fastrnn
from fastrnn import ops

SIZES = ((1, 1, 1), (1, 5, 3), (2, 17, 33), (3, 64, 48), (7, 130, 65), (13, 1000, 16))  # B, I, H


def whole(*shape: int, extreme: bool = False) -> Tensor:
    """Rows of whole numbers from -127 to 127, the last of each 127; extreme: no others."""
    numbers = torch.randint(-127, 128, shape).float()
    if extreme:
        numbers = torch.where(numbers < 0, -127.0, 127.0)
    numbers[..., -1] = 127
    return numbers


def errors() -> list[float]:
    """The greatest error of two steps' products for each of SIZES; the second resets each row."""
    worst = []
    for extreme in (False, True):
        for b, i, h in SIZES:
            layer = fastrnn.FastRNN(i, h, nonlinearity="identity").requires_grad_(False)
            for weight in layer.parameters():
                weight.copy_(whole(*weight.shape, extreme=extreme))
            x, h_0 = whole(2, b, i, extreme=extreme), whole(1, b, h, extreme=extreme)
            resets = torch.tensor([False, True]).unsqueeze(1).expand(2, b)
            exact, _ = layer.double()(x.double(), h_0.double(), resets=resets)
            output, _ = fastrnn.quantize(layer.float())(x, h_0, resets=resets)
            worst.append((output - exact).abs().max().item())
    return worst


if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)  # memory that kernels are given is NaN
    print(ops.BUILD_INFO["isa"], *errors())

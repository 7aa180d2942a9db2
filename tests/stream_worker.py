"""Streams on one instruction set (FASTRNN_ISA) against float64, for test_stream; in int8 against
fastrnn.quantize's layers, which test_quantize holds to exact sums."""

import copy

import torch
from helpers import CELLS, fast
from stream_runs import in_calls, oracle

import fastrnn


def errors(weights: torch.dtype) -> tuple[float, bool]:
    """The largest error relative to the largest number; do rows hang on those beside them?"""
    worst, changed = 0.0, False
    for cell in CELLS:
        for features, hidden, batch in ((3, 1, 1), (37, 70, 1), (19, 33, 3), (300, 20, 9)):
            layer = fast(cell, features, hidden)
            x = torch.randn(45, batch, features)
            with torch.no_grad():
                if weights == torch.int8:
                    exact, _ = fastrnn.quantize(copy.deepcopy(layer))(x)
                else:
                    for weight in layer.parameters():
                        weight.copy_(weight.to(weights))
                    exact, _ = oracle(layer, x)
            whole = in_calls(fastrnn.Stream(layer, batch, weights), x)
            gap = (whole - exact).abs().max() / (1 + exact.abs().max())
            worst = max(worst, gap.item())
            alone = fastrnn.Stream(layer, 1, weights)(x[:, :1].contiguous())
            changed |= not torch.equal(alone, whole[:, :1])
    return worst, changed


torch.manual_seed(0)
gaps, changes = zip(*map(errors, (torch.float32, torch.bfloat16, torch.int8)))
print(*gaps, int(any(changes)))

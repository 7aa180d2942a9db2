"""A few small scans of every engine, for compute-sanitizer; no comparison, no pytest.

compute-sanitizer --tool memcheck --error-exitcode 9 python tests/gpu/small_set.py [ENGINE ..]
"""

import os
import sys

import torch

import fastrnn

ENGINES = ("stepwise", "block", "cluster", "grid")
KINDS = (torch.float32, torch.bfloat16)
SIZES = ((17, 3), (40, 11))  # H, B


def run(layer: type, dtype: torch.dtype, h: int, b: int) -> None:
    """Forward and backward, both directions, ragged."""
    module = layer(5, h, bidirectional=True, device="cuda", dtype=dtype, backend="native")
    x = torch.randn(4, b, 5, device="cuda", dtype=dtype, requires_grad=True)
    output, _ = module(x, lengths=torch.arange(b) % 5)
    output.sum().backward()
    torch.cuda.synchronize()
    assert output.isfinite().all() and x.grad.isfinite().all()


def main() -> None:
    for engine in sys.argv[1:] or ENGINES:
        os.environ["FASTRNN_CUDA_ENGINE"] = engine
        served = 0
        for layer in (fastrnn.FastRNN, fastrnn.FastLSTM, fastrnn.FastGRU):
            for dtype in KINDS:
                for h, b in SIZES:
                    try:
                        run(layer, dtype, h, b)
                        served += 1
                    except RuntimeError as refusal:
                        if "cannot serve" not in str(refusal):
                            raise
                        print(refusal, flush=True)
        print(f"{engine}: {served} layers ran", flush=True)
        assert served == 12 or engine not in ("stepwise", "block")  # which serve all of these


if __name__ == "__main__":
    main()

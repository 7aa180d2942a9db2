"""Runs a cell through one engine of a simulator library in some orders of its threads.

    python tests/cuda_bug_worker.py LIBRARY ENGINE [ORDERS [more]]

The lstm, or with "more" the peephole cell of cuda_more_cells.py.

Exit status 1 and "caught: .." where a check fails, 0 where all pass.
"""

import sys
from pathlib import Path

import torch

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

import cuda_more_cells  # noqa: E402
from cuda_more_cells import PEEPHOLE  # noqa: E402
from cuda_simulation import Simulator, case, check  # noqa: E402


def main() -> int:
    library, engine = Path(sys.argv[1]), sys.argv[2]
    orders = int(sys.argv[3]) if len(sys.argv) > 3 else 10
    if sys.argv[4:] == ["more"]:
        simulator, cell = cuda_more_cells.load(library), PEEPHOLE
    else:
        simulator, cell = Simulator(library), "lstm"
    torch.use_deterministic_algorithms(True)  # memory that kernels are given is NaN
    torch.manual_seed(0)
    many, few = dict(b=9, sizes=[8, 5, 5, 2]), dict(b=2, sizes=[2, 1, 1, 1])
    cases = [  # an H whose weights are loaded one by one, and one in 16 bytes at a time
        (kind, case(cell, kind, h=h, t=4, directions=3, resets=True, **rows))
        for kind, h, rows in (("bfloat16", 37, many), ("ieee", 37, many), ("bfloat16", 40, few))
    ]
    for seed in range(orders):
        simulator.configure(seed)
        for kind, arguments in cases:
            try:
                check(simulator, engine, kind, arguments)
            except (AssertionError, RuntimeError) as found:
                print(f"caught: order {seed}, {kind}: {str(found).splitlines()[0]}")
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

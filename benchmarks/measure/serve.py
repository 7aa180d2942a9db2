"""The other end of `compare`: a process that times fastrnn, of whatever revision, slot by slot."""

from __future__ import annotations

import json
import os
import sys

import torch

from ..cases import layers, problem
from ..cases.case import Case
from ..peers import contestants
from . import one_case, timing

SERVED = "fastrnn"


def serve() -> None:
    """{"case": …, "layers": …} is answered by gate and one call's time, {"calls": n} by a slot."""
    threads = int(os.environ["OMP_NUM_THREADS"])
    torch.set_num_threads(threads)
    call = None
    for line in sys.stdin:
        asked = json.loads(line)
        if "case" in asked:
            case = Case(**asked["case"])
            layers.lend(case.cell, layers.Layers(*asked["layers"]))
            made = problem.make(case)
            torch.set_grad_enabled(made.training)
            names = [contestants.baseline_of(case), SERVED]
            entry = one_case.gate_all(names, made, threads)[1]
            call = entry.runner.call if entry.status == "ok" else None
            seconds = min(timing.cpu_slot(call, 1) for _ in range(3)) if call else 0.0
            answer = {"status": entry.status, "note": entry.note, "seconds": seconds}
        else:
            call()
            answer = {"seconds": timing.cpu_slot(call, asked["calls"])}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve()

"""Peak memory of a training step: the resident-set peak of a process that does only that step."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace

from .cases import Case


def _status(field: str) -> float:
    """A size of /proc/self/status in MiB: VmRSS now, VmHWM the peak since the last reset."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith(field))
    return int(line.split()[1]) / 1024


def _measure(case: Case, name: str) -> dict[str, float]:
    """In the child: peak MiB of the process over one training step, and its growth in that step.

    The same layer runs three steps in one row first, so that libraries and code are loaded.
    """
    import torch

    from . import peers, problem

    torch.set_num_threads(1)
    contestant = peers.CONTESTANTS[name]
    small = contestant.build(problem.make(replace(case, B=1, T=3)), 1)
    small.call()
    runner = contestant.build(problem.make(case), 1)
    before = _status("VmRSS")
    with open("/proc/self/clear_refs", "w") as reset:
        reset.write("5")  # VmHWM starts anew from the present size
    result = runner.call()
    peak = _status("VmHWM")
    return {"peak": peak, "growth": peak - before, "results": len(result)}


def peak_mib(case: Case, name: str) -> tuple[float, float]:
    """(peak of the process, growth during the step) in MiB, measured in a process of its own."""
    request = json.dumps({"case": asdict(case), "name": name})
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", request], capture_output=True, text=True
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise RuntimeError(f"the memory process failed: {last}")
    found = json.loads(done.stdout.splitlines()[-1])
    return found["peak"], found["growth"]


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    print(json.dumps(_measure(Case(**asked["case"]), asked["name"])))

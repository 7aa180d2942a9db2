"""Peak memory of a training step: the resident-set peak of a process that does only that step."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace

from ..cases.case import Case


def _status(field: str) -> float:
    """A size of /proc/self/status in MiB: VmRSS now, VmHWM the peak since the last reset."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith(field))
    return int(line.split()[1]) / 1024


def _host_growth(step) -> tuple[float, float]:
    """(peak, growth) of the resident set over a call, MiB."""
    before = _status("VmRSS")
    with open("/proc/self/clear_refs", "w") as reset:
        reset.write("5")  # VmHWM starts anew from the present size
    held = step()
    peak = _status("VmHWM")
    del held
    return peak, peak - before


def _device_growth(step) -> tuple[float, float]:
    """(peak, growth) of what torch has allocated on the GPU over a call, MiB."""
    import torch

    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    held = step()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated()
    del held
    return peak / 2**20, (peak - before) / 2**20


def _measure(case: Case, name: str, device: str) -> tuple[float, float]:
    """In the child: (peak, growth) of one training step.

    The same layer runs three steps in one row first, so that libraries and code are loaded.
    """
    import torch

    from ..cases import problem
    from ..peers import contestants

    torch.set_num_threads(1)
    build = contestants.CONTESTANTS[name].build
    build(problem.make(replace(case, B=1, T=3), device), 1).call()
    step = build(problem.make(case, device), 1).call
    return _host_growth(step) if device == "cpu" else _device_growth(step)


def peak_mib(case: Case, name: str, device: str = "cpu") -> tuple[float, float]:
    """(peak of the process, growth during the step) in MiB, measured in a process of its own."""
    request = json.dumps({"case": asdict(case), "name": name, "device": device})
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.measure.memory", request], capture_output=True, text=True
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise RuntimeError(f"the memory process failed: {last}")
    peak, growth = json.loads(done.stdout.splitlines()[-1])
    return peak, growth


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    print(json.dumps(_measure(Case(**asked["case"]), asked["name"], asked["device"])))

"""Training over processes: the same losses as in one process. Two gloo ranks, started by torchrun."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="this torch has no distributed")

WORKER = Path(__file__).with_name("distributed_worker.py")


def losses(kind: str, out: Path) -> list[float]:
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *(launch if kind != "alone" else []), str(WORKER), kind, str(out)]
    path = os.pathsep.join(filter(None, [str(WORKER.parents[1]), os.environ.get("PYTHONPATH")]))
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return losses("alone", tmp_path_factory.mktemp("alone") / "losses.json")


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_learn_as_one(kind, alone, tmp_path):
    """DistributedDataParallel, and FSDP2's fully_shard on every layer."""
    both = losses(kind, tmp_path / "losses.json")
    assert alone[-1] < 0.95 * alone[0], "nothing was learned"
    assert torch.allclose(torch.tensor(both), torch.tensor(alone), rtol=1e-4, atol=1e-6)

"""Training over two gloo processes started by torchrun: the same losses as in one process."""

import json
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from distributed_worker import train
from helpers import run_python

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="this torch has no distributed")

WORKER = Path(__file__).with_name("distributed_worker.py")


def losses(kind: str, folder: Path) -> list[float]:
    out = folder / "losses.json"
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run = run_python(*launch, str(WORKER), kind, str(out), cwd=folder, OMP_NUM_THREADS="1")
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(out.read_text())


@pytest.mark.parametrize("kind", ["ddp", pytest.param("fsdp", marks=pytest.mark.slow)])
def test_two_processes_learn_as_one(kind, tmp_path):
    """DistributedDataParallel, and FSDP2's fully_shard on every layer."""
    alone = train("alone")
    assert alone[-1] < 0.95 * alone[0], "nothing was learned"
    both = losses(kind, tmp_path)
    assert torch.allclose(torch.tensor(both), torch.tensor(alone), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_the_documented_program_and_command(tmp_path):
    """The program of docs/beyond_one_machine.md, started by its own first command."""
    page = (WORKER.parents[1] / "docs" / "beyond_one_machine.md").read_text()
    program, command = (
        page.split(f"```{language}\n")[1].split("```")[0] for language in ("python", "sh")
    )
    (tmp_path / "train.py").write_text(program)
    launcher, *arguments = command.split()
    assert launcher == "torchrun"
    run = run_python("-m", "torch.distributed.run", *arguments, cwd=tmp_path, OMP_NUM_THREADS="1")
    assert "on 2 processes" in run.stdout, run.stderr[-3000:]

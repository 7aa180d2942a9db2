"""The quick cases under pytest-benchmark: `pytest benchmarks --benchmark-only`, one group a case.

Its own table and `--benchmark-compare` then show fastrnn beside torch.nn; `--benchmark-json` writes
what a CI can track. The gate comes first here too: what is wrong fails and is not timed.
"""

import pytest
import torch

from benchmarks import cases, measure, peers, problem

CASES = [c for c in cases.quick() if peers.baseline_of(c) == peers.BASELINE]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", [peers.BASELINE, "fastrnn"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_quick(benchmark, case, name):
    refusal = peers.CONTESTANTS[name].cannot(case, "cpu")
    if refusal:
        pytest.skip(refusal)
    made = problem.make(case)
    benchmark.group = case.id
    with torch.set_grad_enabled(made.training):
        names = list(dict.fromkeys([peers.BASELINE, name]))
        entry = measure.gate_all(names, made, threads=1)[-1]
        assert entry.status == "ok", entry.note
        benchmark(entry.runner.call)

"""The quick cases under pytest-benchmark: `pytest benchmarks --benchmark-only`, one group a case.

Its own table and `--benchmark-compare` then show fastrnn beside torch.nn; `--benchmark-json` writes
what a CI can track. The gate comes first here too: what is wrong fails and is not timed.
"""

import pytest
import torch

from benchmarks.cases import presets, problem
from benchmarks.measure import one_case
from benchmarks.peers import contestants

CASES = [c for c in presets.quick() if contestants.baseline_of(c) == contestants.BASELINE]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", [contestants.BASELINE, "fastrnn"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_quick(benchmark, case, name):
    refusal = contestants.CONTESTANTS[name].cannot(case, "cpu")
    if refusal:
        pytest.skip(refusal)
    made = problem.make(case)
    benchmark.group = case.id
    with torch.set_grad_enabled(made.training):
        names = list(dict.fromkeys([contestants.BASELINE, name]))
        entry = one_case.gate_all(names, made, threads=1)[-1]
        assert entry.status == "ok", entry.note
        benchmark(entry.runner.call)

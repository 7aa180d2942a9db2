"""A run: what is asked for, how long it takes, a measuring process a thread count, a report."""

from __future__ import annotations

import multiprocessing
import os
import sys
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from ..cases import presets
from ..cases.case import Case
from ..errors import UsageError
from ..measure import records, worker
from ..measure.cost import LONGEST_ALLOWANCE, spoken
from ..measure.one_case import check_writable
from ..measure.pinning import pinned
from ..measure.records import Record
from ..peers.contestants import CONTESTANTS
from ..report import document

RESULTS = "results.csv"


def thread_counts(text: str) -> list[int]:
    """ "1,all" -> [1, 2] on two cores; each count once, in that order."""
    cores = len(os.sched_getaffinity(0))
    found = []
    for word in text.split(","):
        if word != "all" and not word.isdecimal():
            raise UsageError(f"--threads takes numbers or 'all', separated by commas, got {word!r}")
        count = cores if word == "all" else int(word)
        if not 1 <= count <= cores:
            raise UsageError(f"--threads must be from 1 to {cores} (usable cores), got {count}")
        found.append(count)
    return list(dict.fromkeys(found))


def peer_names(text: str | None, preset: presets.Preset) -> list[str]:
    """Contestants asked for, or the preset's own."""
    if not text:
        return list(preset.peers) or list(CONTESTANTS)
    names = text.split(",")
    for name in names:
        if name not in CONTESTANTS:
            raise UsageError(f"--peers knows {', '.join(CONTESTANTS)}; got {name!r}")
    return names


def _results_file(options: Namespace, machine: records.Machine) -> tuple[Path, set]:
    """The CSV to append to, and the (case, threads) it holds already."""
    path = options.out / RESULTS
    try:
        check_writable(options.out)
    except OSError as problem:
        raise UsageError(f"--out {options.out} cannot be written: {problem.strerror}") from problem
    if not path.exists():
        return path, set()
    if not options.resume:
        raise UsageError(f"{path} exists: --resume goes on with it, another --out leaves it alone")
    found = records.read(path)
    for field in ("machine", "device", "torch", "commit"):
        here, same = getattr(machine, field), records.same_code if field == "commit" else str.__eq__
        there = [v for v in found[field].unique() if not same(v, here)]
        if there:
            raise UsageError(f"--resume: {path} has {field} {there[0]}, this run has {here}")
    return path, records.measured(found)


def _missing_rows(missing: dict[str, str], machine: records.Machine) -> list[Record]:
    """One row for each contestant that is not installed, so that reports can name it."""
    nowhere = asdict(Case("", "", 0, 0, 0, 0)) | asdict(machine)
    return [
        Record(
            **nowhere, threads=0, contestant=n, version="", metric="", status="missing", note=why
        )
        for n, why in missing.items()
    ]


def _plans(options: Namespace, machine, names, path, done) -> list[worker.Plan]:
    """One plan for each thread count, without what the result file holds already."""
    preset = presets.PRESETS[options.preset]
    chosen = presets.select(options.preset, options.cells, options.modes, options.only)
    counts = thread_counts(options.threads)
    minutes = options.budget or preset.minutes
    slow = None if options.slow_peers or not preset.slow_cases else frozenset(preset.slow_cases())
    plans = []
    for index, count in enumerate(counts):
        left = [c for c in chosen if (c, count, records.TIME) not in done]
        wanted = preset.memory if index == 0 and options.memory and not options.only else ()
        memory = [c for c in wanted if (c, count, records.MEMORY) not in done]
        plans.append(
            worker.Plan(
                cases=tuple(presets.shuffled(left) if options.budget else left),
                memory=tuple(memory),
                names=tuple(names),
                threads=count,
                machine=machine,
                allowance=LONGEST_ALLOWANCE if options.budget else preset.allowance,
                least=preset.least,
                limit=minutes * 60 / len(counts) if minutes else None,
                aa_every=preset.aa_every,
                results=path,
                slow_cases=slow,
            )
        )
    return plans


def _announce(plans: list[worker.Plan], missing: dict[str, str]) -> None:
    """Says beforehand what will run, who is missing and how long it will take."""
    import torch

    from ..measure.timing import Sgemm

    for name, why in missing.items():
        print(f"missing: {name} ({why})")
    total = least = 0.0
    for plan in plans:
        torch.set_num_threads(plan.threads)
        rate = Sgemm(plan.machine.device).rate()
        budget = plan.budget(rate)
        memory = 6.0 * len(plan.memory)
        total, least = total + budget.seconds + memory, least + budget.minimum + memory
        print(
            f"{len(plan.cases)} cases, {len(plan.names)} contestants, {plan.threads} thread(s), "
            f"sgemm {rate:.0f} GFLOP/s: about {spoken(budget.seconds + memory)}"
        )
    print(f"in all about {spoken(total)}", flush=True)
    if least > total:
        print(
            f"every case with its least rounds would take about {spoken(least)}: what does not fit "
            "is left for --resume",
            flush=True,
        )


def _child(plan: worker.Plan) -> bool:
    """Runs a plan in a process pinned to its CPUs; True if it was not interrupted."""
    context = multiprocessing.get_context("spawn")
    current = context.Array("c", 256)
    process = context.Process(target=worker.run, args=(plan, current))
    worker.end_on_sigterm()
    with pinned(plan.threads):
        process.start()
    try:
        process.join()
    except KeyboardInterrupt:
        process.join()  # the same signal reached the child, which ends by itself
        return False
    except SystemExit:
        process.terminate()
        process.join()
        raise
    if process.exitcode != 0:
        case = current.value.decode() or "its start"
        raise UsageError(
            f"the measuring process ended with status {process.exitcode} in {case}; what was "
            f"measured before is in {plan.results}"
        )
    return True


def run(options: Namespace) -> int:
    """Measures and reports; the exit status."""
    preset = presets.PRESETS[options.preset]
    options.threads = options.threads or preset.threads
    machine = records.machine(options.device)
    names, missing = worker.present(peer_names(options.peers, preset))
    presets.select(options.preset, options.cells, options.modes, options.only)
    if options.dry_run:
        plans = _plans(options, machine, names, options.out / RESULTS, set())
        _announce(plans, missing)
        print("\n".join(case.id for case in plans[0].cases))
        return 0
    path, done = _results_file(options, machine)
    plans = [p for p in _plans(options, machine, names, path, done) if p.cases or p.memory]
    _announce(plans, missing)
    sink, complete = records.Sink(path), True
    if not done:
        sink.write(_missing_rows(missing, machine))
    for plan in plans:
        complete = complete and _child(plan)
    found = records.read(path)
    records.write_json(found, path.with_suffix(".json"))
    print(document.write(found, options.out), file=sys.stdout)
    left = _left(options, names, found)
    if left:
        print(f"{left} cases are left: the same command with --resume goes on")
    return 0 if complete else 130


def _left(options: Namespace, names: list[str], found: pd.DataFrame) -> int:
    done = records.measured(found)
    chosen = presets.select(options.preset, options.cells, options.modes, options.only)
    counts = thread_counts(options.threads)
    return sum((c, n, records.TIME) not in done for c in chosen for n in counts)

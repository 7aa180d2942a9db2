"""A regression guard: fastrnn in this tree against fastrnn at another revision, interleaved.

Each side is a process of its own, with its own fastrnn and this tree's benchmarks, that times one
slot whenever it is asked. The other revision is built in a temporary git worktree.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ..cases import layers, presets
from ..cases.case import Case
from ..errors import UsageError
from ..measure import timing
from ..measure.pinning import pinned
from ..measure.records import REPOSITORY
from ..report.summary import geomean
from ..report.tables import markdown, number

ROUNDS = 15


class Side:
    """A tree's fastrnn, served by a process."""

    def __init__(self, tree: Path, scratch: Path):
        scratch.mkdir()
        (scratch / "fastrnn").symlink_to(tree / "fastrnn")
        (scratch / "benchmarks").symlink_to(REPOSITORY / "benchmarks")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.measure.serve"],
            cwd=scratch,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **question) -> dict:
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise UsageError(f"a measuring process ended with status {self._process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=30)


@contextlib.contextmanager
def _worktree(revision: str):
    """A built checkout of a revision, removed at the end."""
    git = ["git", "-C", str(REPOSITORY)]
    found = subprocess.run([*git, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"],
                           capture_output=True, text=True)  # fmt: skip
    if found.returncode != 0:
        raise UsageError(f"compare: {revision!r} is not a revision of this repository")
    with tempfile.TemporaryDirectory(prefix="fastrnn-compare-") as folder:
        tree = Path(folder) / "base"
        add = ["worktree", "add", "--detach", "--quiet", str(tree), revision]
        subprocess.run([*git, *add], check=True)
        try:
            print(f"building {revision} …", flush=True)
            build = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
            built = subprocess.run(build, cwd=tree, capture_output=True, text=True)
            if built.returncode != 0:
                last = "\n".join(built.stderr.strip().splitlines()[-5:])
                raise UsageError(f"compare: {revision} does not build:\n{last}")
            yield tree
        finally:
            subprocess.run([*git, "worktree", "remove", "--force", str(tree)], check=True)


def _compare_case(case: Case, sides: list[Side]) -> list[str]:
    """A table row: both medians and the ratio base / this tree, formed within rounds."""
    # An older revision may not know which layers have a cell.
    known = layers.of(case.cell)
    answers = [side.ask(case=asdict(case), layers=known) for side in sides]
    bad = [(w, a) for w, a in zip(("base", "here"), answers) if a["status"] != "ok"]
    if bad:
        return [
            case.id,
            "",
            "",
            f"**{bad[0][1]['status']}** ({bad[0][0]}: {bad[0][1]['note']})",
            "",
        ]
    calls = [max(1, round(timing.SLOT_SECONDS / a["seconds"])) for a in answers]
    taken = np.empty((ROUNDS, 2))
    for r in range(ROUNDS):
        for k in (0, 1) if r % 2 else (1, 0):
            taken[r, k] = sides[k].ask(calls=calls[k])["seconds"]
    base, here = np.median(taken, axis=0) * 1e6
    low, ratio, high = timing.spread(taken[:, 0] / taken[:, 1])
    text = f"{ratio:.3f}x"
    return [case.id, number(base), number(here), text, f"{low:.3f}–{high:.3f}"]


def run(base: str, threads: int, only: str | None) -> int:
    """Prints the table of the quick cases; 0 whatever it says: a person decides."""
    chosen = presets.select("quick", None, None, only)
    rows = []
    with contextlib.ExitStack() as ends:
        trees = {"base": ends.enter_context(_worktree(base)), "here": REPOSITORY}
        scratch = Path(ends.enter_context(tempfile.TemporaryDirectory()))
        with pinned(threads):
            sides = [Side(tree, scratch / name) for name, tree in trees.items()]
        for side in sides:
            ends.callback(side.close)
        for case in chosen:
            rows.append(_compare_case(case, sides))
            print(
                f"{len(rows)}/{len(chosen)} {case.id}: {rows[-1][3]}", file=sys.stderr, flush=True
            )
    print(markdown(["case", f"{base} µs", "here µs", "times faster", "p20–p80"], rows))
    ratios = [float(row[3][:-1]) for row in rows if row[1]]
    print(
        f"\ngeomean {geomean(ratios):.3f}x over {len(ratios)} cases (above 1: this tree is faster)"
    )
    return 0

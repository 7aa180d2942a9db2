"""The rooms of csrc/: who includes whom. CONTRIBUTING.md says what each of them is for."""

import re
import shutil
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from source_tree import ROOT

# Room -> the rooms it includes: above itself all of them, so that arrows point one way.
ARROWS = {
    "cells": set(),
    "file": {"cells"},
    "cpu": {"cells"},
    "cpu/simd": set(),
    "cpu/threads": {"cpu"},
    "cpu/gemm": {"cpu", "cpu/simd", "cpu/threads"},
    "cpu/engine": {"cells", "cpu", "cpu/simd", "cpu/threads", "cpu/gemm"},
    "cpu/isa": {"cpu/engine"},
    "stream": {"cells", "cpu"},
    "stream/engine": {"cells", "cpu/threads", "cpu/gemm", "stream"},
    "stream/isa": {"cells", "stream/engine"},
    "c": {"file", "stream"},
    "op": {"cells", "cpu", "stream"},
    "cuda": {"cells"},
    "cuda/kernel": {"cells", "cuda"},
    "cuda/host": {"cuda", "op"},
}
SEES_TORCH = {"op", "cuda/host"}
MATHS = {"<cmath>", "<type_traits>"}  # all that a cell and the list know of the outside
SIMULATOR = "sim/"  # in tests/cuda/: kernels that are compiled for a CPU find it


def files(csrc: Path) -> list[Path]:
    return [p for p in csrc.rglob("*") if p.suffix in (".h", ".cpp", ".cuh", ".cu")]


def includes(file: Path) -> list[str]:
    """As written: `"gemm.h"`, `"cpu/params.h"`, `<cmath>`."""
    return re.findall(r'^\s*#include (".+?"|<.+?>)', file.read_text(), re.M)


def complaints(csrc: Path) -> list[str]:
    """What is wrong with the arrows of a tree; and those of ARROWS that it lacks."""
    wrong, missing, graph = [], {(a, b) for a in ARROWS for b in ARROWS[a]}, {}
    for file in files(csrc):
        name, room = str(file.relative_to(csrc)), str(file.parent.relative_to(csrc))
        if room not in ARROWS:
            wrong.append(f"{name} is in no room")
            continue
        for written in includes(file):
            there = written.strip('"')
            if written.startswith("<"):
                if "torch/" in written and room not in SEES_TORCH:
                    wrong.append(f"{name} includes {written}")
                if room == "cells" and written not in MATHS:
                    wrong.append(f"{name} includes {written}")
                continue
            if there.startswith(SIMULATOR) and room == "cuda/kernel":
                continue
            path = file.parent / there if "/" not in there else csrc / there
            if not path.is_file() or ".." in there:
                wrong.append(f"{name} includes {written}, which is no path from csrc/")
                continue
            graph.setdefault(name, set()).add(str(path.relative_to(csrc)))
            other = str(path.parent.relative_to(csrc))
            if other != room and other not in ARROWS[room]:
                wrong.append(f"{name} includes {written}: {room} must not know {other}")
            missing.discard((room, other))
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as cycle:
        wrong.append(f"a cycle: {' -> '.join(cycle.args[1])}")
    return wrong + [f"no file of {a} includes {b}" for a, b in sorted(missing)]


def test_arrows_point_one_way():
    assert not complaints(ROOT / "csrc")
    above = list(ARROWS)
    for room, others in ARROWS.items():
        assert others <= set(above[: above.index(room)]), room


@pytest.mark.parametrize(
    ("file", "line", "complaint"),
    [
        ("cells/lstm.h", '#include "cpu/simd/simd.h"', "cells must not know cpu/simd"),
        ("cells/lstm.h", "#include <cstdlib>", "cells/lstm.h includes <cstdlib>"),
        ("cells/math.h", '#include "lstm.h"', "a cycle: "),
        ("cpu/gemm/gemm.h", '#include "cpu/engine/rows.h"', "cpu/gemm must not know cpu/engine"),
        ("cuda/plan.h", '  #include "cuda/host/planner.h"', "cuda must not know cuda/host"),
        ("cpu/params.h", "#include <torch/csrc/stable/tensor.h>", "includes <torch/"),
        ("op/ops.cpp", '#include "../cpu/kernels.h"', "is no path from csrc/"),
        ("more/room.h", "", "more/room.h is in no room"),
    ],
)
def test_an_arrow_the_other_way_is_seen(tmp_path, file, line, complaint):
    shutil.copytree(ROOT / "csrc", tmp_path / "csrc")
    path = tmp_path / "csrc" / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{line}\n{path.read_text() if path.exists() else ''}")
    assert any(complaint in found for found in complaints(tmp_path / "csrc"))


def test_every_room_is_described():
    described = re.findall(r"^\| `csrc/([\w/]+)/` \|", (ROOT / "CONTRIBUTING.md").read_text(), re.M)
    assert sorted(described) == sorted(ARROWS)


def test_the_simulator_is_no_source_of_the_library():
    assert not [p for p in files(ROOT / "csrc") if "sim" in p.parts]
    assert (ROOT / "tests/cuda/sim/device.h").exists()

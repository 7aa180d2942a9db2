"""Reads machine code of NVIDIA GPUs, as cuobjdump -sass lists it."""

import re

LOCAL_MEMORY = r"\b(LDL|STL)\b"


def code_of(sass: str) -> list[tuple[int, str]]:
    """(address, instruction) in order."""
    lines = re.findall(r"/\*([0-9a-f]{4,})\*/\s+(.*?);", sass)
    return [(int(address, 16), text) for address, text in lines]


def loops(code: list[tuple[int, str]]) -> list[tuple[int, int]]:
    """(first, last) address of each loop: backward branches and their targets."""
    branches = [(a, int(m[1], 16)) for a, text in code if (m := re.search(r"BRA.* 0x(\w+)", text))]
    # The last instruction of a kernel branches to itself: padding, no loop.
    return [(target, at) for at, target in branches if target < at]


def inside(code: list[tuple[int, str]], pattern: str, ranges: list[tuple[int, int]]) -> int:
    """How many instructions match and lie in one of the ranges."""
    found = [a for a, text in code if re.search(pattern, text)]
    return sum(any(first <= a <= last for first, last in ranges) for a in found)


def spills_in_loops(sass: str) -> int:
    """The instructions on local memory that lie between a backward branch and its target."""
    code = code_of(sass)
    return inside(code, LOCAL_MEMORY, loops(code))


def spills_in_main_loop(sass: str, work: str) -> int:
    """The same for the loop over the steps: the smallest one with a barrier, which a loop over
    batch rows inside it lacks, and nine tenths of the instructions that match `work`. All loops
    count where there is none."""
    code = code_of(sass)
    enough = 0.9 * sum(bool(re.search(work, text)) for _, text in code)
    steps = [r for r in loops(code) if inside(code, r"\bBAR\b", [r])]
    main = [r for r in steps if inside(code, work, [r]) >= enough]
    if not main:
        return spills_in_loops(sass)
    return inside(code, LOCAL_MEMORY, [min(main, key=lambda r: r[1] - r[0])])

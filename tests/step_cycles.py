"""A first estimate, without a GPU, of the cycles that one step of a scan takes.

The machine code says itself how long to stall after each instruction, and which scoreboard to wait
for before it; only how long loads and the like take is not in it. So one warp is walked through the
loop in order, on its own: no contention but for the tensor and special function units, and words of
other programs come when first looked for. Good for comparing two ways to write a kernel, and no
measurement.
"""

import re
from typing import NamedTuple

# Cycles until the result is there, rounded figures of sm_80 and sm_90: global memory from L2.
LATENCY = {
    "LDG": 270, "LD": 270, "ATOMG": 300, "LDL": 40, "LDC": 30, "DFMA": 50,
    "LDS": 29, "LDSM": 33, "STS": 12, "STG": 12, "STL": 12, "BAR": 24,
    "MUFU": 22, "SHFL": 24, "REDUX": 30, "S2R": 25, "F2F": 22, "I2F": 22, "F2I": 22,
}  # fmt: skip
OTHER = 20
# Cycles that an instruction occupies a unit of which a multiprocessor has four.
BUSY = {"HMMA.16816": 8, "HMMA.1688": 4, "HGMMA": 16, "MUFU": 8}


class Instruction(NamedTuple):
    address: int
    text: str
    stall: int
    sets: tuple[int, int]  # scoreboards (result there, operands read), 7 for none
    waits: int  # bit mask of scoreboards

    @property
    def name(self) -> str:
        return re.sub(r"^@!?U?P\w+\s+", "", self.text).split()[0]


def instructions(sass: str) -> list[Instruction]:
    """From cuobjdump -sass, which gives each instruction with its two words of code."""
    pattern = r"/\*([0-9a-f]{4,})\*/\s+(.*?) ;\s+/\* 0x\w+ \*/\s+/\* (0x\w+) \*/"
    found = []
    for address, text, word in re.findall(pattern, sass):
        code = int(word, 16) >> 41
        sets = (code >> 5) & 7, (code >> 8) & 7
        found.append(Instruction(int(address, 16), text, code & 15, sets, (code >> 11) & 63))
    return found


def loop_over_steps(code: list[Instruction]) -> list[Instruction]:
    """The longest backward branch around matrix or multiply-add instructions; [] for none."""
    longest: list[Instruction] = []
    for at in code:
        target = re.search(r"\bBRA\b.* (0x\w+)", at.text)
        body = [i for i in code if target and int(target[1], 16) <= i.address <= at.address]
        if len(body) > len(longest) and any(re.match("HMMA|HGMMA|FFMA", i.name) for i in body):
            longest = body
    return longest


def cycles(sass: str, warps: int) -> int:
    """Of the second time round the loop; 0 where there is none. Inner loops run once."""
    body = loop_over_steps(instructions(sass))
    ready, free, now, began = [0] * 6, dict.fromkeys(BUSY, 0), 0, 0
    for _ in range(2):
        began = now
        for i in body:
            now = max([now] + [ready[b] for b in range(6) if i.waits >> b & 1])
            for unit, busy in BUSY.items():
                if i.name.startswith(unit):
                    now = max(now, free[unit])
                    free[unit] = now + busy * -(-warps // 4)
            kind = i.name.split(".")[0]
            if kind == "BAR":
                now += LATENCY["BAR"]
            for scoreboard, takes in zip(i.sets, (LATENCY.get(kind, OTHER), 12)):
                if scoreboard < 6:
                    ready[scoreboard] = max(ready[scoreboard], now + takes)
            now += max(i.stall, 1)
    return now - began

"""Launch configurations: which tile sizes fit which layer, and the choice among them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Config:
    """Tile sizes of a scan kernel (see scan.py) and Triton's launch options."""

    rows: int
    units: int
    inner: int
    resident: bool
    warps: int
    stages: int

    def meta(self):
        return dict(
            ROWS=self.rows,
            UNITS=self.units,
            INNER=self.inner,
            RESIDENT=self.resident,
            num_warps=self.warps,
            num_stages=self.stages,
        )


def choose(direction, layer, run):
    import os

    H = 16
    while H < layer.H:
        H *= 2
    if os.environ.get("MODE") == "s":
        return run(Config(16, 16, 16, False, 4, 1))
    return run(Config(4, H, H, True, 4, 1))

"""The correctness gate: who is wrong is shown as WRONG and never timed.

The 2x rule: of every result tensor, the error against the float64 result, divided by that tensor's
largest magnitude, is at most twice the baseline's own error plus a floor.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

# For tensors on which the baseline happens to be exact to the last bit: an activation within 2 ulp,
# or one sum over all T*B rows in place of T small ones, must not count as wrong.
FLOOR = {"float32": 2e-6, "float64": 1e-14, "bfloat16": 8e-3, "float16": 1e-3, "tf32": 1e-3}
FLOOR["int8"] = 0.2  # of what 8 bits with one scale for a whole tensor give, the least exact form


def error(got: Tensor, want: Tensor) -> float:
    """Largest difference over the largest magnitude of `want`; infinite if not finite."""
    got, want = got.detach().cpu().double(), want.detach().cpu().double()
    if got.shape != want.shape:
        return float("inf")
    if want.numel() == 0:
        return 0.0
    difference = (got - want).abs().max().item() / max(want.abs().max().item(), 1e-30)
    return difference if difference == difference else float("inf")


@dataclass(frozen=True)
class Verdict:
    """tensor: the one nearest to its limit, or farthest beyond; errors relative to its largest."""

    ok: bool
    tensor: str
    error: float
    baseline_error: float

    @property
    def text(self) -> str:
        return f"{self.tensor}: error {self.error:.1e}, the baseline's {self.baseline_error:.1e}"


def judge(
    got: dict[str, Tensor], baseline: dict, exact: dict, dtype: str, inexact: float = 0.0
) -> Verdict:
    """A contestant's named tensors against the baseline's errors; inexact: allowed it besides."""
    missing = [name for name in exact if name not in got]
    if missing:
        return Verdict(False, missing[0], float("inf"), 0.0)
    found = []
    for name, want in exact.items():
        own, theirs = error(got[name], want), error(baseline[name], want)
        found.append((own / (2 * theirs + FLOOR[dtype] + inexact), name, own, theirs))
    used, name, own, theirs = max(found)
    return Verdict(used <= 1.0, name, own, theirs)

"""The table of models of other libraries."""

from __future__ import annotations

from ..measure.whole_model import Row
from .tables import markdown, number

HEADER = (
    "library", "model", "changed, left", "shapes", "share", "difference", "inference", "training",
)  # fmt: skip


def _ratio(low: float | None, middle: float | None, high: float | None) -> str:
    if middle is None:
        return "–"
    text = f"{middle:.2f} ({low:.2f}–{high:.2f})"
    return f"**{text}**" if middle < 1 else text


def _line(row: Row) -> list[str]:
    library = f"{row.package} {row.version}".strip()
    if row.status != "ok":
        # What a library says may have any characters.
        said = " ".join(row.why.replace("|", "/").split())
        return [library, row.title, f"**{row.status}**: {said}", *[""] * (len(HEADER) - 3)]
    return [
        library, row.title, f"{row.changed}, {row.left}", row.shapes,
        "–" if row.share is None else f"{row.share:.2f}", f"{row.difference:.1e}",
        _ratio(row.infer_p20, row.infer, row.infer_p80),
        _ratio(row.train_p20, row.train, row.train_p80),
    ]  # fmt: skip


def told(row: Row) -> str:
    """One row, as it comes."""
    return " | ".join(text for text in _line(row) if text)


def table(rows: list[Row]) -> str:
    """Libraries that are not installed are named below it."""
    there = [row for row in rows if row.status != "missing"]
    parts = [markdown(list(HEADER), [_line(row) for row in there])] if there else []
    reasons = {f"{row.package}: {row.left_why}" for row in there if row.left_why}
    parts += [f"Left: {reason}." for reason in sorted(reasons)]
    missing = dict.fromkeys(row.package for row in rows if row.status == "missing")
    if missing:
        parts.append(f"Not installed: {', '.join(missing)}.")
    slower = [row for row in there if min(row.infer or 1, row.train or 1) < 1]
    if there:
        parts.append(f"Slower than torch.nn in one of the two: {len(slower)} of {len(there)}.")
    return "\n\n".join(parts)


def times(rows: list[Row]) -> str:
    """What the ratios are of."""
    lines = [
        [
            f"{r.package}, {r.title}",
            *("–" if v is None else number(v) for v in (r.infer_ms, r.train_ms)),
        ]
        for r in rows
        if r.status == "ok"
    ]
    return markdown(["torch.nn's times, ms", "inference", "training"], lines)

"""Ctrl-C, and any other signal whose handler raises, during a kernel."""

from __future__ import annotations


def raise_handlers(error: RuntimeError) -> None:
    """Raises what a signal's handler raised, if that is why a kernel ended early with `error`."""
    if error.__cause__ is not None and str(error) == "interrupted by a signal":
        raise error.__cause__ from None

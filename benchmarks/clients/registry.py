"""All models of other libraries, in the order of the table."""

from __future__ import annotations

from . import forecasting, graphs, language, reinforcement, speech, vision
from .model import Client

CLIENTS: tuple[Client, ...] = tuple(
    client
    for field in (forecasting, reinforcement, speech, language, vision, graphs)
    for client in field.CLIENTS
)


def chosen(only: str | None) -> list[Client]:
    """Those whose package and title contain the text; all for None."""
    return [c for c in CLIENTS if not only or only.lower() in f"{c.package} {c.title}".lower()]

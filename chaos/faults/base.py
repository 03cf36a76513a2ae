"""The interface of a fault: it starts, lasts and is undone."""

from __future__ import annotations

from chaos.catalogue import Planned
from chaos.harness import Harness


class Skipped(Exception):
    """This fault is not possible here; the text gives the reason."""


class Fault:
    """One fault of a plan. `note` describes its effect."""

    def __init__(self, harness: Harness, planned: Planned) -> None:
        self.harness = harness
        self.planned = planned
        self.note = ""

    async def start(self) -> None:
        """Inject the fault. Raises Skipped."""

    async def stop(self) -> None:
        """Undo the fault. Always called, even if `start` failed."""

"""What every fault is: something that starts, lasts and is undone."""

from __future__ import annotations

from chaos.catalogue import Planned
from chaos.world import World


class Skipped(Exception):
    """This fault cannot be made here; the text says why."""


class Fault:
    """One fault of a plan. `start` makes it, `stop` undoes it; `note` says what came of it."""

    def __init__(self, world: World, planned: Planned) -> None:
        self.world = world
        self.planned = planned
        self.note = ""

    async def start(self) -> None:
        """Make it. Raises Skipped."""

    async def stop(self) -> None:
        """Undo it; always called, and also where `start` failed."""

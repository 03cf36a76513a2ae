"""The order of an operator that this worker takes no messages."""

from __future__ import annotations

import asyncio

from relay.store.drain import DrainOrder


class DrainSwitch:
    """`seen` gets the order that each heartbeat has read."""

    def __init__(self, order: DrainOrder | None = None) -> None:
        """`order` is one that the process has had before a reload."""
        self.order = order
        """The order in force."""
        self.ordered = asyncio.Event()
        """Set by the first order, for good: a worker that has drained is replaced when it may work again."""
        self.ended = asyncio.Event()
        """Set when an order is withdrawn."""
        if order is not None:
            self.ordered.set()

    def seen(self, order: DrainOrder | None) -> None:
        """Note the present order."""
        if order is not None:
            self.ordered.set()
        elif self.ordered.is_set():
            self.ended.set()
        self.order = order

"""Keeps slots free for groups that answer, while others hang. Pure, except for what the caller passes in."""

from __future__ import annotations

import math
from collections.abc import Mapping

SHARE = 5 / 8
"""The share of a worker's slots for groups without an answer. The rest is more than a claim lingers for."""

SLOW = 0.5
"""A message in hand for this many seconds shows that a group hangs."""

KEEP = 60.0
"""Seconds for which slots are kept free after the last such message."""


class SlotReserve:
    """Decides how many slots the groups without an answer may share. 0: all, because none hangs.

    Sharing costs a healthy lane about half of its rate, so it begins with the first message that hangs.
    """

    def __init__(self, slots: int) -> None:
        self._shared = max(1, int(slots * SHARE))
        self._until = -math.inf

    def shared(self, held: Mapping[str, float], now: float) -> int:
        """`held` are the times of the claims of the messages in hand, the oldest first."""
        oldest = next(iter(held.values()), now)
        if now - oldest > SLOW:
            self._until = now + KEEP
        return self._shared if now < self._until else 0

"""Keeps slots free for groups that answer, in case others hang. Reads no clock and does no I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from relay.store.claims import Claim

SHARE = 5 / 8
"""The share of a worker's slots for groups without an answer. The rest is more than a claim lingers for."""

MANY = 1 / 4
"""Keep slots free while messages of untried groups take more than this share of the slots or of a claim."""

SLOW = 0.5
"""A message in hand for this many seconds shows that a group hangs."""

KEEP = 10.0
"""Seconds for which slots are kept free after the last such message."""

MOST_ANSWERING = 10_000
"""Groups that are remembered, because they answered this worker last time."""


class SlotReserve:
    """Decides how many slots the groups without an answer may share. 0: all, because none seems to hang.

    Redis remembers an answer of a group only while messages of the group are in flight, so sharing costs a
    healthy lane half of its rate. This worker remembers more: if nearly all of its messages are for groups
    that answered it last time, all slots may be used.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._shared = max(1, int(slots * SHARE))
        self._answering: dict[str, None] = {}
        self._untried: dict[str, int] = {}
        """Messages in hand of each group that did not answer last time."""
        self._number = 0
        """The sum of these."""
        self._are_many_new = True
        """Whether many messages of the last claim were for such groups."""
        self._until = -math.inf

    def claimed(self, claims: Sequence[Claim]) -> None:
        new = 0
        for claim in claims:
            group = claim.message.group
            if group not in self._answering:
                new += 1
                self._untried[group] = self._untried.get(group, 0) + 1
        self._number += new
        if claims:
            self._are_many_new = new > MANY * len(claims)

    def finished(self, batch: Sequence[Claim]) -> None:
        """Forget messages that are no longer in hand."""
        if not self._untried:
            return
        for claim in batch:
            group = claim.message.group
            if left := self._untried.get(group):
                self._number -= 1
                if left > 1:
                    self._untried[group] = left - 1
                else:
                    del self._untried[group]

    def answered(self, group: str) -> None:
        if group in self._answering:
            return
        self._answering[group] = None
        self._number -= self._untried.pop(group, 0)
        if len(self._answering) > MOST_ANSWERING:
            del self._answering[next(iter(self._answering))]

    def failed(self, group: str) -> None:
        self._answering.pop(group, None)

    def forget_messages(self) -> None:
        """Forget all messages in hand."""
        self._untried, self._number = {}, 0

    def shared(self, held: Mapping[str, float], now: float) -> int:
        """Return the number of slots that groups without an answer share, besides those of the others.

        `held` are the times of the claims of the messages in hand, the oldest first.
        """
        oldest = next(iter(held.values()), now)
        if now - oldest > SLOW:
            self._until = now + KEEP
        if now < self._until:
            # The group that hangs is unknown: all messages in hand count.
            return self._shared
        if self._are_many_new or self._number > MANY * self._slots:
            return self._shared + len(held) - self._number
        return 0

"""The parts of a fetch for idle lanes go into flight together, some lanes in each script.

With two hundred lanes, a fetch has three messages for each of them. One script follows another, because the
requests of six hundred messages at once do not fit into the caches of a processor.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from relay.engine.direct_claims import DirectClaims
from relay.errors import StoreError
from relay.message import Message
from relay.redis_client.client import is_refusal
from relay.store.items import Item
from relay.store.lane import Lane
from relay.store.many_lanes import ManyLanes, Part


@dataclass(frozen=True, slots=True)
class PartsTuning:
    """The sizes of a script, which keep it under a millisecond."""

    lanes: int = 25
    messages: int = 100


class _Part(msgspec.Struct, frozen=True):
    provider: str
    direct: DirectClaims
    messages: Sequence[Message]


class DirectParts:
    """Sends the parts of fetches. Not for a cluster."""

    def __init__(
        self,
        many: ManyLanes,
        lanes: Mapping[str, Lane],
        direct: Mapping[str, DirectClaims],
        tuning: PartsTuning = PartsTuning(),
    ) -> None:
        """`direct` are the direct claims of this process, by provider."""
        self._many = many
        self._lanes = lanes
        self._direct = direct
        self._tuning = tuning

    async def enqueue(
        self, by_lane: Mapping[str, Sequence[Item]], batch_id: str, sequence: str
    ) -> dict[str, StoreError | None]:
        """Put parts of a fetch into flight, and send them. Returns the providers of these parts, with the
        error of a lane that has refused its part; all others have to go through their lanes.

        Raises StoreError if Redis fails.
        """
        ends: dict[str, StoreError | None] = {}
        for parts in self._groups(by_lane):
            ends |= await self._enqueue(parts, batch_id, sequence)
        return ends

    def _groups(self, by_lane: Mapping[str, Sequence[Item]]) -> Iterator[list[_Part]]:
        """Yield the parts of each script. Whether they may go is decided just before it."""
        most, left = self._tuning, deque(by_lane)
        while left:
            parts: list[_Part] = []
            messages = 0
            while left and len(parts) < most.lanes and messages < most.messages:
                provider = left.popleft()
                direct, items = self._direct[provider], by_lane[provider]
                if direct.accepts(items):
                    parts.append(_Part(provider, direct, items))
                    messages += len(items)
            if parts:
                yield parts

    async def _enqueue(
        self, parts: Sequence[_Part], batch_id: str, sequence: str
    ) -> dict[str, StoreError | None]:
        """Put parts into flight, and send them. Returns what `enqueue` returns."""
        sent = time.monotonic()
        for part in parts:
            part.direct.begin(len(part.messages))
        try:
            found = await self._many.enqueue_into_flight(
                [Part(self._lanes[part.provider], part.messages) for part in parts], batch_id, sequence
            )
            replies = list(zip(parts, found, strict=True))
            for part, reply in replies:
                if reply is not None and not isinstance(reply, StoreError):
                    part.direct.hold(reply, sent)
        except BaseException as error:
            for part in parts:
                part.direct.failed(error)
            if isinstance(error, StoreError) and is_refusal(error):
                return {}  # nothing has run; a script for each lane shows which of them is refused
            raise
        finally:
            for part in parts:
                part.direct.end(len(part.messages))
        ends: dict[str, StoreError | None] = {}
        for part, reply in replies:
            if isinstance(reply, StoreError):
                ends[part.provider] = reply
            elif reply is not None:
                part.direct.send(reply)
                ends[part.provider] = None
        return ends

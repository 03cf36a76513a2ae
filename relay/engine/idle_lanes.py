"""Checks all lanes together for messages, because the claimers of empty lanes wait for a wake-up that may
be lost.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass

from relay.engine.dispatcher import Dispatcher
from relay.engine.repeats import redis_trouble
from relay.errors import StoreError
from relay.redis_client.client import Client
from relay.store.occupied import occupied


@dataclass(frozen=True, slots=True)
class IdleTuning:
    """Durations are in seconds."""

    poll: float = 30.0
    """Check again after a random half to whole of this."""


class IdleLanes:
    """The loop of one process over all lanes; `check` is its step."""

    def __init__(
        self,
        client: Client,
        prefix: str,
        dispatchers: Mapping[str, Dispatcher],
        *,
        tuning: IdleTuning = IdleTuning(),
    ) -> None:
        """`dispatchers` are by provider."""
        self._client = client
        self._prefix = prefix
        self._dispatchers = dispatchers
        self._tuning = tuning

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            await asyncio.sleep(self._tuning.poll * random.uniform(0.5, 1))  # noqa: S311 - no secret
            try:
                await self.check()
            except StoreError as error:
                redis_trouble.log("cannot check lanes for messages", error)

    async def check(self) -> None:
        """Let the claimers of lanes with messages claim. Raises StoreError."""
        for provider in await occupied(self._client, self._prefix, self._dispatchers):
            self._dispatchers[provider].notify()

"""Ends sessions in all processes of the fleet. Redis remembers which ones were ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from relay.admin.sessions import Session, Sessions
from relay.errors import StoreError
from relay.redis_client.client import Client
from relay.store import ended_sessions

PATIENCE = 0.5
"""Seconds until a page is shown although Redis has not said whether its session was ended."""


class LogOuts:
    """The log-outs of one fleet."""

    def __init__(self, sessions: Sessions, client: Callable[[], Awaitable[Client]], prefix: str) -> None:
        """`client` returns a client for Redis, or raises StoreError."""
        self._sessions = sessions
        self._client = client
        self._prefix = prefix

    async def end(self, session: Session) -> None:
        """Refuse a session from now on. Raises StoreError if other processes cannot be notified."""
        self._sessions.end(session)
        await ended_sessions.end(await self._client(), self._prefix, session.identity, session.until)

    async def has_ended(self, session: Session) -> bool:
        """Return whether a log-out has ended a session. Raises StoreError."""
        return await ended_sessions.has_ended(await self._client(), self._prefix, session.identity)

    async def is_known_to_have_ended(self, session: Session) -> bool:
        """The same, but False if Redis does not answer: pages must say so instead of asking to log in."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self.has_ended(session)
        except (StoreError, TimeoutError):
            return False

"""Sessions of the console that a log-out has ended, for all processes of the fleet."""

from __future__ import annotations

from relay.errors import StoreError
from relay.redis_client.client import REDIS_ERRORS, Client, describe, execute
from relay.store.keys import FleetKeys
from relay.store.scripting import script

MOST = 10_000
"""Sessions that are remembered. Beyond that, those that end first are forgotten."""


async def end(client: Client, prefix: str, session: str, until: int) -> None:
    """Remember that a session has ended before its time (Unix seconds). Raises StoreError."""
    await script("end_session").run(client, (FleetKeys(prefix).ended_sessions,), session, until, MOST)


async def has_ended(client: Client, prefix: str, session: str) -> bool:
    """Return whether a log-out has ended a session. Raises StoreError."""
    try:
        score = await execute(client, "ZSCORE", FleetKeys(prefix).ended_sessions, session)
    except REDIS_ERRORS as error:
        raise StoreError(f"sessions: {describe(error)}") from error
    return score is not None

"""The request of an operator that all processes read their configuration files again.

It is a text in one key, which every heartbeat reads: a process that misses it for a while sees it later. A
process answers with its `Deployment`, which its heartbeat publishes.
"""

from __future__ import annotations

from uuid import uuid4

from relay.redis_client.client import Client
from relay.store.keys import FleetKeys
from relay.store.scripting import script

KEEP = 86_400
"""Seconds after which an unanswered request is forgotten."""

LONGEST = 64
"""Characters of a request. Any program that may write relay's keys can write one."""


async def request(client: Client, prefix: str) -> str:
    """Ask all processes to read their files. Returns the request. Raises StoreError."""
    new = uuid4().hex
    await script("request_reload").run(client, (FleetKeys(prefix).reload,), new, KEEP)
    return new


def decode(value: bytes | None) -> str:
    """Return the request in the reply of a heartbeat; empty if there is none."""
    return value.decode() if value and value.isascii() and len(value) <= LONGEST else ""

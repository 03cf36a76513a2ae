"""The audit log: actions of operators on lanes, with their time, user and reason. It keeps the newest
entries."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from relay.errors import StoreError
from relay.redis_client.client import REDIS_ERRORS, Client, describe, execute
from relay.store.keys import FleetKeys
from relay.store.scripting import script
from relay.text import one_line

MOST_ENTRIES = 10_000

LONGEST = 500
"""Characters of `who`, `group` and `why`."""

PAGE = 500
"""Entries that one command reads."""


class AuditEntry(msgspec.Struct, frozen=True):
    """One action of an operator."""

    action: str
    """`pause`, `resume`, `probe`, `rate`, `rate-reset`, `retry`, `purge`, `edit`, `cancel`, `reload`, …"""
    who: str
    """`user@host`; `SIGHUP@host` for a signal."""
    provider: str = ""
    """Empty: the whole fleet, or all providers."""
    group: str = ""
    count: int = 1
    """The number of things that the action changed."""
    why: str = ""
    until: float = 0.0
    """The time at which a pause or a rate ends on its own; 0: never, or no such action."""
    at: float = 0.0
    """Unix seconds by Redis's clock, which sets it."""


async def record(client: Client, prefix: str, entry: AuditEntry) -> None:
    """Append an entry; Redis sets its time. Raises StoreError."""
    key = FleetKeys(prefix).audit
    words = {name: one_line(getattr(entry, name))[:LONGEST] for name in ("who", "group", "why")}
    encoded = msgspec.json.encode(msgspec.structs.replace(entry, **words))
    try:
        await script("append_audit").run(client, (key,), encoded, MOST_ENTRIES)
    except StoreError as error:
        raise StoreError(f"the action is done, but not in the audit log: {error}") from error


async def read(
    client: Client,
    prefix: str,
    *,
    limit: int = 100,
    since: float = 0.0,
    provider: str | None = None,
    also: Collection[str] = (),
    actions: Collection[str] = (),
) -> list[AuditEntry]:
    """Return the newest entries first, those of one provider or of all. Raises StoreError.

    With a provider, `also` names further ones: an empty name is the whole fleet. `actions` selects some.
    """
    key = FleetKeys(prefix).audit
    found: list[AuditEntry] = []
    newest, oldest = "+", f"{round(since * 1000)}-0" if since > 0 else "-"
    while len(found) < limit:
        try:
            page: Any = await execute(client, "XREVRANGE", key, newest, oldest, "COUNT", PAGE)
        except REDIS_ERRORS as error:
            raise StoreError(f"audit: {describe(error)}") from error
        entries = (_entry(entry_id, fields) for entry_id, fields in page)
        found += (
            entry
            for entry in entries
            if entry
            and (provider in (None, entry.provider) or entry.provider in also)
            and (not actions or entry.action in actions)
        )
        if len(page) < PAGE:
            break
        newest = f"({page[-1][0].decode()}"
    return found[:limit]


def _entry(entry_id: bytes, fields: Any) -> AuditEntry | None:
    """Decode an entry; None if another program wrote it."""
    flat = dict(fields) if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
    try:
        entry = msgspec.json.decode(flat.get(b"entry", b""), type=AuditEntry)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return msgspec.structs.replace(entry, at=int(entry_id.partition(b"-")[0]) / 1000)

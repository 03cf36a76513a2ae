"""The feedback stream, as operators read it: targets that are gone, and groups that were disabled."""

from __future__ import annotations

from typing import Any

import msgspec

from relay.errors import StoreError
from relay.redis_client.client import REDIS_ERRORS, Client, describe, execute
from relay.store.keys import FleetKeys


class Feedback(msgspec.Struct, frozen=True):
    """One entry."""

    entry: str
    """Its id in the stream."""
    at: float
    """Unix seconds."""
    provider: str = ""
    target: str = ""
    reason: str = ""
    id: str = ""
    """The message that met the target."""
    group: str = ""


async def read_feedback(
    client: Client, prefix: str, *, limit: int = 100, before: str = "+"
) -> list[Feedback]:
    """Return the newest entries first, those before the entry `before`. Raises StoreError."""
    end = before if before == "+" else f"({before}"
    try:
        page: Any = await execute(client, "XREVRANGE", FleetKeys(prefix).feedback, end, "-", "COUNT", limit)
    except REDIS_ERRORS as error:
        raise StoreError(f"feedback: {describe(error)}") from error
    return [_feedback(entry.decode(), fields) for entry, fields in page]


def _feedback(entry: str, fields: Any) -> Feedback:
    pairs = fields.items() if isinstance(fields, dict) else zip(fields[::2], fields[1::2], strict=True)
    texts = {name.decode(errors="replace"): value.decode(errors="replace") for name, value in pairs}
    known = {name: texts.get(name, "") for name in ("provider", "target", "reason", "id", "group")}
    return Feedback(entry, int(entry.partition("-")[0]) / 1000, **known)

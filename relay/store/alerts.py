"""The alerts of a fleet, in one key: also those that have just begun, and messages on their way to a lane.

All workers read and replace the same value; a script replaces it only if nobody else has in the meantime.
"""

from __future__ import annotations

from typing import Any

import msgspec

from relay.errors import StoreError
from relay.redis_client.client import REDIS_ERRORS, Client, describe, execute
from relay.store.keys import FleetKeys
from relay.store.scripting import script
from relay.text import one_line

LONGEST_NAME = 300
"""Characters of a provider, a queue or a group. Any program that may write relay's keys can write alerts."""


class Alert(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A condition that needs an operator. Times are in Unix seconds by Redis's clock."""

    alert: str
    """The kind, such as `unauthorised`."""
    provider: str = ""
    group: str = ""
    queue: str = ""
    since: float = 0.0
    """The beginning of the condition, as far as it is known."""
    seen: float = 0.0
    """The time at which it was seen first."""
    firing: bool = False
    """Whether it has lasted long enough, so that a message has gone out."""
    why: str = ""
    value: float = 0.0
    """The number that the kind is about, such as dead letters or seconds."""

    @property
    def key(self) -> tuple[str, str, str, str]:
        return (self.alert, self.provider, self.group, self.queue)


class AlertEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The begin or the end of an alert, whose message has to go into a lane."""

    serial: int
    """Its number, by which the lane takes it once."""
    alert: Alert
    resolved: bool = False
    at: float = 0.0


class AlertBook(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that a fleet knows about alerts."""

    checked: float = 0.0
    """The time of the last check; 0: none, or alerts were turned off."""
    serial: int = 0
    """The number of the newest event."""
    alerts: tuple[Alert, ...] = ()
    events: tuple[AlertEvent, ...] = ()

    @property
    def firing(self) -> list[Alert]:
        return [alert for alert in self.alerts if alert.firing]


class AlertStore:
    """The alerts in Redis. Every method raises StoreError."""

    def __init__(self, client: Client, prefix: str) -> None:
        self._client = client
        self._keys = FleetKeys(prefix)

    async def lock(self, worker: str, seconds: float) -> bool:
        """Return whether this worker alone may check for the next `seconds`."""
        return bool(
            await script("lock").run(self._client, (self._keys.alerts_lock,), worker, round(seconds * 1000))
        )

    async def read(self) -> tuple[bytes, AlertBook]:
        """Return the stored value, for `replace`, and the alerts in it. An unreadable value has none."""
        stored: bytes = await self._command("GET", self._keys.alerts) or b""
        try:
            return stored, _decode(stored)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return stored, AlertBook()

    async def replace(self, stored: bytes, book: AlertBook) -> bytes | None:
        """Replace the stored value. Returns the new one, or None if another worker was faster."""
        new = msgspec.json.encode(book)
        done = await script("replace").run(self._client, (self._keys.alerts,), stored, new)
        return new if done else None

    async def forget_check(self) -> None:
        """Forget when a worker has checked last, because alerts are turned off."""
        stored, book = await self.read()
        if book.checked:
            await self.replace(stored, msgspec.structs.replace(book, checked=0.0))

    async def receipts(self) -> list[bytes]:
        """Return the receipts of test alerts, the newest last."""
        found: list[bytes] = await self._command("LRANGE", self._keys.alert_tests, "-100", "-1")
        return found

    async def trim_receipts(self) -> None:
        """Keep the newest receipts of test alerts only."""
        await self._command("LTRIM", self._keys.alert_tests, "-100", "-1")

    async def _command(self, *words: str) -> Any:
        try:
            return await execute(self._client, *words)
        except REDIS_ERRORS as error:
            raise StoreError(f"alerts: {describe(error)}") from error


async def firing(client: Client, prefix: str) -> list[Alert]:
    """Return the alerts that are firing, the oldest first. Raises StoreError."""
    _, book = await AlertStore(client, prefix).read()
    return sorted(book.firing, key=lambda alert: alert.since)


def _decode(stored: bytes) -> AlertBook:
    if not stored:
        return AlertBook()
    book = msgspec.json.decode(stored, type=AlertBook)
    return msgspec.structs.replace(
        book,
        alerts=tuple(_bounded(alert) for alert in book.alerts),
        events=tuple(msgspec.structs.replace(event, alert=_bounded(event.alert)) for event in book.events),
    )


def _bounded(alert: Alert) -> Alert:
    """Return the alert with texts of one printable line each."""
    return msgspec.structs.replace(
        alert,
        alert=one_line(alert.alert, LONGEST_NAME),
        provider=one_line(alert.provider, LONGEST_NAME),
        group=one_line(alert.group, LONGEST_NAME),
        queue=one_line(alert.queue, LONGEST_NAME),
        why=one_line(alert.why),
    )

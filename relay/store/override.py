"""Rates that an operator sets for a while, over the whole fleet. They replace the rates of the configuration.

An override is a field of the lane's control hash (`override`, JSON), which `claim.lua` obeys from the next
claim on. It ends by Redis's clock, with no worker's help.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from relay.errors import StoreError
from relay.redis_client.client import REDIS_ERRORS, Client, describe, execute
from relay.settings.options import ProviderOptions
from relay.settings.values import Rate
from relay.store.keys import control_key
from relay.store.scripting import script
from relay.text import one_line, rfc3339

FIELD = "override"
"""The field of the control hash."""

LONGEST_NAME = 100
"""Characters of an author or a rate. Any program that may write relay's keys can write an override."""


class OverrideRate(msgspec.Struct, frozen=True, array_like=True):
    """One rate with its bucket."""

    rate: str
    """For example `50/s`."""
    per_second: float
    burst: float


class Override(msgspec.Struct, frozen=True):
    """Times are in Unix seconds by Redis's clock."""

    rates: tuple[OverrideRate, ...]
    """All apply."""
    until: float = 0.0
    """The end; 0: `relay rate --reset` ends it."""
    at: float = 0.0
    by: str = ""
    """`user@host`."""
    reason: str = ""

    @classmethod
    def of(
        cls, rates: Sequence[Rate], *, until: float = 0.0, at: float = 0.0, by: str = "", reason: str = ""
    ) -> Override:
        """Return an override with the bursts that a configuration without `burst` has."""
        bursts = ProviderOptions.model_construct(type="", rate=tuple(rates), burst=None).bursts()
        found = (
            OverrideRate(str(rate), rate.per_second, burst) for rate, burst in zip(rates, bursts, strict=True)
        )
        return cls(tuple(found), until, at, by, reason)

    @property
    def text(self) -> str:
        """The rates for people."""
        return ", ".join(rate.rate for rate in self.rates)

    @property
    def per_second(self) -> float:
        """The lowest rate, in messages per second."""
        return min(rate.per_second for rate in self.rates)

    def __str__(self) -> str:
        """For example `50/s until 2026-11-28T20:00:00Z, by ann@ops1: they asked`."""
        until = f" until {rfc3339(self.until)}" if self.until else ""
        by = f", by {self.by}" if self.by else ""
        return f"{self.text}{until}{by}{': ' if self.reason else ''}{self.reason}"

    def holds(self, now: float) -> bool:
        """Return whether the override has not ended yet."""
        return bool(self.rates) and (not self.until or self.until > now)


async def set_override(client: Client, prefix: str, provider: str, override: Override) -> None:
    """Replace the rates of a lane. Their buckets start empty. Raises StoreError."""
    empty = f"0 {override.at * 1_000_000:.0f}"
    buckets = [word for rate in override.rates for word in (f"bucket:{rate.rate}", empty)]
    await script("set_control").run(
        client, (control_key(prefix, provider),), FIELD, _encode(override), *buckets
    )


async def clear_override(client: Client, prefix: str, provider: str) -> bool:
    """Return to the configured rates. Returns whether there was an override. Raises StoreError."""
    return bool(await _command(client, "HDEL", control_key(prefix, provider), FIELD))


async def read(client: Client, prefix: str, provider: str, now: float) -> Override | None:
    """Return the override in force at a time. Raises StoreError."""
    return of_control(await _command(client, "HGET", control_key(prefix, provider), FIELD), now)


def of_control(value: bytes | str | None, now: float) -> Override | None:
    """Return the override in the field of a control hash; None if it has ended, or cannot be read."""
    if not value:
        return None
    try:
        stored = msgspec.json.decode(value, type=Override)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    override = Override(
        tuple(msgspec.structs.replace(rate, rate=one_line(rate.rate, LONGEST_NAME)) for rate in stored.rates),
        stored.until / 1000,
        stored.at / 1000,
        one_line(stored.by, LONGEST_NAME),
        one_line(stored.reason),
    )
    return override if override.holds(now) else None


def _encode(override: Override) -> bytes:
    """Encode an override as the script reads it: times are in milliseconds."""
    return msgspec.json.encode(
        msgspec.structs.replace(override, until=round(override.until * 1000), at=round(override.at * 1000))
    )


async def _command(client: Client, *words: str) -> Any:
    try:
        return await execute(client, *words)
    except REDIS_ERRORS as error:
        raise StoreError(f"{words[0]}: {describe(error)}") from error

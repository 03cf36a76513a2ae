"""The statistics of a lane over time: one hash for each minute of the last day, and for each hour of 90 days.

`record.lua` writes them. A minute or hour in which nothing happens has no hash.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeVar

import msgspec

from relay.redis_client.client import Client
from relay.store.histogram import EMPTY, Histogram
from relay.store.keys import LaneKeys
from relay.store.reading import Command, read_all

Unit = Literal["minute", "hour"]
NumberT = TypeVar("NumberT", int, float)

SECONDS: Mapping[Unit, int] = {"minute": 60, "hour": 3600}
KEEP: Mapping[Unit, int] = {"minute": 86_400, "hour": 90 * 86_400}
"""The time for which Redis keeps the statistics of a minute and of an hour, in seconds."""

MOST_REASONS = 20
"""The most different reasons in a minute or hour. Further ones are counted as `OTHER`."""

MOST_GROUPS = 20
"""The most groups of a minute or hour that are counted one by one; the others are not."""

OTHER = "other"

OUTCOMES = (
    "accepted",
    "delivered",
    "retried",
    "throttled",
    "failed",
    "unregistered",
    "expired",
    "duplicate",
    "collapsed",
    "dropped",
    "cancelled",
    "malformed",
    "revived",
)
"""The counters of a lane whose growth the statistics keep. `record.lua` has the same list."""

RATE_FIELDS: tuple[bytes, ...] = (*(f"o:{name}".encode() for name in OUTCOMES), b"sent", b"allowed")
"""The fields that say how fast a lane is."""

_PAGE = 200
"""Windows that are read in one round trip."""


class GroupCounts(msgspec.Struct, frozen=True):
    """Attempts for one group: those that were delivered, and all others."""

    delivered: int = 0
    failed: int = 0

    @property
    def attempts(self) -> int:
        return self.delivered + self.failed


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """The statistics of a lane in some span of time."""

    outcomes: Mapping[str, int] = {}
    """By name in `OUTCOMES`. `retried` and `throttled` are attempts, the others are messages."""
    statuses: Mapping[str, int] = {}
    """HTTP statuses of the answers, by message."""
    reasons: Mapping[str, int] = {}
    """Reasons of failed attempts, without numbers, ids and URLs (`#`)."""
    delivery: Histogram = EMPTY
    """Seconds from the push of a message (or its `deliver_at`) until the provider accepted it."""
    request: Histogram = EMPTY
    """Seconds from the start of a request until its end, by request."""
    held_seconds: Mapping[str, float] = {}
    """Seconds for which the lane held, by state."""
    sent: int = 0
    """Messages that were handed out while a rate applied."""
    allowed: float = 0.0
    """Messages that the rate allowed in that time; 0 without a rate."""
    oldest_seconds: float = 0.0
    """The greatest age of a message that waited to be sent. In a lane with groups: of a sample."""
    backlog: int = 0
    """The greatest number of messages in the lane that were not delayed."""
    groups: Mapping[str, GroupCounts] = {}
    """The attempts of the largest `MOST_GROUPS`, the largest first. A group that becomes one of them later is
    counted from then on."""

    @property
    def limit_used(self) -> float | None:
        """The share of the rate limit that was used; None without a rate. Bursts may use more than 1."""
        return self.sent / self.allowed if self.allowed else None

    @property
    def failures(self) -> int:
        """Attempts that did not deliver, and were not asked to wait."""
        return sum(self.outcomes.get(name, 0) for name in ("retried", "failed", "unregistered"))


def merged(counts: Iterable[Counts]) -> Counts:
    """Return the sums of several spans of time or lanes; of ages and backlogs the greatest."""
    found = list(counts)
    if len(found) == 1:
        return found[0]
    groups: dict[str, GroupCounts] = {}
    for one in found:
        for name, group in one.groups.items():
            known = groups.get(name, GroupCounts())
            groups[name] = GroupCounts(known.delivered + group.delivered, known.failed + group.failed)
    return Counts(
        outcomes=_sums(one.outcomes for one in found),
        statuses=_sums(one.statuses for one in found),
        reasons=_sums(one.reasons for one in found),
        delivery=sum((one.delivery for one in found), EMPTY),
        request=sum((one.request for one in found), EMPTY),
        held_seconds=_sums(one.held_seconds for one in found),
        sent=sum(one.sent for one in found),
        allowed=sum(one.allowed for one in found),
        oldest_seconds=max((one.oldest_seconds for one in found), default=0.0),
        backlog=max((one.backlog for one in found), default=0),
        groups=dict(sorted(groups.items(), key=lambda item: -item[1].attempts)),
    )


def _sums(mappings: Iterable[Mapping[str, NumberT]]) -> dict[str, NumberT]:
    sums: dict[str, NumberT] = {}
    for mapping in mappings:
        for name, number in mapping.items():
            sums[name] = sums[name] + number if name in sums else number
    return dict(sorted(sums.items(), key=lambda item: -item[1]))


async def read_minutes(
    client: Client, prefix: str, provider: str, *, now: float, minutes: int
) -> list[tuple[int, Counts]]:
    """Return (start in Unix seconds, counts) of each of the last minutes in which something happened.

    The present minute is the last of them. `now` is Redis's clock in Unix seconds. Raises StoreError.
    """
    found = await _read(client, prefix, [provider], "minute", now, minutes)
    return found[provider]


async def read_hours(
    client: Client, prefix: str, provider: str, *, now: float, hours: int
) -> list[tuple[int, Counts]]:
    """The same for hours."""
    found = await _read(client, prefix, [provider], "hour", now, hours)
    return found[provider]


async def read_recent(
    client: Client, prefix: str, providers: Iterable[str], *, now: float, minutes: int
) -> dict[str, Counts]:
    """Return the sums of the last minutes, the present one included, by provider. Raises StoreError."""
    found = await _read(client, prefix, list(providers), "minute", now, minutes)
    return {provider: merged(counts for _, counts in windows) for provider, windows in found.items()}


async def read_rates(
    client: Client, prefix: str, providers: Iterable[str], *, now: float, minutes: int
) -> dict[str, list[tuple[int, Counts]]]:
    """Return the same for many lanes, with outcomes, `sent` and `allowed` only: a fraction of the work."""
    return await _read(client, prefix, list(providers), "minute", now, minutes, RATE_FIELDS)


async def _read(
    client: Client,
    prefix: str,
    providers: Sequence[str],
    unit: Unit,
    now: float,
    number: int,
    only: tuple[bytes, ...] = (),
) -> dict[str, list[tuple[int, Counts]]]:
    """`only` are the fields to read. Default: all."""
    step = SECONDS[unit]
    last = int(now) // step * step
    starts = [last - step * index for index in range(min(number, KEEP[unit] // step))][::-1]
    wanted = [
        (provider, start, LaneKeys.of(prefix, provider).statistics(unit, start))
        for provider in providers
        for start in starts
    ]
    found: dict[str, list[tuple[int, Counts]]] = {provider: [] for provider in providers}
    for first in range(0, len(wanted), _PAGE):
        page = wanted[first : first + _PAGE]
        # A window that cannot be read counts as one in which nothing happened.
        commands: list[Command] = [("HMGET", key, *only) if only else ("HGETALL", key) for _, _, key in page]
        replies, _ = await read_all(client, *commands)
        for (provider, start, _), fields in zip(page, replies, strict=True):
            known = _known(only, fields or ()) if only else fields
            if known:
                found[provider].append((start, decode(known)))
    return found


def _known(names: Sequence[bytes], values: Sequence[bytes | None]) -> dict[bytes, bytes]:
    """Return the fields that a hash has."""
    return {name: value for name, value in zip(names, values, strict=False) if value is not None}


def decode(fields: Mapping[bytes, bytes]) -> Counts:
    """Return the counts in the hash of one minute or hour. `record.lua` lists its fields."""
    maps: dict[str, dict[str, int]] = {kind: {} for kind in "osrhdq"}
    groups: dict[str, GroupCounts] = {}
    plain: dict[str, int] = {}
    for encoded, value in fields.items():
        kind, separator, name = encoded.decode("utf-8", "replace").partition(":")
        if separator and kind == "g":
            groups[name] = _group(value)
            continue
        try:
            number = int(value)
        except ValueError:
            continue
        if not separator:
            plain[kind] = number
        elif kind in maps:
            maps[kind][name] = number
    return Counts(
        outcomes=_largest_first(maps["o"]),
        statuses=_largest_first(maps["s"]),
        reasons=_largest_first(maps["r"]),
        delivery=_histogram(maps["d"]),
        request=_histogram(maps["q"]),
        held_seconds={state: milliseconds / 1000 for state, milliseconds in maps["h"].items()},
        sent=plain.get("sent", 0),
        allowed=plain.get("allowed", 0) / 1000,
        oldest_seconds=plain.get("oldest", 0) / 1000,
        backlog=plain.get("backlog", 0),
        groups=dict(sorted(groups.items(), key=lambda item: -item[1].attempts)),
    )


def _largest_first(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _histogram(fields: Mapping[str, int]) -> Histogram:
    buckets = {int(name): number for name, number in fields.items() if name.isdecimal()}
    return Histogram.of_buckets(buckets, fields.get("sum", 0) / 1_000_000)


def _group(value: bytes) -> GroupCounts:
    delivered, failed, *_ = (int(part) if part.isdigit() else 0 for part in [*value.split(), b"0", b"0"])
    return GroupCounts(delivered, failed)

"""The settings of lanes, without secrets, as the workers of a fleet publish them.

So `relay status` and the console show the settings that are in force, not those of the reader's file. The
hash has one field for each digest of a configuration, with all lanes and queues of that configuration.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from relay.errors import StoreError
from relay.redis_client.client import REDIS_ERRORS, Client, describe, execute
from relay.settings.models import QueueSettings, Settings
from relay.settings.options import GroupOptions, ProviderOptions
from relay.store.keys import FleetKeys

_HIDDEN = frozenset({"type", "rate", "groups"})
"""Options that have a field of their own in `LaneSettings`."""


class GroupSettings(msgspec.Struct, frozen=True, omit_defaults=True):
    """The limits of each group of a lane."""

    by: str = "message"
    rate: str = ""
    """Empty: unlimited."""
    options: dict[str, Any] = {}
    """The other options that differ from their defaults, by name."""


class LaneSettings(msgspec.Struct, frozen=True, omit_defaults=True):
    """The settings of one lane. Durations are in seconds."""

    type: str = ""
    """The adapter."""
    rate: str = ""
    """The configured rates, as an operator writes them; empty: unlimited."""
    per_second: float = 0.0
    """The lowest of the rates, in messages per second; 0: unlimited."""
    concurrency: int = 0
    order: str = "fifo"
    groups: GroupSettings | None = None
    options: dict[str, Any] = {}
    """The other options of all providers (`burst`, `retry`, `max_backlog`, …) that differ from their
    defaults. Options of adapters are not included, because they may hold secrets."""

    def rate_text(self, override: str = "") -> str:
        """The rates of the lane (or those of an operator) and of its groups, for people."""
        rates = [override or self.rate] if override or self.rate else []
        if self.groups is not None and self.groups.rate:
            rates += [f"{rate} a group" for rate in self.groups.rate.split(", ")]
        return ", ".join(rates) or "unlimited"

    @classmethod
    def of(cls, options: ProviderOptions) -> LaneSettings:
        """Return the public settings in the options of a provider."""
        rules, rates = options.group_rules, options.lane_rate
        return cls(
            type=options.type,
            rate=", ".join(map(str, rates)),
            per_second=min((rate.per_second for rate in rates), default=0.0),
            concurrency=options.concurrency,
            order=options.order,
            groups=None if rules is None else _groups(rules),
            options=_others(options, ProviderOptions, _HIDDEN | {"concurrency", "order"}),
        )


class PublishedQueue(msgspec.Struct, frozen=True, omit_defaults=True):
    """The settings of one queue."""

    provider: str = ""
    options: dict[str, Any] = {}
    """The other options that differ from their defaults, by name."""

    @classmethod
    def of(cls, queue: QueueSettings) -> PublishedQueue:
        return cls(queue.provider or "", _others(queue, QueueSettings, frozenset({"name", "provider"})))


class Published(msgspec.Struct, frozen=True):
    """The lanes and queues of one configuration."""

    at: float
    """The time at which a worker has published it last, in Unix seconds."""
    lanes: dict[str, LaneSettings] = {}
    queues: dict[str, PublishedQueue] = {}

    @classmethod
    def of(cls, settings: Settings) -> Published:
        return cls(
            0.0,
            {name: LaneSettings.of(options) for name, options in settings.providers.items()},
            {queue.name: PublishedQueue.of(queue) for queue in settings.queues},
        )


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """The published settings of a fleet, by digest."""

    published: Mapping[str, Published] = field(default_factory=dict)

    def in_force(self, digests: Mapping[str, float]) -> Published:
        """Return the lanes and queues of all configurations. The newest configuration wins.

        `digests` has the configurations of living workers, with the time of the last start. Others count as
        older than these.
        """
        lanes: dict[str, LaneSettings] = {}
        queues: dict[str, PublishedQueue] = {}
        order = sorted(self.published.items(), key=lambda entry: (digests.get(entry[0], 0.0), entry[1].at))
        for _, each in order:
            lanes |= each.lanes
            queues |= each.queues
        return Published(order[-1][1].at if order else 0.0, lanes, queues)

    def differing(self, digests: Iterable[str]) -> list[str]:
        """Return the providers whose lanes have different settings in these configurations."""
        seen: dict[str, LaneSettings] = {}
        differ: dict[str, None] = {}
        for digest in digests:
            for provider, lane in self.published.get(digest, NOTHING).lanes.items():
                if seen.setdefault(provider, lane) != lane:
                    differ[provider] = None
        return sorted(differ)


NOTHING = Published(0.0)
NO_SETTINGS = FleetSettings()

_decode = msgspec.json.Decoder(Published).decode


async def publish(client: Client, prefix: str, digest: str, published: Published) -> None:
    """Publish the settings of a worker under their digest. Raises StoreError."""
    encoded = msgspec.json.encode(msgspec.structs.replace(published, at=time.time()))
    try:
        await execute(client, "HSET", FleetKeys(prefix).lane_settings, digest, encoded)
    except REDIS_ERRORS as error:
        raise StoreError(f"lane settings: {describe(error)}") from error


async def read(client: Client, prefix: str) -> FleetSettings:
    """Return all published settings. Those that cannot be decoded are left out. Raises StoreError."""
    try:
        reply: Any = await execute(client, "HGETALL", FleetKeys(prefix).lane_settings)
    except REDIS_ERRORS as error:
        raise StoreError(f"lane settings: {describe(error)}") from error
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    found: dict[str, Published] = {}
    for digest, encoded in pairs:
        try:
            found[digest.decode("ascii")] = _decode(encoded)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue  # written by a newer version, or by another program
    return FleetSettings(found)


async def forget_unused(client: Client, prefix: str, used: Iterable[str], registered: Iterable[str]) -> None:
    """Delete the settings that no worker uses and that no registered lane needs. Raises StoreError.

    `used` has the digests of all known workers, `registered` the names of the lanes that exist.
    """
    published = (await read(client, prefix)).published
    kept = set(used)
    if not kept.intersection(published):
        return  # without workers, the newest settings are all that is known
    needed = set(registered)
    for digest in kept:
        needed -= published.get(digest, NOTHING).lanes.keys()
    unused = [
        digest
        for digest, each in published.items()
        if digest not in kept and not needed.intersection(each.lanes)
    ]
    if unused:
        try:
            await execute(client, "HDEL", FleetKeys(prefix).lane_settings, *unused)
        except REDIS_ERRORS as error:
            raise StoreError(f"lane settings: {describe(error)}") from error


def _groups(rules: GroupOptions) -> GroupSettings:
    return GroupSettings(
        by=rules.by or "message",
        rate=", ".join(map(str, rules.rate)),
        options=_others(rules, GroupOptions, frozenset({"by", "rate"})),
    )


def _others(
    options: ProviderOptions | GroupOptions | QueueSettings, model: type[Any], hidden: frozenset[str]
) -> dict[str, Any]:
    """Return the options that `model` declares and that differ from their defaults."""
    names = set(model.model_fields) - hidden
    found: dict[str, Any] = options.model_dump(mode="json", include=names, exclude_defaults=True)
    return found

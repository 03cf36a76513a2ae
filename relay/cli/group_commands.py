"""`relay pause` and `relay resume` of one group."""

from __future__ import annotations

from relay.cli import common
from relay.cli.pauses import a_pause
from relay.errors import UsageError
from relay.redis_client.client import Client
from relay.settings.formatting import near_miss
from relay.settings.models import Settings
from relay.store.fleet import Fleet
from relay.store.groups import read_group, read_groups
from relay.store.keys import LaneKeys
from relay.store.lane import Lane
from relay.text import quote

LONGEST_GROUP = 300
"""Characters of a group's name: hosts may be longer than the names that applications choose."""


def lane_of(client: Client, settings: Settings, provider: str) -> Lane:
    """Return a lane for an operator's commands, which claims nothing."""
    return Lane(client, settings.redis.prefix, provider, settings.providers[provider], worker="operator")


async def pause_group(
    settings: Settings, provider: str, group: str, seconds: float | None, because: str
) -> int:
    """Pause a group; returns how many of its messages wait. An idle group can be paused in advance.

    Raises UsageError if the lane has no groups.
    """
    _check_name(group)
    async with common.redis(settings) as client:
        fleet = Fleet(client, settings.redis.prefix)
        now = await fleet.now()
        status = await read_group(client, LaneKeys.of(settings.redis.prefix, provider), group, now)
        if settings.providers[provider].group_rules is None and not status.is_notable:
            raise UsageError(
                f"{provider} has no groups: set `providers.{provider}.groups` in {settings.path} first"
            )
        pause = a_pause(seconds, because, now)
        await lane_of(client, settings, provider).pause_group(group, pause.until, pause.by, pause.reason)
        # A pause that replaces a longer one ends earlier than workers expect.
        await fleet.wake([provider])
    return status.waiting


async def resume_group(settings: Settings, provider: str, group: str) -> bool:
    """Resume a group; returns whether it was held. Raises UsageError if nothing is known of it."""
    _check_name(group)
    async with common.redis(settings) as client:
        fleet = Fleet(client, settings.redis.prefix)
        now, keys = await fleet.now(), LaneKeys.of(settings.redis.prefix, provider)
        if not (await read_group(client, keys, group, now)).is_notable:
            known = [found.group for found in (await read_groups(client, keys, now)).found]
            hint = near_miss(group, known) or f"`relay status {provider}` lists the groups"
            raise UsageError(f"group {quote(group)} of {provider} has no messages and is not held; {hint}")
        was_held = await lane_of(client, settings, provider).resume_group(group)
        await fleet.wake([provider])
    return was_held


def _check_name(group: str) -> None:
    if not 0 < len(group) <= LONGEST_GROUP:
        raise UsageError(f"--group: a name has 1 to {LONGEST_GROUP} characters, this one has {len(group)}")

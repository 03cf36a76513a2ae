"""Tries everything that `relay run` needs on the real Redis. Read only."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import ResponseError

from relay.errors import StoreError
from relay.redis_client.client import REDIS_ERRORS, Client, describe, execute, is_refusal, is_unavailable
from relay.redis_client.topology import is_cluster
from relay.settings.models import Settings
from relay.store.findings import Facts, Finding, Level, judge, merge
from relay.store.fleet import LEASE, Fleet
from relay.store.keys import FleetKeys, LaneKeys, QueueKeys
from relay.store.overview import LaneStatus, Overview, QueueStatus, read_overview
from relay.store.registry import Names, known, unregister
from relay.store.rights import try_rights

SCANS, SCANNED = 50, 1000
"""Number of SCAN calls for other prefixes, and of keys per call: 50,000 keys at most."""


class Permitted(Enum):
    """The commands that may be tried. A refused one leaves a line in Redis's ACL LOG."""

    LEAST_RIGHTS = "only those that the documentation lists under least rights"
    ALL = "also CONFIG GET and SCAN"


async def examine(client: Client, settings: Settings, permitted: Permitted = Permitted.ALL) -> list[Finding]:
    """Return all findings about the Redis of these settings. Raises StoreError."""
    prefix = settings.redis.prefix
    servers = await examine_servers(client, permitted)
    if any(finding.subject in ("cluster", "loading") for finding in servers):
        # Keys may be on other nodes, or not loaded yet, so further findings could be wrong.
        return servers
    overview = await read_overview(client, settings)
    return [
        *servers,
        *await _scripts(client, prefix),
        *await try_rights(
            client,
            prefix,
            [queue.name for queue in settings.queues],
            settings.providers,
            urlsplit(settings.redis.url.get_secret_value()).username or "default",
        ),
        *await _types(client, settings),
        *unconfigured(overview),
        *(await _other_prefixes(client, prefix) if permitted is Permitted.ALL else ()),
    ]


async def delete_unused_names(client: Client, settings: Settings) -> None:
    """Delete the names of lanes and queues that are empty and that no worker serves. Raises StoreError."""
    abandoned = (await read_overview(client, settings)).abandoned
    if abandoned.lanes or abandoned.queues:
        await unregister(client, settings.redis.prefix, abandoned)


async def examine_servers(client: Client, permitted: Permitted) -> list[Finding]:
    """Return the findings about the servers: version, memory, persistence, clock, … Raises StoreError."""
    if not is_cluster(client):
        config = await _config(client) if permitted is Permitted.ALL else None
        return judge(Facts(await _info(client), config, await _clock(client)))
    clock = await _clock(client)
    try:
        by_node: dict[str, Any] = await client.info(target_nodes=RedisCluster.PRIMARIES)
    except ResponseError:
        return judge(Facts(None, None, clock, cluster=True))
    except REDIS_ERRORS as error:
        raise StoreError(describe(error)) from error
    if "redis_version" in by_node:  # a cluster of one node
        by_node = {"the node": by_node}
    return merge({node: judge(Facts(info, None, clock, cluster=True)) for node, info in by_node.items()})


async def _info(client: Redis) -> Mapping[str, Any] | None:
    try:
        return dict(await client.info())
    except ResponseError:
        return None
    except REDIS_ERRORS as error:
        raise StoreError(describe(error)) from error


async def _config(client: Any) -> Mapping[str, str] | None:
    found: dict[str, str] = {}
    try:
        for name in ("save", "timeout"):
            reply: Any = await client.execute_command("CONFIG GET", name)
            found |= {_text(key): _text(value) for key, value in reply.items()}
    except ResponseError:
        return None
    except REDIS_ERRORS as error:
        raise StoreError(describe(error)) from error
    return found


async def _clock(client: Client) -> float | None:
    """Return how far Redis's clock is ahead of ours; None if TIME is refused."""
    before = time.time()
    try:
        theirs = await Fleet(client, "").now()
    except StoreError as error:
        if is_refusal(error):
            return None
        raise
    return theirs - (before + time.time()) / 2


async def _scripts(client: Client, prefix: str) -> list[Finding]:
    """Check that a script runs. If the user may not run any, `try_rights` reports it."""
    key = FleetKeys(prefix).probe
    try:
        await execute(client, "EVAL", "return redis.call('EXISTS', KEYS[1])", 1, key)
    except ResponseError as error:
        if is_unavailable(error):
            return []
        return [Finding(Level.FAILED, "scripts", f"Redis runs no Lua script: {describe(error)}")]
    except REDIS_ERRORS as error:
        raise StoreError(describe(error)) from error
    return [Finding(Level.OK, "scripts", "Lua scripts run")]


async def _types(client: Client, settings: Settings) -> list[Finding]:
    """Check for keys with another type than relay needs."""
    prefix = settings.redis.prefix
    wanted = FleetKeys(prefix).types
    for queue in settings.queues:
        wanted |= QueueKeys.of(prefix, queue.name).types
    for provider in settings.providers:
        wanted |= LaneKeys.of(prefix, provider).types
    found: list[Finding] = []
    types = await _types_of(client, wanted)
    if None in types:
        text = (
            f"the types of {types.count(None)} keys could not be checked: this user may not run TYPE on them"
        )
        found.append(Finding(Level.UNKNOWN, "keys", text))
    for key, kind in zip(wanted, types, strict=True):
        if kind not in ("none", wanted[key], None):
            is_ours = key not in {queue.name for queue in settings.queues}
            text = f"{key} is a {kind} but must be a {wanted[key]}, so relay cannot use it: " + (
                "another program uses this name; RENAME or DEL the key, or choose another redis.prefix"
                if is_ours
                else "RENAME or DEL the key, and push with RPUSH"
            )
            found.append(Finding(Level.FAILED, "keys", text))
    return found or [Finding(Level.OK, "keys", "every key has the right type")]


async def _types_of(client: Client, keys: Iterable[str]) -> list[str | None]:
    """Return the type of each key; None if this user may not run TYPE."""
    try:
        async with client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.type(key)
            replies: list[Any] = await pipe.execute(raise_on_error=False)
    except REDIS_ERRORS as error:
        raise StoreError(describe(error)) from error
    return [None if isinstance(reply, Exception) else _text(reply) for reply in replies]


def unconfigured(overview: Overview) -> list[Finding]:
    """Find lanes and queues with messages that the file does not name."""
    return [
        *(_strange_lane(lane) for lane in overview.lanes if not (lane.configured or lane.is_empty)),
        *(_strange_queue(queue) for queue in overview.queues if not (queue.configured or queue.is_empty)),
    ]


def _strange_lane(lane: LaneStatus) -> Finding:
    holds = f"{lane.waiting} waiting, {lane.delayed} delayed, {lane.in_flight} in flight, {lane.dead} dead"
    return Finding(
        Level.WARNING,
        "lanes",
        f"provider {lane.provider} is not in the file, but holds messages ({lane.error or holds}): put it "
        f"back to send them, or look at `relay dead list {lane.provider}`",
    )


def _strange_queue(queue: QueueStatus) -> Finding:
    holds = f"{queue.waiting} waiting, {queue.taken} taken, {queue.rejected} dead"
    return Finding(
        Level.WARNING,
        "queues",
        f"queue {queue.name} is not in the file, but holds elements ({queue.error or holds}): put it back to "
        "send them",
    )


async def _other_prefixes(client: Client, prefix: str) -> list[Finding]:
    """Find prefixes with messages that no worker serves. Reads no more than 50,000 keys."""
    if is_cluster(client):
        return []
    found: dict[str, None] = {}
    cursor = 0
    try:
        for _ in range(SCANS):
            reply: Any = await client.scan(cursor, match="*:{fleet}:lanes", count=SCANNED)
            cursor, keys = reply
            found |= dict.fromkeys(_text(key).removesuffix(":{fleet}:lanes") for key in keys)
            if not cursor:
                break
        findings = [await _other_prefix(client, other) for other in sorted(found) if other != prefix]
    except ResponseError:
        return []  # a user with the least rights sees only its own keys
    except StoreError as error:
        if is_refusal(error):
            return []
        raise
    except REDIS_ERRORS as error:
        raise StoreError(describe(error)) from error
    return [finding for finding in findings if finding is not None]


async def _other_prefix(client: Redis, prefix: str) -> Finding | None:
    if any(member.silent <= LEASE for member in await Fleet(client, prefix).members()):
        return None
    names: Names = await known(client, prefix)
    async with client.pipeline(transaction=False) as pipe:
        for lane in names.lanes:
            pipe.hlen(LaneKeys.of(prefix, lane).part("bodies"))
        waiting = sum(await pipe.execute())
    if not waiting:
        return None
    return Finding(
        Level.WARNING,
        "prefix",
        f"{waiting} messages are stored under the prefix {prefix}, which no worker serves: if this file had "
        f"that `redis.prefix` before, run relay with `prefix: {prefix}` until they are gone",
    )


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

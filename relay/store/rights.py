"""Tries every command that `relay run` needs, with its keys, without running any.

Inside MULTI, Redis checks the user's rights, renamed commands, memory and role before it queues a command.
Then the connection is closed, and nothing has happened. ACL DRYRUN would need additional rights and Redis 7.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from redis import exceptions
from redis.asyncio import Redis

from relay.errors import StoreError
from relay.names import is_reserved
from relay.redis_client.client import REDIS_ERRORS, Client, describe
from relay.redis_client.topology import is_cluster
from relay.store.findings import Finding, Level
from relay.store.keys import FleetKeys, LaneKeys, QueueKeys

Command = tuple[str, ...]

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "GET": (),
    "SET": ("1",),
    "DEL": (),
    "EXISTS": (),
    "EXPIRE": ("1",),
    "TYPE": (),
    "LLEN": (),
    "LRANGE": ("0", "-1"),
    "LTRIM": ("0", "-1"),
    "LPOP": (),
    "RPOP": (),
    "LPUSH": ("1",),
    "RPUSH": ("1",),
    "HGET": ("1",),
    "HSET": ("1", "1"),
    "HSETNX": ("1", "1"),
    "HDEL": ("1",),
    "HLEN": (),
    "HMGET": ("1",),
    "HKEYS": (),
    "HGETALL": (),
    "HEXISTS": ("1",),
    "HSCAN": ("0",),
    "HINCRBY": ("1", "1"),
    "ZADD": ("1", "1"),
    "ZCARD": (),
    "ZCOUNT": ("0", "1"),
    "ZLEXCOUNT": ("-", "+"),
    "ZRANDMEMBER": ("1",),
    "ZRANGE": ("0", "1"),
    "ZRANGEBYLEX": ("-", "+"),
    "ZRANGEBYSCORE": ("0", "1"),
    "ZREVRANGEBYLEX": ("+", "-"),
    "ZREM": ("1",),
    "ZREMRANGEBYRANK": ("0", "0"),
    "ZREMRANGEBYSCORE": ("0", "0"),
    "ZSCORE": ("1",),
    "XADD": ("*", "1", "1"),
    "XDEL": ("1-1",),
    "XLEN": (),
    "XRANGE": ("-", "+"),
    "XREVRANGE": ("+", "-"),
    "XTRIM": ("MAXLEN", "1"),
}
"""Each command with a key of relay, and with arguments that Redis accepts after the key."""

OPTIONAL = ("SORT", "MEMORY")
"""Commands of scripts that relay does without if the user may not run them."""

_OF_QUEUES = ("LLEN", "LRANGE", "LTRIM", "LPOP", "LPUSH", "RPUSH")
"""The commands on the applications' lists, besides BLMOVE."""


def needed(prefix: str, queues: Iterable[str], lanes: Iterable[str]) -> Iterator[tuple[str, Command]]:
    """Yield each command with the key that determines its node."""
    fleet = FleetKeys(prefix)
    for name, arguments in COMMANDS.items():
        yield fleet.probe, (name, fleet.probe, *arguments)
    yield fleet.probe, ("EVAL", "return 1", "1", fleet.probe)
    yield fleet.probe, ("EVALSHA", "0" * 40, "1", fleet.probe)
    yield fleet.probe, ("TIME",)
    yield fleet.probe, ("PUBLISH", fleet.wake, "")
    yield fleet.probe, ("SUBSCRIBE", fleet.wake)
    yield fleet.feedback, ("XADD", fleet.feedback, "*", "1", "1")
    for lane in lanes:
        control = LaneKeys.of(prefix, lane).part("control")
        yield control, ("HMGET", control, "1")
        yield control, ("HSET", control, "1", "1")
    for queue in queues:
        staged = QueueKeys.of(prefix, queue).staged
        for name in _OF_QUEUES:
            yield queue, (name, queue, *COMMANDS[name])
        yield queue, ("RPUSH", staged, "1")
        yield queue, ("BLMOVE", queue, staged, "LEFT", "RIGHT", "1")


async def try_rights(
    client: Client, prefix: str, queues: Iterable[str], lanes: Iterable[str], user: str
) -> list[Finding]:
    """Return a finding for each command that Redis would refuse, or one that all are allowed. Raises
    StoreError."""
    commands = list(needed(prefix, queues, lanes))
    refused: list[tuple[Command, Exception]] = []
    try:
        if not is_cluster(client):
            refused += await _try_on_one(client, [command for _, command in commands])
        else:
            await client.initialize()
            by_node: dict[Any, list[Command]] = {}
            for key, command in commands:
                by_node.setdefault(client.get_node_from_key(key), []).append(command)
            for node, its_commands in by_node.items():
                connection = node.acquire_connection()
                try:
                    await node.disconnect_if_needed(connection)
                    refused += await _try_over(connection, its_commands)
                finally:
                    node.release(connection)
    except REDIS_ERRORS as error:
        raise StoreError(f"rights: {describe(error)}") from error
    return judge_rights(refused, user, prefix)


async def _try_on_one(client: Redis, commands: Sequence[Command]) -> list[tuple[Command, Exception]]:
    pool: Any = client.connection_pool
    connection = await pool.get_connection()
    try:
        return await _try_over(connection, commands)
    finally:
        await pool.release(connection)


async def _try_over(connection: Any, commands: Sequence[Command]) -> list[tuple[Command, Exception]]:
    """Return the refusals. The connection is closed, so that nothing of the transaction remains."""
    try:
        await connection.send_command("MULTI")
        try:
            await connection.read_response()
        except exceptions.ResponseError as error:
            # Outside a transaction the commands would run.
            return [(("MULTI",), error)]
        await connection.send_packed_command(connection.pack_commands(commands))
        refused: list[tuple[Command, Exception]] = []
        for command in commands:
            try:
                await connection.read_response()
            except (exceptions.ResponseError, exceptions.BusyLoadingError) as error:
                refused.append((command, error))
        return refused
    finally:
        await connection.disconnect(nowait=True)


def judge_rights(refused: Iterable[tuple[Command, Exception]], user: str, prefix: str) -> list[Finding]:
    """Group the refusals by cause, each with the remedy."""
    commands, keys, channels, unknown = (dict[str, None]() for _ in range(4))
    others: dict[str, None] = {}
    for words, error in refused:
        text = describe(error)
        if isinstance(error, exceptions.NoPermissionError):
            if " to run " in text:
                commands[words[0]] = None
            elif "channel" in text:
                channels[words[1]] = None
            else:
                keys |= dict.fromkeys(_keys(words))
        elif "unknown command" in text:
            unknown[words[0]] = None
        elif (advice := _advice(error, text)) is not None:
            others[advice] = None
    found = [Finding(Level.FAILED, "writes", advice) for advice in others]
    if unknown:
        names = ", ".join(unknown)
        found.append(
            Finding(
                Level.FAILED,
                "commands",
                f"Redis has no command {names}: remove the `rename-command` lines from its configuration",
            )
        )
    if commands or keys or channels:
        patterns = dict.fromkeys(f"{prefix}:*" if is_reserved(prefix, key) else key for key in keys)
        rules = [
            *(f"+{name.lower()}" for name in commands),
            *(f"'~{pattern}'" for pattern in patterns),
            *(f"'&{channel}'" for channel in channels),
        ]
        lacks = [
            f"the commands {', '.join(commands)}" if commands else "",
            f"the keys {', '.join(patterns)}" if keys else "",
            f"the channel {', '.join(channels)}" if channels else "",
        ]
        found.append(
            Finding(
                Level.FAILED,
                "rights",
                f"the user {user} has no right to {' and '.join(filter(None, lacks))}: "
                f"ACL SETUSER {user} {' '.join(rules)}",
            )
        )
    return found or [Finding(Level.OK, "rights", f"the user {user} has all rights that relay needs")]


def _keys(words: Command) -> tuple[str, ...]:
    """Return the keys of one of the commands."""
    match words[0]:
        case "EVAL" | "EVALSHA":
            return (words[3],)
        case "BLMOVE":
            return ()  # other commands try each of its keys
        case _:
            return words[1:2]


def _advice(error: Exception, text: str) -> str | None:
    """Return advice about an error that affects all writes; None for other errors."""
    match error:
        case exceptions.OutOfMemoryError():
            return "Redis is at its maxmemory and refuses writes (OOM): raise maxmemory"
        case exceptions.BusyLoadingError():
            return "Redis is still loading its data (LOADING): wait for it"
        case exceptions.ReadOnlyError():
            return "this is a replica, which accepts no writes (READONLY): put the master into redis.url"
    for code, advice in _CODES.items():
        if text.startswith(code):
            return advice
    return None


_CODES = {
    "MISCONF": "Redis refuses writes because it cannot save to disk (MISCONF): free space there, see its log",
    "NOREPLICAS": "Redis refuses writes because too few replicas follow (NOREPLICAS): bring them back, or "
    "lower min-replicas-to-write",
    "MASTERDOWN": "this is a replica that has lost its master (MASTERDOWN): put the master into redis.url",
    "BUSY": "a script keeps Redis busy (BUSY): end it with SCRIPT KILL",
    "CLUSTERDOWN": "the cluster is down (CLUSTERDOWN): CLUSTER INFO shows why",
}

"""From the `redis.url` of the configuration to a client that is ready for use."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff

from relay.errors import StoreError, UsageError
from relay.settings.words import mask_url
from relay.store.embedded import EmbeddedRedis
from relay.store.scripting import TROUBLE, Client, channel_of, describe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

OLDEST = (6, 2)
"""The first Redis that has BLMOVE and LPOP with a count."""

ANSWER_TIMEOUT = 15.0
"""Seconds without an answer after which a connection is given up; beyond each blocking wait."""

CONNECT_TIMEOUT = 5.0

CONNECTIONS = 10_000
"""Connections that a worker may open: each queue's wait for elements needs one of its own."""

# What is retried, and how, is decided by the loops: a repeated claim would be a second claim.
_OPTIONS: dict[str, Any] = {
    "socket_timeout": ANSWER_TIMEOUT,
    "socket_connect_timeout": CONNECT_TIMEOUT,
    "retry": Retry(NoBackoff(), 0),
    "max_connections": CONNECTIONS,
    "protocol": 2,
    # Needs a right more than the work does.
    "driver_info": None,
}

_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TLS = (*_FILES, "ssl_cert_reqs", "ssl_check_hostname", "ssl_ciphers")
_CERT_REQS = ("required", "optional", "none")


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[Client]:
    """A client for `url`, checked by one round trip; an embedded server lives as long as it does.

    Raises StoreError where Redis cannot be reached, UsageError where it is too old.
    """
    async with embedded(url) as real_url:
        client = open_client(real_url)
        try:
            await _check(client, real_url)
            yield client
        finally:
            await _close(client)


@asynccontextmanager
async def embedded(url: str) -> AsyncIterator[str]:
    """Runs the server of an `embedded://DIR` and gives its URL; gives any other URL back as it is."""
    if not url.startswith("embedded://"):
        yield url
        return
    async with EmbeddedRedis(Path(url.removeprefix("embedded://"))) as server:
        yield server.url


def open_client(url: str) -> Client:
    """A client for any of the schemes, not connected yet. Raises UsageError for a malformed URL."""
    parts = urlsplit(url)
    scheme, _, kind = parts.scheme.partition("+")
    options = _query(url, kind, tls=scheme == "rediss")
    try:
        if kind == "sentinel":
            return _sentinel(url, options, tls=scheme == "rediss")
        if kind == "cluster":
            return _cluster(url, options, tls=scheme == "rediss")
        return Redis.from_url(url.partition("?")[0], **{**_OPTIONS, **options})
    except ValueError as error:
        raise UsageError(f"redis.url: {error}") from error


def _query(url: str, kind: str, *, tls: bool) -> dict[str, Any]:
    """The options behind the `?` of a URL, typed. Raises UsageError for what is unknown or cannot work."""
    allowed = ("client_name", *(_TLS if tls else ()))
    if kind == "sentinel":
        allowed += ("sentinel_username", "sentinel_password")
    if not kind:
        allowed += ("db",)
    options: dict[str, Any] = {}
    for name, value in parse_qsl(urlsplit(url).query, keep_blank_values=True):
        if name in _TLS and not tls:
            raise UsageError(f"redis.url: {name} needs TLS: write rediss in place of redis")
        if name not in allowed:
            raise UsageError(f"redis.url: unknown option {name}; allowed are {', '.join(allowed)}")
        options[name] = _typed(name, value)
    return options


def _typed(name: str, value: str) -> str | int | bool:
    if name in _FILES and not os.access(value, os.R_OK):
        raise UsageError(f"redis.url: {name}: cannot read the file {value}")
    if name == "ssl_cert_reqs" and value not in _CERT_REQS:
        raise UsageError(f"redis.url: {name}: write one of {', '.join(_CERT_REQS)}")
    if name == "ssl_check_hostname":
        if value not in ("true", "false"):
            raise UsageError(f"redis.url: {name}: write true or false")
        return value == "true"
    if name == "db":
        if not value.isdecimal():
            raise UsageError("redis.url: db: write the number of a database")
        return int(value)
    return value


def _nodes(netloc: str, port: int) -> list[tuple[str, int]]:
    nodes = []
    for node in netloc.rpartition("@")[2].split(","):
        host, _, number = node.rpartition(":") if ":" in node.rpartition("]")[2] else (node, "", "")
        nodes.append((host.strip("[]"), int(number or port)))
    return nodes


def _credentials(netloc: str) -> dict[str, Any]:
    user, _, password = netloc.rpartition("@")[0].partition(":")
    found = {"username": unquote(user), "password": unquote(password)}
    return {name: value for name, value in found.items() if value}


def _sentinel(url: str, options: dict[str, Any], *, tls: bool) -> Client:
    parts = urlsplit(url)
    name, _, database = parts.path.lstrip("/").partition("/")
    if not name:
        raise UsageError(
            "redis.url: write redis+sentinel://host:port,host:port/NAME/0 with the master's NAME"
        )
    prefix = "sentinel_"
    of_sentinels = {
        key.removeprefix(prefix): options.pop(key) for key in [*options] if key.startswith(prefix)
    }
    certificates = {key: value for key, value in options.items() if key in _TLS}
    sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
        _nodes(parts.netloc, 26379),
        # The next sentinel is asked at once where one does not answer.
        sentinel_kwargs={
            **_OPTIONS,
            "socket_timeout": CONNECT_TIMEOUT,
            "ssl": tls,
            **certificates,
            **of_sentinels,
        },
        ssl=tls,
    )
    client: Redis = sentinel.master_for(
        name, db=int(database or 0), **_credentials(parts.netloc), **_OPTIONS, **options
    )
    return client


def _cluster(url: str, options: dict[str, Any], *, tls: bool) -> Client:
    parts = urlsplit(url)
    if parts.path.strip("/") not in ("", "0"):
        raise UsageError("redis.url: a cluster has database 0 alone; leave the number out")
    nodes = [ClusterNode(host, port) for host, port in _nodes(parts.netloc, 6379)]
    return RedisCluster(startup_nodes=nodes, ssl=tls, **_credentials(parts.netloc), **_OPTIONS, **options)


async def drop_connections(client: Client) -> None:
    """Close every connection, also those that wait for an answer: these calls fail, the next ones connect
    anew, to where the URL leads by then."""
    if isinstance(client, Redis):
        await client.connection_pool.disconnect()
    else:
        await client.aclose()


async def follow_master(client: Client) -> bool:
    """Where Sentinel names another master than the one we talk to: drop the connections, and return True.

    An old master that cannot be reached any more resets nothing; its connections would be waited for.
    """
    pool = client.connection_pool if isinstance(client, Redis) else None
    if not isinstance(pool, SentinelConnectionPool) or pool.master_address is None:
        return False
    before = pool.master_address
    try:
        moved = bool(await pool.get_master_address() != before)  # type: ignore[no-untyped-call]
    except TROUBLE:
        return False
    if moved:
        await drop_connections(client)
    return moved


async def _close(client: Client) -> None:
    if isinstance(client, Redis):
        await channel_of(client).close()
    await client.aclose()
    pool = client.connection_pool if isinstance(client, Redis) else None
    if isinstance(pool, SentinelConnectionPool):
        await pool.sentinel_manager.aclose()


async def _check(client: Client, url: str) -> None:
    try:
        info = await client.info("server")
    except TROUBLE as error:
        raise StoreError(f"cannot reach Redis at {mask_url(url)}: {describe(error)}") from error
    if "redis_version" not in info:  # a cluster answers by node
        info = next(iter(info.values()))
    version = tuple(int(part) for part in str(info["redis_version"]).split(".")[:2])
    if version < OLDEST:
        raise UsageError(
            f"Redis {info['redis_version']} at {mask_url(url)} is too old: relay needs 6.2 or later"
        )

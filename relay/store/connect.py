"""From the `redis.url` of the configuration to a client that is ready for use."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from relay.errors import StoreError, UsageError
from relay.store.embedded import EmbeddedRedis
from relay.store.scripting import TROUBLE, Client, describe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

OLDEST = (6, 2)
"""The first Redis that has BLMOVE and LPOP with a count."""

ANSWER_TIMEOUT = 15.0
"""Seconds without an answer after which a connection is given up; beyond each blocking wait."""

CONNECT_TIMEOUT = 5.0

# What is retried, and how, is decided by the loops: a repeated claim would be a second claim.
_OPTIONS: dict[str, Any] = {
    "socket_timeout": ANSWER_TIMEOUT,
    "socket_connect_timeout": CONNECT_TIMEOUT,
    "retry": Retry(NoBackoff(), 0),
    "protocol": 2,
}


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
            await client.aclose()


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
    try:
        if kind == "sentinel":
            return _sentinel(url, tls=scheme == "rediss")
        if kind == "cluster":
            return _cluster(url, tls=scheme == "rediss")
        return Redis.from_url(url, **_OPTIONS)
    except ValueError as error:
        raise UsageError(f"redis.url: {error}") from error


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


def _sentinel(url: str, *, tls: bool) -> Client:
    parts = urlsplit(url)
    name, _, database = parts.path.lstrip("/").partition("/")
    if not name:
        raise UsageError(
            "redis.url: write redis+sentinel://host:port,host:port/NAME/0 with the master's NAME"
        )
    query = dict(parse_qsl(parts.query))
    sentinel_options = {
        key.removeprefix("sentinel_"): value for key, value in query.items() if key.startswith("sentinel_")
    }
    sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
        _nodes(parts.netloc, 26379),
        sentinel_kwargs={"socket_timeout": CONNECT_TIMEOUT, "ssl": tls, **sentinel_options},
        ssl=tls,
    )
    client: Redis = sentinel.master_for(name, db=int(database or 0), **_credentials(parts.netloc), **_OPTIONS)
    return client


def _cluster(url: str, *, tls: bool) -> Client:
    parts = urlsplit(url)
    nodes = [ClusterNode(host, port) for host, port in _nodes(parts.netloc, 6379)]
    return RedisCluster(
        startup_nodes=nodes,
        ssl=tls,
        **_credentials(parts.netloc),
        **{name: value for name, value in _OPTIONS.items() if name != "retry"},
    )


async def _check(client: Client, url: str) -> None:
    try:
        info = await client.info("server")
    except TROUBLE as error:
        raise StoreError(f"cannot reach Redis at {redact(url)}: {describe(error)}") from error
    if "redis_version" not in info:  # a cluster answers by node
        info = next(iter(info.values()))
    version = tuple(int(part) for part in str(info["redis_version"]).split(".")[:2])
    if version < OLDEST:
        raise UsageError(
            f"Redis {info['redis_version']} at {redact(url)} is too old: relay needs 6.2 or later"
        )


def redact(url: str) -> str:
    """The URL without its password."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    user = parts.netloc.rpartition("@")[0].partition(":")[0]
    return url.replace(parts.netloc, f"{user}:***@{parts.netloc.rpartition('@')[2]}", 1)

"""Turns `redis.url` of the configuration into a client that is ready for use."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    MasterNotFoundError,
    SentinelManagedSSLConnection,
)
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from relay.errors import StoreError, UsageError
from relay.redis_client.binaries import OLDEST
from relay.redis_client.client import REDIS_ERRORS, Client, channel_of, describe, is_unavailable
from relay.redis_client.credentials import ReadUrl, SentinelTlsConnection, TlsConnection, UrlCredentials
from relay.redis_client.embedded import EmbeddedRedis
from relay.redis_client.topology import Topology, is_cluster
from relay.settings.redis_url import CERTIFICATES, EMBEDDED, TLS, EmbeddedPlace, split_url, url_options
from relay.text import mask_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ANSWER_TIMEOUT = 15.0
"""Seconds without an answer after which a connection is closed, in addition to any blocking wait."""

CONNECT_TIMEOUT = 5.0

CONNECTIONS = 10_000
"""Connections that a worker may open: the wait for elements of each queue needs its own."""

# The loops decide about retries, because a repeated claim would be a second claim.
_OPTIONS: dict[str, Any] = {
    "socket_timeout": ANSWER_TIMEOUT,
    "socket_connect_timeout": CONNECT_TIMEOUT,
    "retry": Retry(NoBackoff(), 0),
    "max_connections": CONNECTIONS,
    "protocol": 2,
    # It needs a right that the work itself does not need.
    "driver_info": None,
}


@asynccontextmanager
async def connect(url: str, read_url: ReadUrl | None = None) -> AsyncIterator[Client]:
    """Yield a client for `url`, checked by one round trip. An embedded server lives as long as the client.

    `read_url`: see `open_client`. Raises StoreError if Redis cannot be reached, UsageError if it is too old.
    """
    async with embedded(url) as real_url:
        client = open_client(real_url, read_url)
        try:
            await _check(client, real_url)
            yield client
        finally:
            await _close(client)


@asynccontextmanager
async def embedded(url: str) -> AsyncIterator[str]:
    """Run the server of an `embedded://DIR` and yield its URL. Any other URL is yielded unchanged."""
    if not url.startswith(EMBEDDED):
        yield url
        return
    async with EmbeddedRedis(EmbeddedPlace.of(url)) as server:
        yield server.url


def open_client(url: str, read_url: ReadUrl | None = None) -> Client:
    """Return a client for any of the schemes, not connected yet. Raises UsageError for a malformed URL.

    `read_url` returns the current URL: each new connection takes user and password from it, and reads the
    certificates again. Address and options stay those of `url`.
    """
    parts = split_url(url)
    scheme, _, kind = parts.scheme.partition("+")
    try:
        options = dict(url_options(url))
        for name in CERTIFICATES:
            if name in options and not os.access(options[name], os.R_OK):
                raise ValueError(f"{name}: cannot read the file {options[name]}")
        if scheme == "rediss":
            options = {"ssl_cert_reqs": "required", "ssl_check_hostname": True, **options}
        credentials = {"credential_provider": UrlCredentials(read_url or (lambda: url))}
        options = {**_OPTIONS, **credentials, **options}
        if kind == "sentinel":
            return _sentinel(url, options, tls=scheme == "rediss")
        if kind == "cluster":
            return _cluster(url, options, tls=scheme == "rediss")
        return _one(url, options)
    except ValueError as error:
        raise UsageError(f"redis.url: {error}") from error


def _one(url: str, options: dict[str, Any]) -> Redis:
    # The client accepts credentials from the URL or from the provider, not from both.
    scheme, _, rest = url.partition("?")[0].partition("://")
    authority, slash, path = rest.partition("/")
    client = Redis.from_url(f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}", **options)
    _read_certificates_again(client)
    return client


def _nodes(netloc: str, port: int) -> list[tuple[str, int]]:
    nodes = []
    for node in netloc.rpartition("@")[2].split(","):
        host, _, number = node.rpartition(":") if ":" in node.rpartition("]")[2] else (node, "", "")
        nodes.append((host.strip("[]"), int(number or port)))
    return nodes


def _sentinel(url: str, options: dict[str, Any], *, tls: bool) -> Client:
    parts = split_url(url)
    name, _, database = parts.path.lstrip("/").partition("/")
    if not name:
        raise ValueError("write redis+sentinel://host:port,host:port/NAME/0 with the master's NAME")
    prefix = "sentinel_"
    of_sentinels = {
        key.removeprefix(prefix): options.pop(key) for key in [*options] if key.startswith(prefix)
    }
    certificates = {key: value for key, value in options.items() if key in TLS}
    sentinel: Any = Sentinel(
        _nodes(parts.netloc, 26379),
        # If a sentinel does not answer, try the next one immediately.
        sentinel_kwargs={
            **_OPTIONS,
            "socket_timeout": CONNECT_TIMEOUT,
            "ssl": tls,
            **certificates,
            **of_sentinels,
        },
        ssl=tls,
    )
    client: Redis = sentinel.master_for(name, db=int(database or 0), **options)
    for each in (client, *sentinel.sentinels):
        _read_certificates_again(each)
    return client


def _cluster(url: str, options: dict[str, Any], *, tls: bool) -> Client:
    parts = split_url(url)
    if parts.path.strip("/") not in ("", "0"):
        raise ValueError("a cluster has only database 0; leave the number out")
    nodes = [ClusterNode(host, port) for host, port in _nodes(parts.netloc, 6379)]
    client = RedisCluster(startup_nodes=nodes, ssl=tls, **options)
    if tls:
        client.connection_kwargs["connection_class"] = TlsConnection
        for node in client.startup_nodes:
            node.connection_class = TlsConnection
    return client


def _read_certificates_again(client: Redis) -> None:
    """Make every new connection of this client read the certificates from their files."""
    pool = client.connection_pool
    if issubclass(pool.connection_class, SentinelManagedSSLConnection):
        pool.connection_class = SentinelTlsConnection
    elif issubclass(pool.connection_class, SSLConnection):
        pool.connection_class = TlsConnection


async def drop_connections(client: Client) -> None:
    """Close every connection, including those that wait for an answer: these calls fail, and new connections
    resolve the URL again."""
    if is_cluster(client):
        await client.aclose()
    else:
        await client.connection_pool.disconnect()


async def follow_master(client: Client) -> bool:
    """Drop all connections if Sentinel names another master than the connected one. Returns whether it did.

    A master that can no longer be reached resets no connection, so calls would wait for it.
    """
    pool = Topology.of(client).sentinel
    if pool is None or pool.master_address is None:
        return False
    before = pool.master_address
    try:
        moved = bool(await pool.get_master_address() != before)
    except REDIS_ERRORS:
        return False
    if moved:
        await drop_connections(client)
    return moved


async def _close(client: Client) -> None:
    topology = Topology.of(client)
    if topology.one is not None:
        await channel_of(topology.one).close()
    await client.aclose()
    if topology.sentinel is not None:
        await topology.sentinel.sentinel_manager.aclose()


async def _check(client: Client, url: str) -> None:
    try:
        info = await client.info("server")
    except ResponseError as error:
        if is_unavailable(error):
            return  # many hosted services do not allow INFO
        raise StoreError(f"cannot reach Redis at {mask_url(url)}: {describe(error)}") from error
    except REDIS_ERRORS as error:
        if "Cluster mode is not enabled" in str(error):
            raise UsageError(
                f"redis.url: Redis at {mask_url(url)} is not a cluster; "
                f"write {url.partition('+')[0]}:// instead"
            ) from error
        raise StoreError(f"cannot reach Redis at {mask_url(url)}: {_explained(error)}") from error
    if "redis_version" not in info:  # a cluster answers per node
        info = next(iter(info.values()))
    version = tuple(int(part) for part in str(info["redis_version"]).split(".")[:2])
    if version < OLDEST:
        raise UsageError(
            f"Redis {info['redis_version']} at {mask_url(url)} is too old: relay needs 6.2 or later"
        )


def _explained(error: Exception) -> str:
    if isinstance(error, MasterNotFoundError):
        return (
            f"{describe(error)}: the sentinels that answer have no master of this name; "
            "`SENTINEL MASTERS` lists them"
        )
    return describe(error)

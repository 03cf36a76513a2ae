"""Runs transactions of adapters whose provider is a Redis: many in one pipeline, each with its own result.

redis-py's pipelines forget all replies when a connection breaks, and on a cluster they allow one slot per
transaction and no PUBLISH in it. So replies are read one by one here, and a transaction that has certainly
run is not sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redis import exceptions
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode

from relay.errors import UsageError
from relay.provider.redis import Answer, RedisProvider, Refused, Replied, Transaction, Unanswered
from relay.redis_client.client import REDIS_ERRORS, Client, describe, raise_if_cancelled
from relay.redis_client.connect import _close as close_client
from relay.redis_client.connect import open_client
from relay.redis_client.topology import is_cluster
from relay.settings.options import ProviderOptions

PIPELINES = 16
"""Pipelines in flight to one Redis, per process. Redis runs them one after the other anyway."""

REDIRECTIONS = 3
"""The number of times that a transaction is sent to another node, because its slot has moved."""

_CODES: Mapping[type[Exception], str] = {
    exceptions.AskError: "ASK",
    exceptions.AuthenticationError: "NOAUTH",
    exceptions.AuthenticationWrongNumberOfArgsError: "NOAUTH",
    exceptions.AuthorizationError: "NOAUTH",
    exceptions.BusyLoadingError: "LOADING",
    exceptions.ClusterDownError: "CLUSTERDOWN",
    exceptions.ExecAbortError: "EXECABORT",
    exceptions.MasterDownError: "MASTERDOWN",
    exceptions.MovedError: "MOVED",
    exceptions.NoPermissionError: "NOPERM",
    exceptions.OutOfMemoryError: "OOM",
    exceptions.ReadOnlyError: "READONLY",
    exceptions.TryAgainError: "TRYAGAIN",
}
"""Errors whose code redis-py removes from their text."""

_REFUSED = (exceptions.ResponseError, exceptions.AuthenticationError, exceptions.BusyLoadingError)


@asynccontextmanager
async def linked(provider: RedisProvider[ProviderOptions], own: Client | None) -> AsyncIterator[Transactions]:
    """Return the connections of one provider. `own` is relay's client, for providers without a `url`.

    Raises UsageError if the URL cannot be used, or if relay's own Redis is needed and not available.
    """
    url = provider.redis_url
    if url is None:
        if own is None:
            raise UsageError("relay's own Redis cannot be reached")
        yield Transactions(own, provider.options.timeout)
        return
    try:
        client = open_client(url)
    except UsageError as error:
        text = str(error).removeprefix("redis.url: ")
        raise UsageError(f"providers.{provider.name}.url: {text}") from error
    try:
        yield Transactions(client, provider.options.timeout)
    finally:
        await close_client(client)


class Transactions:
    """Pipelines of transactions to one Redis, with any topology."""

    def __init__(self, client: Client, timeout: float) -> None:
        """`timeout` (seconds) is for a whole pipeline, including connecting."""
        self._client = client
        self._timeout = timeout
        self._slots = asyncio.Semaphore(PIPELINES)
        self._doubtful = False

    async def run(self, transactions: Sequence[Transaction]) -> Sequence[Answer]:
        """Return one answer for each transaction, in the same order. A transaction is sent again only if
        Redis ran nothing of it."""
        run = _Run(transactions, f"no answer within {self._timeout:g} s")
        try:
            async with asyncio.timeout(self._timeout), self._slots:
                if is_cluster(self._client):
                    await self._run_on_cluster(self._client, run)
                else:
                    await self._run_on_one(self._client, run)
        except TimeoutError:
            # A frozen node breaks no connection, and another one may have its slots by now.
            self._doubtful = True
        return run.answers

    async def greet(self) -> str:
        """Send a PING and describe the server."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._client.ping()
        except TimeoutError:
            raise UsageError(f"Redis gave no answer within {self._timeout:g} s") from None
        except REDIS_ERRORS as error:
            raise UsageError(f"cannot use Redis: {describe(error)}") from error
        return "Redis answers; nothing was published"

    async def _run_on_one(self, client: Redis, run: _Run) -> None:
        everything = range(len(run.transactions))
        pool: Any = client.connection_pool
        try:
            connection = await pool.get_connection()
        except REDIS_ERRORS as error:
            run.fail(everything, error)
            return
        try:
            await run.over(connection, everything)
            if run.is_stale():
                # The node may have become a replica, and its name may lead to another master by now.
                await connection.disconnect(nowait=True)
        finally:
            await pool.release(connection)

    async def _run_on_cluster(self, cluster: RedisCluster, run: _Run) -> None:
        left: Sequence[int] = range(len(run.transactions))
        if self._doubtful:
            await self._look_again(cluster)
        for _ in range(REDIRECTIONS):
            try:
                await cluster.initialize()
                by_node = _by_node(cluster, run, left)
            except REDIS_ERRORS as error:
                run.fail(left, error)
                return
            async with asyncio.TaskGroup() as group:
                for (node, asking), numbers in by_node.items():
                    group.create_task(_run_on_node(node, run, numbers, asking=asking))
            moved = run.redirected()
            if run.is_stale():
                await self._look_again(cluster)
            if not moved:
                return
            left = moved

    async def _look_again(self, cluster: RedisCluster) -> None:
        """Load the slots of the cluster again. An error is left to the next run."""
        try:
            await cluster.nodes_manager.initialize()
        except REDIS_ERRORS:
            return
        self._doubtful = False


class _Run:
    """Transactions to send, and their answers; None until there is one."""

    def __init__(self, transactions: Sequence[Transaction], reason: str) -> None:
        self.transactions = transactions
        self.answers: list[Answer] = [Unanswered(reason)] * len(transactions)
        self.redirects: dict[int, tuple[str, int]] = {}
        """Host and port for the next attempt of a transaction, used once (ASK)."""
        self._moved: list[int] = []
        self._stale = False

    async def over(self, connection: Any, numbers: Sequence[int], *, asking: bool = False) -> None:
        """Send these transactions over a connection and read the replies. Without a reply they stay
        unanswered."""
        commands: list[tuple[Any, ...]] = []
        for number in numbers:
            commands += _framed(self.transactions[number], asking=asking)
        complete = False
        done = 0
        try:
            await connection.send_packed_command(connection.pack_commands(commands))
            raise_if_cancelled()
            for number in numbers:
                self._note(number, await _answers(connection, self.transactions[number], asking=asking))
                done += 1
            complete = True
        except REDIS_ERRORS as error:
            self.fail(numbers[done:], error)
        finally:
            if not complete:
                # Late replies must not be taken for replies to other commands.
                await connection.disconnect(nowait=True)

    def fail(self, numbers: Sequence[int], error: Exception) -> None:
        """Mark these transactions as unanswered or failed."""
        self._stale = True
        answer = _failure(error)
        for number in numbers:
            self.answers[number] = answer

    def redirected(self) -> Sequence[int]:
        """Return the transactions that must be sent to another node, and reset them."""
        moved, self._moved = self._moved, []
        return moved

    def is_stale(self) -> bool:
        """Return whether the cluster may have changed since its nodes were read."""
        stale, self._stale = self._stale, False
        return stale

    def _note(self, number: int, result: Exception | list[Any]) -> None:
        self.redirects.pop(number, None)
        if not isinstance(result, Exception):
            self.answers[number] = Replied(result)
            return
        self.answers[number] = _failure(result)
        if isinstance(result, exceptions.MovedError | exceptions.AskError):
            self._moved.append(number)
            if isinstance(result, exceptions.MovedError):
                self._stale = True
            else:
                self.redirects[number] = (str(result.host), int(result.port))
        elif isinstance(result, exceptions.ClusterDownError | exceptions.ReadOnlyError):
            self._stale = True


def _by_node(
    cluster: RedisCluster, run: _Run, numbers: Sequence[int]
) -> Mapping[tuple[ClusterNode, bool], list[int]]:
    """Group transactions by node, with whether each needs ASKING."""
    found: dict[tuple[ClusterNode, bool], list[int]] = {}
    for number in numbers:
        host, port = run.redirects.get(number, ("", 0))
        node = cluster.get_node(host, port) if host else None
        asking = node is not None
        if node is None:
            node = cluster.get_node_from_key(run.transactions[number].key)
        if node is None:
            raise exceptions.SlotNotCoveredError("no node has this slot")
        found.setdefault((node, asking), []).append(number)
    return found


async def _run_on_node(node: ClusterNode, run: _Run, numbers: Sequence[int], *, asking: bool) -> None:
    try:
        connection = node.acquire_connection()
    except REDIS_ERRORS as error:
        run.fail(numbers, error)
        return
    try:
        await node.disconnect_if_needed(connection)
        await run.over(connection, numbers, asking=asking)
    finally:
        node.release(connection)


def _framed(transaction: Transaction, *, asking: bool) -> Sequence[tuple[Any, ...]]:
    """Encode a transaction. A single command needs no MULTI. ASKING covers everything up to EXEC."""
    commands = transaction.commands
    if len(commands) > 1:
        commands = [("MULTI",), *commands, ("EXEC",)]
    return [("ASKING",), *commands] if asking else commands


async def _answers(connection: Any, transaction: Transaction, *, asking: bool) -> Exception | list[Any]:
    """Read the replies of one transaction, or its first error. Raises errors that break the connection."""
    count = len(_framed(transaction, asking=asking))
    first: Exception | None = None
    reply: Any = None
    for _ in range(count):
        try:
            reply = await connection.read_response()
        except exceptions.ConnectionError:
            raise
        except exceptions.ResponseError as error:
            first = first or error
    if first is not None:
        return first
    replies = reply if len(transaction.commands) > 1 else [reply]
    return next((one for one in replies if isinstance(one, Exception)), replies)


def _failure(error: Exception) -> Answer:
    """Return the error reply of Redis in the chain of exceptions, or None."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, _REFUSED):
            return _refused(cause)
        cause = cause.__cause__ or cause.__context__
    return Unanswered(describe(error))


def _refused(error: Exception) -> Refused:
    text = describe(error)
    for kind in type(error).__mro__:
        if kind in _CODES:
            code = _CODES[kind]
            return Refused(code, f"{code} {text}")
    code = text.partition(" ")[0]
    if code.isupper():
        return Refused(code, text)
    return Refused("ERR", f"ERR {text}")

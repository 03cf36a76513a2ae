"""One connection to Redis that all scripts of a process share. Commands are sent as they come.

redis-py lends a connection to each command until its answer arrives. Borrowing, checking, writing with a
timeout and returning it costs more than everything else, and Redis runs one script at a time anyway.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

import hiredis
from redis.exceptions import ConnectionError, RedisError, ResponseError, TimeoutError

from relay.redis_client.replies import AllReplies, Replies, ShortTexts

Word = str | bytes | int | float


class Connections(Protocol):
    """Lends open connections, like the pools of redis-py."""

    async def get_connection(self) -> Any:
        """Return an open connection."""

    async def release(self, connection: Any) -> None:
        """Take back a connection."""


class Channel:
    """A shared connection. It is opened for the first command, and again after an error."""

    def __init__(self, connections: Connections, *, longest: int | None = None) -> None:
        """If `longest` (bytes) is set, a longer reply is discarded piece by piece, and b"" is returned.

        This is only for commands whose reply is a text or nothing. A client library would hold the text in
        memory several times.
        """
        self._pool = connections
        self._longest = longest
        self._link: _Link | None = None
        self._opening = asyncio.Lock()

    async def execute(self, *words: Word) -> Any:
        """Return the reply. Raises the errors of redis-py; the command may or may not have run in that
        case."""
        command = hiredis.pack_command(words)  # type: ignore[arg-type]  # the stub wants a tuple of one
        link = self._link
        if link is None or not link.is_open:
            link = await self._open()
        return await link.execute(command)

    async def transaction(self, *commands: Sequence[Word]) -> list[Any]:
        """Run commands together, in MULTI and EXEC. Returns their replies, errors of single commands among
        them.

        Raises the errors of redis-py if none of them ran, or if the connection failed.
        """
        answers = await self.send(("MULTI",), *commands, ("EXEC",))
        replies: list[Any] = await asyncio.gather(*answers, return_exceptions=True)
        for reply in replies:
            if isinstance(reply, BaseException):
                raise reply
        return list(replies[-1])

    async def send(self, *commands: Sequence[Word]) -> Sequence[asyncio.Future[Any]]:
        """Send commands together. Returns their replies to come, which raise as `execute` does."""
        packed = b"".join([hiredis.pack_command(words) for words in commands])  # type: ignore[arg-type]
        link = self._link
        if link is None or not link.is_open:
            link = await self._open()
        return link.send(packed, len(commands))

    async def _open(self) -> _Link:
        async with self._opening:
            if self._link is None or not self._link.is_open:
                self._link = _Link(self._pool, await self._pool.get_connection(), self._longest)
            return self._link

    async def close(self) -> None:
        """Close the connection. Commands in flight fail."""
        if self._link is not None:
            await self._link.close()


class _Link(asyncio.Protocol):
    """One open connection, until it is closed.

    It reads the replies itself: redis-py needs a stream and a task for that, which cost a single command more
    than everything else.
    """

    def __init__(self, pool: Connections, connection: Any, longest: int | None) -> None:
        self._pool = pool
        self._connection = connection
        self._in_flight: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._unsent: list[bytes] = []
        """Commands of this step of the event loop, which go out together."""
        # The client's own timeouts are off: one timeout of ours covers all commands in flight.
        self._answer_timeout: float | None = connection.socket_timeout
        connection.socket_timeout = None
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._end: Exception | None = None
        self._leaving: asyncio.Task[None] | None = None
        parse_error = connection._parser.parse_error
        self._replies: Replies = (
            AllReplies(parse_error) if longest is None else ShortTexts(parse_error, longest)
        )
        self._transport: asyncio.Transport = connection._writer.transport
        self._protocol_of_client = self._transport.get_protocol()
        self._transport.set_protocol(self)

    @property
    def is_open(self) -> bool:
        return self._end is None and bool(self._connection.is_connected)

    async def execute(self, command: bytes) -> Any:
        """Send a command and return its reply. Call it in the same step as the check that it is open: replies
        come in order."""
        (answer,) = self.send(command, 1)
        return await answer

    def send(self, commands: bytes, count: int) -> Sequence[asyncio.Future[Any]]:
        """Send so many commands together, in the same step as the check that it is open. Returns their
        replies to come."""
        now, is_free = self._loop.time(), not self._in_flight
        answers = [self._loop.create_future() for _ in range(count)]
        self._in_flight.extend([(answer, now) for answer in answers])
        self._start_timer()
        if is_free:
            self._send(commands)
        else:
            # One write for many commands costs this process and Redis as much as a write for one.
            if not self._unsent:
                self._loop.call_soon(self._send_all)
            self._unsent.append(commands)
        return answers

    def _send_all(self) -> None:
        unsent, self._unsent = self._unsent, []
        self._send(unsent[0] if len(unsent) == 1 else b"".join(unsent))

    def _send(self, commands: bytes) -> None:
        """Send commands. After an error all commands in flight fail."""
        if self._end is None:
            try:
                self._transport.write(commands)
            except Exception as error:
                self._stop(ConnectionError(f"the connection was closed: {error!r}"))

    async def close(self) -> None:
        """Close the connection. All commands in flight fail."""
        await self._stop(ConnectionError("the connection was closed"))

    def data_received(self, data: bytes) -> None:
        """Return replies to those that wait for them."""
        if self._end is not None:
            return
        try:
            for reply in self._replies.feed(data):
                failed = isinstance(reply, Exception)
                if failed and not isinstance(reply, ResponseError):
                    raise reply
                answer, _ = self._in_flight.popleft()
                if answer.done():
                    continue  # its task was cancelled
                if failed:
                    answer.set_exception(reply)
                else:
                    answer.set_result(reply)
        except RedisError as error:
            self._stop(error)
        except Exception as error:
            self._stop(ConnectionError(f"the connection was closed: {error!r}"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail all commands in flight, and let the client know that its connection is closed."""
        self._stop(ConnectionError("the connection was closed" if exc is None else str(exc)))
        self._protocol_of_client.connection_lost(exc)

    def _stop(self, end: Exception) -> asyncio.Task[None]:
        """Fail all commands in flight, and return the connection. Returns the task that does so."""
        if self._leaving is None:
            self._end = end
            if self._timer is not None:
                self._timer.cancel()
            for answer, _ in self._in_flight:
                if not answer.done():
                    answer.set_exception(type(end)(*end.args))
            self._in_flight.clear()
            self._leaving = self._loop.create_task(self._leave())
        return self._leaving

    async def _leave(self) -> None:
        await self._connection.disconnect(nowait=True)
        self._connection.socket_timeout = self._answer_timeout
        await self._pool.release(self._connection)

    def _start_timer(self) -> None:
        if self._timer is None and self._answer_timeout is not None:
            self._timer = self._loop.call_later(self._answer_timeout, self._check_timeout)

    def _check_timeout(self) -> None:
        """Close the connection if a reply takes too long."""
        self._timer = None
        if not self._in_flight or self._answer_timeout is None:
            return
        left = self._in_flight[0][1] + self._answer_timeout - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._check_timeout)
        else:
            self._stop(TimeoutError(f"no answer within {self._answer_timeout:g} s"))

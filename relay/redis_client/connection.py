"""One connection to Redis that all scripts of a process share: commands go out as they come.

redis-py lends a connection to each command until its answer is there. To borrow, to look whether it still
lives, to write with a time limit and to give it back costs more than all else; and Redis runs one script at a
time, whatever they come over.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import Any, Protocol

import hiredis
from redis.exceptions import ConnectionError, RedisError, ResponseError, TimeoutError

_PIECE = 1 << 16  # bytes to drop at once

Word = str | bytes | int | float


class Connections(Protocol):
    """Lends connections that are open, as the pools of redis-py do."""

    async def get_connection(self) -> Any:
        """An open connection."""

    async def release(self, connection: Any) -> None:
        """Take it back."""


class Channel:
    """Connects at the first command, and anew after any trouble."""

    def __init__(self, connections: Connections, *, longest: int | None = None) -> None:
        """With `longest` (bytes), a longer text is read and dropped piece by piece, and b"" is returned.

        Only for commands that answer by a text or nothing: a client library would hold the text in memory
        several times over.
        """
        self._pool = connections
        self._longest = longest
        self._link: _Link | None = None
        self._opening = asyncio.Lock()

    async def ask(self, *words: Word) -> Any:
        """The answer. Raises what redis-py does; the command may or may not have run in that case."""
        command = hiredis.pack_command(words)  # type: ignore[arg-type]  # it says "a tuple of one"
        link = self._link
        if link is None or not link.is_open:
            link = await self._open()
        return await link.ask(command)

    async def _open(self) -> _Link:
        async with self._opening:
            if self._link is None or not self._link.is_open:
                self._link = _Link(self._pool, await self._pool.get_connection(), self._longest)
            return self._link

    async def close(self) -> None:
        """What is under way fails."""
        if self._link is not None:
            await self._link.close()


class _Link:
    """One connection, from its opening to its end."""

    def __init__(self, pool: Connections, connection: Any, longest: int | None) -> None:
        self._pool = pool
        self._longest = longest
        self._connection = connection
        self._asked: deque[tuple[asyncio.Future[Any], float]] = deque()
        # There is one time limit for all that is under way, and it is ours.
        self._answer_timeout: float | None = connection.socket_timeout
        connection.socket_timeout = None
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._end: Exception | None = None
        self._reader = self._loop.create_task(self._read())

    @property
    def is_open(self) -> bool:
        return self._end is None and bool(self._connection.is_connected)

    async def ask(self, command: bytes) -> Any:
        """To be called in the step that found it open: answers come in the order of the questions."""
        answer = self._loop.create_future()
        self._asked.append((answer, self._loop.time()))
        if self._timer is None and self._answer_timeout is not None:
            self._timer = self._loop.call_later(self._answer_timeout, self._check_timeout)
        try:
            await self._connection.send_packed_command([command], check_health=False)
        except BaseException:
            # The client has closed the connection, and the reader hears of it.
            answer.cancel()
            raise
        return await answer

    async def close(self) -> None:
        """All that is under way fails."""
        self._end = self._end or ConnectionError("the connection was closed")
        self._reader.cancel()
        await asyncio.wait([self._reader])

    async def _read(self) -> None:
        try:
            while True:
                reply = await self._reply()
                answer, _ = self._asked.popleft()
                if answer.done():
                    continue  # its task was cancelled
                if isinstance(reply, ResponseError):
                    answer.set_exception(reply)
                else:
                    answer.set_result(reply)
        except RedisError as error:
            self._end = self._end or error
        except Exception as error:
            # The client's words for a connection that is closed while it reads.
            self._end = self._end or ConnectionError(f"the connection was closed: {error!r}")
        finally:
            self._fail_all(self._end or ConnectionError("the connection was closed"))
            await self._leave()

    async def _reply(self) -> Any:
        try:
            if self._longest is not None:
                return await self._bounded_reply(self._connection._reader, self._longest)
            return await self._connection.read_response(timeout=math.inf)
        except ResponseError as error:
            return error

    async def _bounded_reply(self, stream: asyncio.StreamReader, longest: int) -> bytes | None:
        """A text or nothing (RESP2)."""
        line = (await stream.readuntil(b"\r\n"))[:-2]
        kind, rest = line[:1], line[1:]
        if kind == b"-":
            raise self._connection._parser.parse_error(rest.decode("utf-8", "replace"))
        if kind not in (b"$", b"*") or (kind == b"*" and rest != b"-1"):
            raise ConnectionError(f"unexpected answer: {line[:80]!r}")
        size = int(rest)
        if size < 0:
            return None
        if size <= longest:
            return (await stream.readexactly(size + 2))[:-2]
        left = size + 2
        while left:
            part = await stream.read(min(left, _PIECE))
            if not part:
                raise ConnectionError("the connection was closed")
            left -= len(part)
        return b""

    def _fail_all(self, end: Exception) -> None:
        self._end = end
        if self._timer is not None:
            self._timer.cancel()
        for answer, _ in self._asked:
            if not answer.done():
                answer.set_exception(type(end)(*end.args))
        self._asked.clear()

    async def _leave(self) -> None:
        await self._connection.disconnect(nowait=True)
        self._connection.socket_timeout = self._answer_timeout
        await self._pool.release(self._connection)

    def _check_timeout(self) -> None:
        """Give the connection up if an answer takes too long."""
        self._timer = None
        if not self._asked or self._answer_timeout is None:
            return
        left = self._asked[0][1] + self._answer_timeout - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._check_timeout)
        else:
            self._end = TimeoutError(f"no answer within {self._answer_timeout:g} s")
            self._reader.cancel()

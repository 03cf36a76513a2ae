"""Connections of aiohttp that limit how much a receiver may send besides the answer to a request."""

from __future__ import annotations

import asyncio
import select
from contextvars import ContextVar
from functools import partial
from typing import Any
from weakref import WeakSet

from aiohttp import TCPConnector
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError

from relay.http.transport import HEAD_LIMIT, INFORMATIONAL_LIMIT, TOO_MANY_INFORMATIONAL

_SLICE = 16 * 1024
"""Bytes that are parsed before the limits are checked: a read can hold 10,000 informational heads."""

REUSED = ContextVar("reused", default=False)
"""Whether the request of this task runs on a connection that served another request before."""


class BoundedHandler(ResponseHandler):
    """Closes the connection if a receiver floods it before the answer, or answers without a request."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._awaits_head = False
        self._head_size = 0
        self._informational = 0

    def set_response_params(self, **options: Any) -> None:
        self._awaits_head = True
        self._head_size = self._informational = 0
        super().set_response_params(**options)

    def data_received(self, data: bytes) -> None:
        if not data:  # aiohttp resumes a body that it had paused
            super().data_received(data)
            return
        for start in range(0, len(data), _SLICE):
            if self._is_idle():
                self._abort()
                return
            part = data[start : start + _SLICE]
            super().data_received(part)
            if self._awaits_head:
                self._check_head(len(part))

    def feed_data(self, data: Any, size: int = 0) -> None:
        status = data[0].code
        if not self._awaits_head:
            self._should_close = True
        elif 100 <= status < 200 and status != 101:
            # aiohttp's reader skips informational heads: none has to be queued for it.
            self._informational += 1
        elif self._informational <= INFORMATIONAL_LIMIT:
            self._awaits_head = False
            super().feed_data(data, size)

    def _is_idle(self) -> bool:
        """Whether no request awaits data, so that bytes would become the answer to the next request."""
        parsing = self._parser is not None
        return parsing and not self._awaits_head and (self._payload is None or self._payload.is_eof())

    def _check_head(self, size: int) -> None:
        self._head_size += size
        if self._informational > INFORMATIONAL_LIMIT:
            self._refuse(TOO_MANY_INFORMATIONAL)
        elif self._head_size > HEAD_LIMIT:
            self._refuse("its headers are too long")

    def _refuse(self, why: str) -> None:
        self._awaits_head = False
        self._abort()
        if not self.is_eof():  # otherwise the parser has refused the answer itself
            self.set_exception(HttpProcessingError(message=why))

    def _abort(self) -> None:
        self._should_close = True
        if self.transport is not None:
            self.transport.abort()


class Connector(TCPConnector):
    """Sets `REUSED` for each request, and never hands out an idle connection that has something to read.

    aiohttp's tracing reports reuse too, at a fifth of the cost of a whole request.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = partial(BoundedHandler, loop=self._loop)  # type: ignore[assignment]
        self._known: WeakSet[Any] = WeakSet()

    async def connect(self, *arguments: Any, **keywords: Any) -> Connection:
        connection = await super().connect(*arguments, **keywords)
        while (reused := connection.protocol in self._known) and _is_readable(connection):
            connection.close()
            connection = await super().connect(*arguments, **keywords)
        REUSED.set(reused)
        self._known.add(connection.protocol)
        return connection


def _is_readable(connection: Connection) -> bool:
    """Whether bytes, or the end of the connection, wait in the socket although no request is under way."""
    transport = connection.transport
    raw = None if transport is None else transport.get_extra_info("socket")
    if raw is None or raw.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(raw.fileno(), select.POLLIN)
    return bool(poll.poll(0))

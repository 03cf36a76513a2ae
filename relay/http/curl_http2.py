"""HTTP/2 through libcurl in the event loop, for adapters that ask for it."""

from __future__ import annotations

import asyncio
import math
import socket
import time
from contextlib import suppress
from typing import Any

import pycurl

from relay.http.curl_errors import Code, Failure
from relay.http.curl_handle import CurlHandle
from relay.http.curl_multi import IdleInput, Multi, open_multi
from relay.http.curl_transfer import CurlTransfer
from relay.http.curl_transport import CurlTransport
from relay.http.handle_pool import HandlePool
from relay.http.request import Request, Response
from relay.http.transport import BODY_LIMIT, Http2Transport, OnDone
from relay.http.validate import origin_of

KEEP_ALIVE = 3600.0
"""Seconds for which an idle connection is kept. Apple treats frequent reconnects as an attack."""

PROBE_EVERY, PROBE_TIMEOUT = 30, 10
"""Seconds between two TCP keep-alive probes of an idle connection, and until the host counts as gone."""

STREAMS = 100
"""Requests in flight per connection before another one is opened: the minimum for the limit of streams that
servers should allow (RFC 9113, 6.5.2)."""

SPARE_CONNECTIONS = 4
"""Idle connections in addition to those of one host: a provider may have another host for its access
tokens."""

GROW_AFTER = 0.1
"""Another connection may be opened after this many seconds if the first one is full and returned no
response."""

HTTP1_MEMORY = 3600.0
"""Seconds for which relay remembers that a server speaks only HTTP/1.1."""


class CurlHttp2Transport(CurlTransport, Http2Transport):
    """The connections to one provider over HTTP/2, each with many requests at a time.

    A new connection carries one request until the server has announced its limit, because APNs refuses more.
    libcurl sends a request again, five times at most, if the server reports that it has not processed it
    (REFUSED_STREAM, or a stream above the last one of a GOAWAY: RFC 9113, 8.7).

    pycurl cannot send a PING. TCP detects a host that is gone. A timeout without any response meanwhile
    reveals a hanging server, and then new requests use new connections.
    """

    def __init__(
        self, *, concurrency: int, connections: int | None = None, http2: bool = False, **options: Any
    ) -> None:
        """Like `CurlTransport`, but `connections` defaults to one per `STREAMS` of `concurrency`.

        With `http2`, a server that does not speak HTTP/2 is an error.
        """
        connections = connections or math.ceil(concurrency / STREAMS)
        super().__init__(concurrency=concurrency, connections=connections, **options)
        only, preferred = pycurl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE, pycurl.CURL_HTTP_VERSION_2TLS
        self._http2 = http2
        self._keep_alive = KEEP_ALIVE
        self._options |= {
            pycurl.HTTP_VERSION: only if http2 else preferred,
            pycurl.PIPEWAIT: 1,
            pycurl.MAXAGE_CONN: round(KEEP_ALIVE),
            # It limits the window of a stream, so that an endless body is cut early.
            pycurl.MAX_RECV_SPEED_LARGE: 2 * BODY_LIMIT,
            pycurl.TCP_KEEPALIVE: 1,
            pycurl.TCP_KEEPIDLE: PROBE_EVERY,
            pycurl.TCP_KEEPINTVL: PROBE_EVERY,
        }
        self._share = math.ceil(concurrency / self._max_connections)
        self._http1: dict[str, float] = {}
        """The time at which each server was found to speak only HTTP/1.1, in monotonic seconds."""
        self._responded_at = -math.inf
        self._retired: set[Multi] = set()
        """Connections that get no new requests, and close after their current ones."""
        self._closing: set[asyncio.Task[None]] = set()
        self._may_grow = False
        """Whether more connections may be opened."""
        self._connecting: set[CurlHandle] = set()
        """Those whose requests have opened a connection, and are not sent yet."""

    def speaks_http1(self, url: str) -> bool:
        if not self._http1:
            return False
        return time.monotonic() - self._http1.get(origin_of(url), -math.inf) < HTTP1_MEMORY

    def start(self, request: Request, on_done: OnDone) -> CurlTransfer:
        transfer = super().start(request, on_done)
        transfer.started_at = time.monotonic()
        return transfer

    async def close(self) -> None:
        await super().close()
        for multi in self._retired:
            await multi.aclose()
        if self._closing:
            await asyncio.wait(self._closing)

    def _open_handles(self) -> HandlePool:
        # Not shared with other providers, because their callbacks belong to this one.
        self._handles = HandlePool.join(self, self._new_handle)
        return self._handles

    def _new_handle(self) -> CurlHandle:
        handle = super()._new_handle()

        def socket_opened(descriptor: int, _purpose: int) -> int:
            _detect_loss(descriptor)
            self._connecting.add(handle)
            # libcurl accepts no options during this callback.
            asyncio.get_running_loop().call_soon(self._update_limits)
            return int(pycurl.SOCKOPT_OK)

        def about_to_send(*_: object) -> int:
            if handle in self._connecting:
                self._connecting.discard(handle)
                asyncio.get_running_loop().call_soon(self._update_limits)
            return int(pycurl.PREREQFUNC_OK)

        handle.curl.setopt(pycurl.SOCKOPTFUNCTION, socket_opened)
        handle.curl.setopt(pycurl.PREREQFUNCTION, about_to_send)
        return handle

    def _open_multi(self) -> Multi:
        multi = open_multi(IdleInput.KEEP)
        multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX)
        multi.setopt(pycurl.M_MAXCONNECTS, self._max_connections + SPARE_CONNECTIONS)
        multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, 1)
        multi.setopt(pycurl.M_MAX_CONCURRENT_STREAMS, 1)
        return multi

    def _update_limits(self) -> None:
        """Allow one stream and no other connection while a connection is opened.

        The new connection keeps to one stream until the server's SETTINGS arrive.
        """
        if self._multi is None:
            return
        if self._connecting:
            self._multi.setopt(pycurl.M_MAX_CONCURRENT_STREAMS, 1)
            self._multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, 1)
            self._may_grow = False
        else:
            self._multi.setopt(pycurl.M_MAX_CONCURRENT_STREAMS, self._share)
            self._multi.wake()
            asyncio.get_running_loop().call_later(GROW_AFTER, self._grow, self._multi)

    def _grow(self, multi: Multi) -> None:
        """Allow more connections, because the SETTINGS of the newest have arrived."""
        if multi is self._multi and not self._connecting and not self._may_grow:
            self._may_grow = True
            # One more than needed: after a GOAWAY, the old connection counts until its last request has
            # ended.
            multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, max(2, self._max_connections))
            multi.wake()

    def _release(self, transfer: CurlTransfer, result: Response | Failure | None) -> None:
        super()._release(transfer, result)
        if transfer.handle in self._connecting:
            self._connecting.discard(transfer.handle)
            self._update_limits()
        match result:
            case Response():
                self._responded_at = time.monotonic()
                if not self._may_grow:
                    self._grow(transfer.multi)
                if not self._http2 and transfer.handle.spoke_http1:
                    assert transfer.handle.url is not None
                    self._http1[origin_of(transfer.handle.url.text)] = self._responded_at
            case Failure(code=Code.OPERATION_TIMEDOUT) if self._responded_at < transfer.started_at:
                self._retire(transfer.multi)
        if self._retired:
            self._close_retired()

    def _retire(self, multi: Multi) -> None:
        if multi is self._multi:
            self._multi = None
            self._connecting.clear()
            self._retired.add(multi)

    def _close_retired(self) -> None:
        for multi in [multi for multi in self._retired if not multi.in_flight]:
            self._retired.discard(multi)
            task = asyncio.get_running_loop().create_task(multi.aclose())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


def _detect_loss(descriptor: int) -> None:
    """Let TCP end a connection whose host acknowledges neither data nor probes."""
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is None:
        return
    borrowed = socket.socket(fileno=descriptor)
    try:
        with suppress(OSError):
            borrowed.setsockopt(socket.IPPROTO_TCP, option, (PROBE_EVERY + PROBE_TIMEOUT) * 1000)
    finally:
        borrowed.detach()

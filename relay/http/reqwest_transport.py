"""HTTP/2 through pyreqwest, for adapters that ask for it."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from pyreqwest.client import ClientBuilder
from pyreqwest.exceptions import BuilderError, PyreqwestError, RequestError, RequestTimeoutError
from pyreqwest.proxy import ProxyBuilder

from relay import __version__, tasks
from relay.errors import Exhausted, TransportError
from relay.http.completion_coalescing import CompletionCoalescer
from relay.http.reasons import cut, host_of
from relay.http.request import Request, Response
from relay.http.reqwest_errors import (
    CONNECTING,
    PING_TIMED_OUT,
    causes_of,
    explain_causes,
    is_exhaustion,
    is_refused_by_proxy,
)
from relay.http.response_body import readable
from relay.http.transport import (
    BODY_LIMIT,
    HEAD_LIMIT,
    KEEP_ALIVE,
    Http2Transport,
    OnDone,
    PendingRequest,
    ProxyCredentialsRequired,
    Unsendable,
)
from relay.http.validate import check_headers, check_origin, origin_of

if TYPE_CHECKING:
    from pyreqwest.client import Client
    from pyreqwest.http import HeaderMap
    from pyreqwest.response import Response as Answer

KEEP_ALIVE_HTTP2 = 3600.0
"""Seconds for which an idle HTTP/2 connection is kept. Apple treats frequent reconnects as an attack, and a
PING shows whether the server is still there."""

PING_EVERY, PING_TIMEOUT = 30.0, 10.0
"""Seconds. Finds a connection whose server is gone before the next request needs it."""

STREAMS = 100
"""Requests in flight per connection before another one is opened: the limit of streams that servers should
allow at least (RFC 9113, 6.5.2)."""

HTTP1_MEMORY = 3600.0
"""Seconds for which a server is known to speak HTTP/1.1 only."""

_STREAM_WINDOW, _CONNECTION_WINDOW = 2 * BODY_LIMIT, 2 << 20
"""Bytes that a server may send before they are read, so an endless body uses no more memory."""

_COALESCER = CompletionCoalescer()


@dataclass(slots=True)
class _Connection:
    """A client of its own, because reqwest opens one HTTP/2 connection per host and client."""

    client: Client
    in_flight: int = 0


class ReqwestTransport(Http2Transport):
    """The connections to one provider. They open with the first request, so idle providers cost nothing.

    The library sends a request again, twice at most, if the server says that it has not processed it
    (REFUSED_STREAM, or a stream above the last one of a GOAWAY: RFC 9113, 8.7), or if it never left the host.

    A cancelled request stays in flight until its timeout, because pyreqwest 0.15 cannot abort one.
    """

    def __init__(
        self,
        *,
        timeout: float,
        concurrency: int,
        ca: str | None = None,
        identity: tuple[str, str] | None = None,
        proxy: str | None = None,
        http2: bool = False,
        connections: int | None = None,
        ping: tuple[float, float] = (PING_EVERY, PING_TIMEOUT),
    ) -> None:
        """`timeout` is in seconds and covers a whole request. `ca` and `identity` (certificate, key) are PEM.

        With `http2` a server that does not speak HTTP/2 is an error. At most `connections` are open, one per
        `STREAMS` of `concurrency` if None. `ping` is the interval and the timeout of PINGs in seconds.
        """
        self._timeout = timeout
        self._ca = ca
        self._identity = identity
        self._proxy = proxy
        self._http2 = http2
        self._ping = ping
        self._max_connections = min(connections or math.ceil(concurrency / STREAMS), concurrency)
        self._share = math.ceil(concurrency / self._max_connections)
        self._connections: list[_Connection] = []
        self._http1: dict[str, float] = {}
        """When each server that speaks HTTP/1.1 only was seen to, in monotonic seconds."""

    def start(self, request: Request, on_done: OnDone) -> PendingRequest:
        return tasks.begin(self._send(request), on_done)

    def speaks_http1(self, url: str) -> bool:
        """Whether the server of a URL answered over HTTP/1.1 when it was offered HTTP/2."""
        if not self._http1:
            return False
        return time.monotonic() - self._http1.get(origin_of(url), -math.inf) < HTTP1_MEMORY

    async def close(self) -> None:
        for connection in self._connections:
            await connection.client.close()

    async def _send(self, request: Request) -> Response:
        check_origin(request.url)
        check_headers(request.headers)
        if _COALESCER.busy:
            # Requests that are about to start are prepared first, so that all go out together.
            await asyncio.sleep(0)
        connection = self._pick()
        connection.in_flight += 1
        try:
            return await self._exchange(connection.client, request)
        except (PyreqwestError, TimeoutError) as error:
            raise self._error(error, request.url) from error
        finally:
            connection.in_flight -= 1
            _COALESCER.completed()

    async def _exchange(self, client: Client, request: Request) -> Response:
        try:
            building = client.request(request.method, request.url).headers(request.headers)
            if request.body:
                building = building.body_bytes(request.body)
            elif request.method != "GET":
                building = building.header("content-length", "0")  # RFC 9110, 8.6
            built = building.streamed_read_buffer_limit(0).build_streamed()
        except BuilderError as error:
            raise Unsendable(f"the request cannot be sent: {cut(causes_of(error.details)[-1])}") from None
        except ValueError as error:
            raise Unsendable(f"the request cannot be sent: {cut(str(error))}") from None
        # Leaving the context closes a body that is not read to its end. Otherwise it does nothing, and each
        # call of the library costs time.
        answer = await built.__aenter__()
        ended = False
        try:
            if answer.version[:6] == "HTTP/1":
                self._http1[origin_of(request.url)] = time.monotonic()
            body, incomplete = await self._read(answer, request.url)
            ended = incomplete is None and len(body) <= BODY_LIMIT
        finally:
            if not ended:
                await built.__aexit__(None, None, None)
        headers = _headers(answer.headers)
        body, missing = readable(body, headers)
        return Response(answer.status, headers, body, incomplete or missing)

    async def _read(self, answer: Answer, url: str) -> tuple[bytes, str | None]:
        """The body up to one byte more than the limit, and what went wrong after a status of 2xx."""
        try:
            # The extra byte shows whether a body that has the size of the limit ends there.
            body = await answer.body_reader.read(BODY_LIMIT + 1)
        except (PyreqwestError, TimeoutError) as error:
            if not 200 <= answer.status < 300:
                raise
            return b"", str(self._error(error, url))
        return b"" if body is None else body.to_bytes(), None

    def _error(self, error: PyreqwestError | TimeoutError, url: str) -> TransportError:
        if isinstance(error, RequestTimeoutError):
            causes = causes_of(error.details)
            if CONNECTING in causes:
                return TransportError(
                    f"cannot connect to {host_of(url)}: no answer within {self._timeout / 2:g} s"
                )
            if PING_TIMED_OUT in causes:
                return TransportError(explain_causes(causes, url))
        elif isinstance(error, RequestError):
            causes = causes_of(error.details)
            reason = explain_causes(causes, url, http2=self._http2)
            if is_refused_by_proxy(causes):
                return ProxyCredentialsRequired(reason)
            return (Exhausted if is_exhaustion(causes) else TransportError)(reason)
        elif isinstance(error, PyreqwestError):
            return TransportError(cut(str(error)))
        return TransportError(f"no answer within {self._timeout:g} s")

    def _pick(self) -> _Connection:
        """The first connection below its share, so that little traffic keeps to one connection."""
        for connection in self._connections:
            if connection.in_flight < self._share:
                return connection
        if len(self._connections) < self._max_connections:
            self._connections.append(_Connection(self._open()))
            return self._connections[-1]
        return min(self._connections, key=lambda connection: connection.in_flight)

    def _open(self) -> Client:
        every, timeout = (timedelta(seconds=seconds) for seconds in self._ping)
        builder = (
            ClientBuilder()
            .user_agent(f"relay/{__version__}")
            .http2(True)
            .http1_lower_case_headers()
            .http2_keep_alive_interval(every)
            .http2_keep_alive_timeout(timeout)
            .http2_keep_alive_while_idle(True)
            .http2_initial_stream_window_size(_STREAM_WINDOW)
            .http2_initial_connection_window_size(_CONNECTION_WINDOW)
            .http2_max_header_list_size(HEAD_LIMIT)
            .pool_idle_timeout(timedelta(seconds=KEEP_ALIVE_HTTP2 if self._http2 else KEEP_ALIVE))
            .timeout(timedelta(seconds=self._timeout))
            # Shared by the addresses of a name, so that a dead one leaves time for the others.
            .connect_timeout(timedelta(seconds=self._timeout / 2))
            .min_tls_version("TLSv1.2")
            .follow_redirects(False)
            .referer(False)
            .default_cookie_store(False)
            .no_proxy()
            .gzip(False)
            .brotli(False)
            .zstd(False)
            .deflate(False)
        )
        if self._http2:
            builder = builder.http2_prior_knowledge()
        if self._proxy:
            builder = builder.proxy(ProxyBuilder.all(self._proxy))
        if self._ca:
            builder = builder.add_root_certificate_pem(self._ca.encode())
        if self._identity:
            builder = builder.identity_pem("\n".join(self._identity).encode())
        return builder.build()


def start_runtime() -> None:
    """Start the threads that all clients share. pyreqwest (0.15) never retries if that fails."""
    ClientBuilder().build()


def _headers(found: HeaderMap) -> dict[str, str]:
    """Names are in lower case already. A value that is not ASCII is left out: the library cannot read it."""
    try:
        return dict(found.items())
    except ValueError:
        readable = {}
        for name in found:
            try:
                readable[name] = found[name]
            except ValueError:
                continue
        return readable

"""HTTP/2 (and HTTP/1.1 where the other side knows no better) through pyreqwest, for adapters that want it."""

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
from relay.http.reasons import cut, host_of
from relay.http.request import Request, Response
from relay.http.reqwest_reasons import (
    CONNECTING,
    PING_TIMED_OUT,
    causes_of,
    explain_causes,
    is_exhaustion,
    was_closed,
)
from relay.http.rests import Rests
from relay.http.sendable import check_headers, check_origin
from relay.http.transport import BODY_LIMIT, IDLE_TOO_LONG, Exchange, OnAnswer, Unsendable

if TYPE_CHECKING:
    from pyreqwest.client import Client
    from pyreqwest.http import HeaderMap

KEEP_ALIVE, KEEP_ALIVE_HTTP2 = 15.0, 3600.0
"""Seconds that an idle connection is kept. Receivers close theirs at some time of their own, but Apple takes
frequent reconnects for an attack, and over HTTP/2 a PING tells whether the other side is there."""

PING_EVERY, PING_TIMEOUT = 30.0, 10.0
"""Seconds: a connection whose other side is gone without a word is found out before it is needed."""

STREAMS = 100
"""Requests in flight from which on one more connection is opened: the limit of streams that RFC 9113 (6.5.2)
has servers allow at least."""

_STREAM_WINDOW, _CONNECTION_WINDOW = 2 * BODY_LIMIT, 2 << 20
"""Bytes that the other side may send before we have read them: an endless answer costs no more."""

_RESTS = Rests()


@dataclass(slots=True)
class _Connection:
    """A client of its own: reqwest opens one HTTP/2 connection for each host and client."""

    client: Client
    busy: int = 0
    answered: float = -math.inf
    """When the last answer over HTTP/1.1 came, in monotonic seconds: for `KEEP_ALIVE` from then on a request
    may go out on a connection that had served another."""


class ReqwestTransport:
    """One provider's connections. They are made at the first request: idle providers cost nothing.

    What the library sends again by itself is what the other side says it has not processed: REFUSED_STREAM
    and streams above a GOAWAY's last one (RFC 9113, 8.7), twice at most; and what never left this host.
    What we send again is a request over HTTP/1.1 whose connection ended without a word, once, over a new
    connection: the other side may have closed it, idle, before the request was there. Which connection that
    was, the library does not say; one that served a moment ago is taken for it.

    A task that is cancelled leaves its request running until the time-out: pyreqwest 0.15 cannot take
    one back. So nothing here counts requests in flight but the engine.
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
        """`timeout` in seconds for a whole exchange. `ca` and `identity` (certificate, key) are PEM.

        `http2`: nothing else will do; otherwise both sides agree on it where they can. `connections`: the
        most over HTTP/2; None: one for each `STREAMS` of `concurrency`. `ping`: seconds between two PINGs,
        and until one is given up.
        """
        self._seconds = timeout
        self._ca = ca
        self._identity = identity
        self._proxy = proxy
        self._http2 = http2
        self._ping = ping
        self._most = min(connections or math.ceil(concurrency / STREAMS), concurrency)
        self._share = math.ceil(concurrency / self._most)
        self._connections: list[_Connection] = []
        self._fresh: Client | None = None

    def begin(self, request: Request, on_answer: OnAnswer) -> Exchange:
        return tasks.begin(self.send(request), on_answer)

    async def send(self, request: Request) -> Response:
        check_origin(request.url)
        check_headers(request.headers)
        if _RESTS.busy:
            # What others are about to send is prepared first, and all goes out together.
            await asyncio.sleep(0)
        connection = self._free()
        connection.busy += 1
        try:
            return await self._over(connection, request)
        except (PyreqwestError, TimeoutError) as error:
            raise self._trouble(error, request.url) from error
        finally:
            connection.busy -= 1
            _RESTS.answered()

    async def _over(self, connection: _Connection, request: Request) -> Response:
        started = time.monotonic()
        reused = started - connection.answered < KEEP_ALIVE
        try:
            response, version = await _exchange(connection.client, request)
        except RequestError as error:
            timed_out = isinstance(error, RequestTimeoutError)
            if reused and not timed_out and was_closed(causes_of(error.details)):
                return await self._over_a_new_one(request, started)
            raise
        if version[:6] == "HTTP/1":
            connection.answered = time.monotonic()
            if reused and response.status == IDLE_TOO_LONG:
                return await self._over_a_new_one(request, started)
        return response

    async def _over_a_new_one(self, request: Request, started: float) -> Response:
        """The answer, where an idle connection ended in place of one."""
        async with asyncio.timeout(max(0.001, started + self._seconds - time.monotonic())):
            response, _ = await _exchange(self._new(), request)
            return response

    def _trouble(self, error: PyreqwestError | TimeoutError, url: str) -> TransportError:
        if isinstance(error, RequestTimeoutError):
            causes = causes_of(error.details)
            if CONNECTING in causes:
                return TransportError(
                    f"cannot connect to {host_of(url)}: no answer within {self._seconds / 2:g} s"
                )
            if PING_TIMED_OUT in causes:
                return TransportError(explain_causes(causes, url))
        elif isinstance(error, RequestError):
            causes = causes_of(error.details)
            kind = Exhausted if is_exhaustion(causes) else TransportError
            return kind(explain_causes(causes, url, http2=self._http2))
        elif isinstance(error, PyreqwestError):
            return TransportError(cut(str(error)))
        return TransportError(f"no answer within {self._seconds:g} s")

    async def close(self) -> None:
        for connection in self._connections:
            await connection.client.close()
        if self._fresh is not None:
            await self._fresh.close()

    def _free(self) -> _Connection:
        """The first connection that has its share not yet, so that little traffic keeps one busy."""
        for connection in self._connections:
            if connection.busy < self._share:
                return connection
        if len(self._connections) < self._most:
            self._connections.append(_Connection(self._open()))
            return self._connections[-1]
        return min(self._connections, key=lambda connection: connection.busy)

    def _new(self) -> Client:
        """A client that keeps no connection."""
        if self._fresh is None:
            self._fresh = self._open(idle=0)
        return self._fresh

    def _open(self, idle: int | None = None) -> Client:
        """`idle` connections are kept at most; None: all."""
        every, patience = (timedelta(seconds=seconds) for seconds in self._ping)
        builder = (
            ClientBuilder()
            .user_agent(f"relay/{__version__}")
            .http2(True)
            .http1_lower_case_headers()
            .http2_keep_alive_interval(every)
            .http2_keep_alive_timeout(patience)
            .http2_keep_alive_while_idle(True)
            .http2_initial_stream_window_size(_STREAM_WINDOW)
            .http2_initial_connection_window_size(_CONNECTION_WINDOW)
            .pool_idle_timeout(timedelta(seconds=KEEP_ALIVE_HTTP2 if self._http2 else KEEP_ALIVE))
            .timeout(timedelta(seconds=self._seconds))
            # Shared out among a name's addresses: one that is dead leaves time for the others.
            .connect_timeout(timedelta(seconds=self._seconds / 2))
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
        if idle is not None:
            builder = builder.pool_max_idle_per_host(idle)
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
    """Start the threads that all clients share. pyreqwest (0.15) never tries again if it fails to."""
    ClientBuilder().build()


async def _exchange(client: Client, request: Request) -> tuple[Response, str]:
    """The answer, and the version of HTTP that it came by."""
    try:
        building = client.request(request.method, request.url).headers(request.headers)
        if request.body:
            building = building.body_bytes(request.body)
        elif request.method != "GET":
            building = building.header("content-length", "0")  # RFC 9110, 8.6
        built = building.build_streamed()
    except BuilderError as error:
        raise Unsendable(f"the request cannot be sent: {cut(causes_of(error.details)[-1])}") from None
    except ValueError as error:
        raise Unsendable(f"the request cannot be sent: {cut(str(error))}") from None
    # To leave the context closes a body that goes on. One that was read to its end has nothing to close, and
    # each step into the library costs.
    answer = await built.__aenter__()
    ended = False
    try:
        # One byte more than is of use: a body of just the limit is then seen to end.
        body = await answer.body_reader.read(BODY_LIMIT + 1)
        whole = b"" if body is None else body.to_bytes()
        ended = len(whole) <= BODY_LIMIT
    finally:
        if not ended:
            await built.__aexit__(None, None, None)
    return Response(answer.status, _headers(answer.headers), whole[:BODY_LIMIT]), answer.version


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

"""HTTP/1.1 through aiohttp, with a guard at connect time for URLs that messages bring."""

from __future__ import annotations

import asyncio
import math
import re
import ssl
from functools import lru_cache
from typing import Any

import aiohttp
from aiohttp import ClientSession, ClientTimeout, DummyCookieJar
from aiohttp.abc import AbstractResolver
from yarl import URL

from relay import __version__, tasks
from relay.errors import Exhausted, TransportError
from relay.http.aiohttp_connector import REUSED, Connector
from relay.http.aiohttp_reasons import explain
from relay.http.guard import Network
from relay.http.guarded import GuardedResolver, guarded_sockets
from relay.http.reasons import is_exhaustion
from relay.http.request import Request, Response
from relay.http.resolver import ThreadResolver
from relay.http.transport import (
    BODY_LIMIT,
    IDLE_TOO_LONG,
    Exchange,
    ForbiddenAddress,
    OnAnswer,
    Unsendable,
)

KEEP_ALIVE = 15.0
"""Seconds that an idle connection is kept: receivers close theirs at some time of their own."""

_EXACT = re.compile(r"[!-~]+")
_DROPPED = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError)
"""How a connection ends that the other side had closed before our request reached it."""


class AiohttpTransport:
    """One provider's connections. Must be made where an event loop runs."""

    def __init__(
        self,
        *,
        timeout: float,
        concurrency: int,
        allowed: tuple[Network, ...] = (),
        context: ssl.SSLContext | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        """`timeout` in seconds for a whole exchange; `allowed` networks beside the public ones.

        `context` and `resolver` replace TLS 1.2+ with the system's authorities and the system's DNS.
        """
        self._seconds = timeout
        self._timeout = _total(timeout)
        self._allowed = allowed
        self._concurrency = concurrency
        self._context = context or tls_context()
        self._resolver = resolver or ThreadResolver()
        self._sessions: dict[tuple[bool, bool], ClientSession] = {}

    def begin(self, request: Request, on_answer: OnAnswer) -> Exchange:
        return tasks.begin(self.send(request), on_answer)

    async def send(self, request: Request) -> Response:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._seconds
        REUSED.set(False)
        try:
            try:
                return await self._exchange(request, self._timeout)
            except _DROPPED:
                if not REUSED.get():
                    raise
            # An idle connection that its other side had closed says nothing about this message. The next
            # one in the pool may have ended with it: only a new one proves anything.
            left = _total(max(0.001, deadline - loop.time()))
            return await self._exchange(request, left, fresh=True)
        except ForbiddenAddress:
            raise
        except TimeoutError:
            raise TransportError(f"no answer within {self._seconds:g} s") from None
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, UnicodeError) as error:
            raise Unsendable(explain(error, request.url)) from None
        except (aiohttp.ClientError, OSError) as error:
            kind = Exhausted if is_exhaustion(error) else TransportError
            raise kind(explain(error, request.url)) from error
        except ValueError as error:  # last: a refused certificate is a ValueError too
            raise Unsendable(explain(error, request.url)) from None

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()
        await self._resolver.close()

    async def _exchange(self, request: Request, timeout: ClientTimeout, *, fresh: bool = False) -> Response:
        session = self._session(request.public_only, fresh)
        url = request.url
        async with session.request(
            request.method,
            # As the application wrote it: a signature may cover its every byte.
            URL(url, encoded=_EXACT.fullmatch(url) is not None),
            data=request.body or None,
            headers=request.headers,
            allow_redirects=False,
            timeout=timeout,
        ) as response:
            if response.status == IDLE_TOO_LONG and REUSED.get():
                raise ConnectionResetError
            # The request has reached its receiver: from here on nothing may be sent twice.
            REUSED.set(False)
            body = await _read(response)
            headers = {name.lower(): value for name, value in response.headers.items()}
            return Response(response.status, headers, body)

    def _session(self, public_only: bool, fresh: bool) -> ClientSession:
        """Guarded requests have connections of their own: a pooled one was checked when it was opened.

        A `fresh` one opens a connection for each request.
        """
        session = self._sessions.get((public_only, fresh))
        if session is None:
            session = self._open(public_only=public_only, fresh=fresh)
            self._sessions[public_only, fresh] = session
        return session

    def _open(self, *, public_only: bool, fresh: bool) -> ClientSession:
        options: dict[str, Any] = {"resolver": self._resolver}
        if public_only:
            resolver = GuardedResolver(self._allowed, self._resolver)
            options = {"resolver": resolver, "socket_factory": guarded_sockets(self._allowed)}
        options |= {"force_close": True} if fresh else {"keepalive_timeout": KEEP_ALIVE}
        connector = Connector(limit=self._concurrency, ssl=self._context, **options)
        return ClientSession(
            connector=connector,
            cookie_jar=DummyCookieJar(),
            headers={"User-Agent": f"relay/{__version__}"},
            auto_decompress=False,
            skip_auto_headers=("Accept-Encoding", "Content-Type"),
            trust_env=False,
        )


def _total(seconds: float) -> ClientTimeout:
    # Without the threshold aiohttp rounds the end of longer time-outs up to a whole second.
    return ClientTimeout(total=seconds, ceil_threshold=math.inf)


@lru_cache(maxsize=64)
def tls_context(ca: str | None = None) -> ssl.SSLContext:
    """TLS 1.2 or later with the system's authorities and those of `ca` (PEM). Shared, as to read the system's
    takes 20 ms of CPU: hundreds of providers would each read them again."""
    context = ssl.create_default_context()
    if ca is not None:
        context.load_verify_locations(cadata=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # The name of a certificate without names for hosts proves nothing (RFC 9525, 6.3); OpenSSL would take it.
    context.hostname_checks_common_name = False
    context.set_alpn_protocols(["http/1.1"])
    return context


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body as far as it is of use. aiohttp closes a connection whose body was not read to its end."""
    body = bytearray()
    while len(body) < BODY_LIMIT:
        chunk = await response.content.read(BODY_LIMIT - len(body))
        if not chunk:
            return bytes(body)
        body += chunk
    return bytes(body)

"""HTTP/1.1 through aiohttp, with a guard at connect time for URLs that messages bring."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import aiohttp
from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

from relay import __version__
from relay.errors import TransportError
from relay.http.guard import Network, refusal
from relay.http.transport import BODY_LIMIT, ForbiddenAddress, Unsendable
from relay.provider import Request, Response

KEEP_ALIVE = 15.0
"""Seconds that an idle connection is kept: receivers close theirs at some time of their own."""


class AiohttpTransport:
    """One provider's connections. Must be made where an event loop runs."""

    def __init__(
        self,
        *,
        timeout: float,
        concurrency: int,
        allowed: tuple[Network, ...] = (),
        context: ssl.SSLContext | None = None,
    ) -> None:
        """`timeout` in seconds for a whole exchange; `allowed` networks beside the public ones."""
        self._seconds = timeout
        self._timeout = ClientTimeout(total=timeout)
        self._allowed = allowed
        self._concurrency = concurrency
        self._context = context or _context()
        self._sessions: dict[bool, ClientSession] = {}

    async def send(self, request: Request) -> Response:
        try:
            async with self._session(request.public_only).request(
                request.method,
                request.url,
                data=request.body or None,
                headers=request.headers,
                allow_redirects=False,
            ) as response:
                body = await _read(response)
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Response(response.status, headers, body)
        except ForbiddenAddress:
            raise
        except aiohttp.InvalidURL:
            raise Unsendable(f"not a URL: {request.url[:200]}") from None
        except TimeoutError:
            raise TransportError(f"no answer within {self._seconds:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            forbidden = _forbidden(error)
            if forbidden is not None:
                raise forbidden from None
            raise TransportError(_explain(error, request.url)) from error

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()

    def _session(self, public_only: bool) -> ClientSession:
        """Guarded requests have connections of their own: a pooled one was checked when it was opened."""
        session = self._sessions.get(public_only)
        if session is None:
            options: dict[str, Any] = {"socket_factory": self._guarded_socket} if public_only else {}
            connector = TCPConnector(
                limit=self._concurrency, keepalive_timeout=KEEP_ALIVE, ssl=self._context, **options
            )
            session = self._sessions[public_only] = ClientSession(
                connector=connector,
                timeout=self._timeout,
                cookie_jar=DummyCookieJar(),
                headers={"User-Agent": f"relay/{__version__}"},
                auto_decompress=False,
                skip_auto_headers=("Accept-Encoding",),
                trust_env=False,
            )
        return session

    def _guarded_socket(self, address: tuple[Any, ...]) -> socket.socket:
        """Called for each address that a name resolved to, just before connecting to it."""
        family, kind, protocol, _, where = address
        why = refusal(where[0], self._allowed)
        if why is not None:
            raise ForbiddenAddress(f"{why}; `allow_private` opens it")
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body as far as it is of use; what is longer costs its connection."""
    body = bytearray()
    while len(body) < BODY_LIMIT:
        chunk = await response.content.read(BODY_LIMIT - len(body))
        if not chunk:
            return bytes(body)
        body += chunk
    if not response.content.at_eof():
        response.close()
    return bytes(body)


def _forbidden(error: BaseException | None) -> ForbiddenAddress | None:
    """The guard's refusal, wherever the client wrapped it."""
    seen: set[int] = set()
    pending = [error]
    while pending:
        current = pending.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, ForbiddenAddress):
            return current
        pending += (current.__cause__, current.__context__, getattr(current, "os_error", None))
        if isinstance(current, BaseExceptionGroup):
            pending += current.exceptions
    return None


def _explain(error: BaseException, url: str) -> str:
    host = url.partition("://")[2].partition("/")[0].rpartition("@")[2]
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return f"TLS: the certificate of {host} is refused: {error.certificate_error}"
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return f"TLS: {error}"
        case aiohttp.ClientConnectorDNSError():
            return f"DNS: {host} cannot be resolved"
        case aiohttp.ClientConnectorError():
            return f"cannot connect to {host}: {error.os_error.strerror or error.os_error}"
        case aiohttp.ServerDisconnectedError() | ConnectionResetError():
            return f"{host} closed the connection before it answered"
        case aiohttp.ClientPayloadError():
            return f"{host} broke off its answer"
        case aiohttp.ClientResponseError():
            return f"{host} did not answer in HTTP: {error.message[:100]}"
    return f"{type(error).__name__}: {str(error)[:200]}"

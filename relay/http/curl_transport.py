"""HTTP/1.1 through libcurl in the event loop, for fixed hosts."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pycurl

from relay import __version__
from relay.http.curl_multi import Multi, open_multi
from relay.http.curl_reasons import Code, Failure, explain
from relay.http.sendable import check_headers, check_origin
from relay.http.transport import BODY_LIMIT, IDLE_TOO_LONG
from relay.provider import Request, Response

KEEP_ALIVE = 15.0
"""Seconds that an idle connection is kept: receivers close theirs at some time of their own."""

_END = (b"\r\n", b"\n")
_EXACT = re.compile(r"[!-~]+")


class CurlTransport:
    """One provider's connections. They are made at the first request: idle providers cost nothing.

    What the library sends again by itself, over a new connection, is what one that had served before did not
    answer with a single byte: the other side may have closed it, idle, before the request was there. A task
    that is cancelled takes its request back.
    """

    def __init__(
        self,
        *,
        timeout: float,
        concurrency: int,
        ca: str | None = None,
        identity: tuple[str, str] | None = None,
        proxy: str | None = None,
        connections: int | None = None,
    ) -> None:
        """`timeout` in seconds for a whole exchange. `ca` and `identity` (certificate, key) are PEM.

        `connections`: the most at a time, for which requests then wait; None: `concurrency`.
        """
        self._seconds = timeout
        self._most = min(connections or concurrency, concurrency)
        self._ca = ca
        self._identity = identity
        self._proxy = proxy
        self._multi: Multi | None = None
        self._idle: list[_Exchange] = []
        self._busy = 0
        self._used = 0.0
        self._reaper: asyncio.Task[None] | None = None

    async def send(self, request: Request) -> Response:
        check_origin(request.url)
        check_headers(request.headers)
        exchange = self._idle.pop() if self._idle else _Exchange(self._options())
        exchange.prepare(request)
        multi = self._multi or self._open()
        self._busy += 1
        try:
            response = await _perform(multi, exchange)
            if response.status == IDLE_TOO_LONG and not exchange.curl.getinfo(pycurl.NUM_CONNECTS):
                # The first word on a connection that had served before: it had been idle for too long.
                response = await _perform_anew(multi, exchange)
        except pycurl.error as error:
            failure = Failure.of(error, exchange.curl, answering=exchange.answering)
            proxied = self._proxy is not None
            raise explain(failure, request.url, seconds=self._seconds, proxied=proxied) from None
        finally:
            self._busy -= 1
            self._used = time.monotonic()
        self._idle.append(exchange)
        return response

    async def close(self) -> None:
        if self._reaper is not None:
            self._reaper.cancel()
        await self._close_all()

    def _open(self) -> Multi:
        self._multi = open_multi()
        self._multi.setopt(pycurl.M_MAXCONNECTS, self._most)
        self._multi.setopt(pycurl.M_MAX_TOTAL_CONNECTIONS, self._most)
        self._reaper = asyncio.create_task(self._reap())
        return self._multi

    async def _reap(self) -> None:
        """Close what has been idle for too long: by itself the library does so at the next request only."""
        left = KEEP_ALIVE
        while self._busy or left > 0:
            await asyncio.sleep(max(left, 1.0))
            left = self._used + KEEP_ALIVE - time.monotonic()
        await self._close_all()

    async def _close_all(self) -> None:
        multi, self._multi = self._multi, None
        self._idle.clear()
        if multi is not None:
            await multi.aclose()

    def _options(self) -> dict[int, Any]:
        milliseconds = max(1, round(self._seconds * 1000))
        options: dict[int, Any] = {
            pycurl.NOSIGNAL: 1,
            # It is allocated for each request; 64 KiB, its default, make malloc tidy up each time.
            pycurl.UPLOAD_BUFFERSIZE: 16384,
            pycurl.PROTOCOLS: pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS,
            pycurl.PATH_AS_IS: 1,
            pycurl.USERAGENT: f"relay/{__version__}",
            pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
            pycurl.TIMEOUT_MS: milliseconds,
            # Shared out among a name's addresses: one that is dead leaves time for the others.
            pycurl.CONNECTTIMEOUT_MS: max(1, milliseconds // 2),
            pycurl.MAXAGE_CONN: round(KEEP_ALIVE),
            pycurl.SSLVERSION: pycurl.SSLVERSION_TLSv1_2,
            # Empty: no proxy of the environment, and none of its exceptions.
            pycurl.PROXY: self._proxy or "",
            pycurl.NOPROXY: "",
        }
        file, folder = _system_authorities()
        if file:
            options[pycurl.CAINFO] = file
        if folder:
            options[pycurl.CAPATH] = folder
        if self._ca:
            system = Path(file).read_text() if file else ""
            options[pycurl.CAINFO_BLOB] = f"{system}\n{self._ca}"
        if self._identity:
            options[pycurl.SSLCERT_BLOB], options[pycurl.SSLKEY_BLOB] = self._identity
        return options


async def _perform(multi: Multi, exchange: _Exchange) -> Response:
    """Raises pycurl.error."""
    try:
        await multi.perform(exchange.curl)
    except pycurl.error:
        if not exchange.cut:
            raise
    return exchange.response()


async def _perform_anew(multi: Multi, exchange: _Exchange) -> Response:
    """The same over a new connection. Raises pycurl.error."""
    exchange.forget()
    exchange.curl.setopt(pycurl.FRESH_CONNECT, 1)
    try:
        return await _perform(multi, exchange)
    finally:
        exchange.curl.setopt(pycurl.FRESH_CONNECT, 0)


class _Exchange:
    """An easy handle and what it has received. To set one up costs as much as a request: they are kept."""

    __slots__ = ("_lines", "_parts", "_shape", "_size", "_url", "curl", "cut")

    def __init__(self, options: Mapping[int, Any]) -> None:
        self.curl = pycurl.Curl()
        for option, value in options.items():
            self.curl.setopt(option, value)
        self.cut = False
        """Whether the answer's body was more than is of use."""
        self._lines: list[bytes] = []
        self._parts: list[bytes] = []
        self._size = 0
        self._url = ""
        self._shape = ("", False)
        self.curl.setopt(pycurl.HEADERFUNCTION, self._lines.append)
        self.curl.setopt(pycurl.WRITEFUNCTION, self._take)

    def prepare(self, request: Request) -> None:
        curl = self.curl
        if request.url != self._url:
            curl.setopt(pycurl.URL, _wire(request.url))
            self._url = request.url
        has_body = bool(request.body) or request.method not in ("GET", "HEAD")
        if self._shape != (request.method, has_body):
            self._shape = (request.method, has_body)
            curl.setopt(pycurl.HTTPGET, 1)
            curl.setopt(pycurl.NOBODY, int(request.method == "HEAD"))
            curl.setopt(pycurl.CUSTOMREQUEST, request.method)
        if has_body:
            curl.setopt(pycurl.POSTFIELDS, request.body)
        curl.setopt(pycurl.HTTPHEADER, _lines_of(request.headers))
        self.forget()

    def forget(self) -> None:
        """What came is not the answer."""
        self.cut = False
        self._lines.clear()
        self._parts = []
        self._size = 0

    @property
    def answering(self) -> bool:
        """Whether the head of an answer has come to its end."""
        return any(line in _END for line in _last_head(self._lines))

    def response(self) -> Response:
        """Raises pycurl.error where the head of the answer has no end, with which the library is content."""
        if not (self._lines and self._lines[-1] in _END) and not self.answering:
            raise pycurl.error(Code.GOT_NOTHING, "")
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        status = self.curl.getinfo(pycurl.RESPONSE_CODE)
        return Response(status, _Headers(self._lines), body[:BODY_LIMIT])

    def _take(self, part: bytes) -> int | None:
        self._parts.append(part)
        self._size += len(part)
        if self._size > BODY_LIMIT:
            self.cut = True
            return 0
        return None


class _Headers(Mapping[str, str]):
    """Those of the last of the heads that came, with trailers. Few are ever looked at, so few are parsed."""

    __slots__ = ("_lines", "_parsed")

    def __init__(self, lines: Sequence[bytes]) -> None:
        self._lines = tuple(lines)
        self._parsed: dict[str, str] | None = None

    def __getitem__(self, name: str) -> str:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> dict[str, str]:
        if self._parsed is None:
            self._parsed = {}
            for line in _last_head(self._lines)[1:]:
                name, colon, value = line.partition(b":")
                if colon:
                    self._parsed[name.decode("latin-1").lower()] = value.strip().decode("utf-8", "replace")
        return self._parsed


def _last_head(lines: Sequence[bytes]) -> Sequence[bytes]:
    """From the last status on: heads before it are informational, or a proxy's answer to CONNECT."""
    first = max((index for index, line in enumerate(lines) if line[:5] == b"HTTP/"), default=0)
    return lines[first:]


def _lines_of(headers: Mapping[str, str]) -> list[str | bytes]:
    # What the library would add by itself is named without a value.
    lines: list[str | bytes] = ["expect:"]
    if not ("content-type" in headers or any(name.lower() == "content-type" for name in headers)):
        lines.append("content-type:")
    for name, value in headers.items():
        line = f"{name}: {value}" if value else f"{name};"
        lines.append(line if line.isascii() else line.encode())
    return lines


def _wire(url: str) -> str:
    """As it was written, byte for byte; only what no URL may hold is quoted."""
    if _EXACT.fullmatch(url):
        return url
    from yarl import URL  # what is configured seldom needs it

    return str(URL(url))


@lru_cache(maxsize=1)
def _system_authorities() -> tuple[str | None, str | None]:
    """The system's file and folder of certificates, as Python knows them; the library has its builder's."""
    paths = ssl.get_default_verify_paths()
    return paths.cafile, paths.capath

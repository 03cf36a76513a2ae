"""HTTP/1.1 through libcurl in the event loop, for fixed hosts."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pycurl

from relay import __version__
from relay.errors import TransportError
from relay.http.curl_multi import Multi, open_multi
from relay.http.curl_reasons import Code, Failure, explain
from relay.http.request import Request, Response
from relay.http.sendable import check_headers, check_origin
from relay.http.transport import (
    BODY_LIMIT,
    HEAD_LIMIT,
    IDLE_TOO_LONG,
    INFORMATIONAL_LIMIT,
    TOO_MANY_INFORMATIONAL,
    OnAnswer,
)

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

    def begin(self, request: Request, on_answer: OnAnswer) -> _Exchange:
        check_headers(request.headers)
        exchange = self._idle.pop() if self._idle else _Exchange(self._options(), self._ended, self._drop)
        try:
            exchange.prepare(request, on_answer)
            multi = exchange.multi = self._multi or self._open()
            multi.start(exchange.curl, exchange.on_end)
        except pycurl.error as error:
            raise self._explained(error, exchange) from None
        self._busy += 1
        return exchange

    async def send(self, request: Request) -> Response:
        answered: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        on_answer = partial(_tell, answered)
        exchange = self.begin(request, on_answer)
        try:
            return await answered
        except asyncio.CancelledError:
            # Otherwise it has ended, and serves another by now.
            if exchange.on_answer is on_answer:
                exchange.cancel()
            raise

    def _ended(self, exchange: _Exchange, error: pycurl.error | None) -> None:
        answer = exchange.answer(error)
        if isinstance(answer, Response) and answer.status == IDLE_TOO_LONG and exchange.is_reused():
            # The first word on a connection that had served before: it had been idle for too long.
            exchange.start_anew()
            return
        on_answer = exchange.on_answer
        assert on_answer is not None
        self._let_go(exchange)
        if isinstance(answer, Response):
            on_answer(exchange, answer)
            # Not before: until then it is known as the one that has ended.
            self._idle.append(exchange)
        else:
            on_answer(exchange, self._explained(answer, exchange))

    def _drop(self, exchange: _Exchange) -> None:
        if exchange.on_answer is not None:
            exchange.multi.stop(exchange.curl)
            self._let_go(exchange)

    def _let_go(self, exchange: _Exchange) -> None:
        exchange.on_answer = None
        self._busy -= 1
        if not self._busy:
            self._used = time.monotonic()

    def _explained(self, error: pycurl.error, exchange: _Exchange) -> TransportError:
        failure = Failure.of(error, exchange.curl, answering=exchange.answering)
        return explain(failure, exchange.url, seconds=self._seconds, proxied=self._proxy is not None)

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


def _tell(answered: asyncio.Future[Response], _: object, answer: Response | Exception) -> None:
    if answered.done():
        return  # its task was cancelled, and has not heard of it yet
    if isinstance(answer, Exception):
        answered.set_exception(answer)
    else:
        answered.set_result(answer)


class _Exchange:
    """An easy handle and what it has received. To set one up costs as much as a request: they are kept."""

    __slots__ = (
        "_cancel",
        "_is_fresh",
        "_lines",
        "_parts",
        "_shape",
        "_size",
        "curl",
        "cut",
        "multi",
        "on_answer",
        "on_end",
        "url",
    )

    def __init__(
        self,
        options: Mapping[int, Any],
        on_end: Callable[[_Exchange, pycurl.error | None], None],
        cancel: Callable[[_Exchange], None],
    ) -> None:
        self.curl = pycurl.Curl()
        for option, value in options.items():
            self.curl.setopt(option, value)
        self.on_end = partial(on_end, self)
        self._cancel = cancel
        self.multi: Multi
        """What performs it, once it was begun."""
        self.on_answer: OnAnswer | None = None
        """Who waits for the answer, while it is under way."""
        self.cut = False
        """Whether the answer's body was more than is of use."""
        self.url = ""
        self._lines: list[bytes] = []
        self._parts: list[bytes] = []
        self._size = 0
        self._shape = ("", False)
        self._is_fresh = False
        self.curl.setopt(pycurl.HEADERFUNCTION, self._lines.append)
        self.curl.setopt(pycurl.WRITEFUNCTION, self._take)

    def prepare(self, request: Request, on_answer: OnAnswer) -> None:
        """Raises Unsendable or pycurl.error."""
        curl = self.curl
        if request.url != self.url:
            check_origin(request.url)
            curl.setopt(pycurl.URL, _wire(request.url))
            self.url = request.url
        has_body = bool(request.body) or request.method not in ("GET", "HEAD")
        if self._shape != (request.method, has_body):
            self._shape = (request.method, has_body)
            curl.setopt(pycurl.HTTPGET, 1)
            curl.setopt(pycurl.NOBODY, int(request.method == "HEAD"))
            curl.setopt(pycurl.CUSTOMREQUEST, request.method)
        if has_body:
            curl.setopt(pycurl.POSTFIELDS, request.body)
        curl.setopt(pycurl.HTTPHEADER, _lines_of(request.headers))
        if self._is_fresh:
            self._is_fresh = False
            curl.setopt(pycurl.FRESH_CONNECT, 0)
        self._forget()
        self.on_answer = on_answer

    def cancel(self) -> None:
        """Take it back; of one that has ended nothing is left to take."""
        self._cancel(self)

    def is_reused(self) -> bool:
        """Whether it went over a connection that had served before."""
        return not self.curl.getinfo(pycurl.NUM_CONNECTS)

    def start_anew(self) -> None:
        """The same, over a new connection: what came is not the answer."""
        self._forget()
        self._is_fresh = True
        self.curl.setopt(pycurl.FRESH_CONNECT, 1)
        self.multi.start(self.curl, self.on_end)

    def _forget(self) -> None:
        self.cut = False
        self._lines.clear()
        self._parts = []
        self._size = 0

    @property
    def answering(self) -> bool:
        """Whether the head of an answer has come to its end."""
        return any(line in _END for line in _last_head(self._lines))

    def answer(self, error: pycurl.error | None) -> Response | pycurl.error:
        """What came, or why it is no answer: the library is content with a head that has no end."""
        if error is not None and not self.cut:
            return error
        if not (self._lines and self._lines[-1] in _END) and not self.answering:
            return pycurl.error(Code.GOT_NOTHING, "")
        if sum(map(len, self._lines)) > HEAD_LIMIT:  # libcurl itself stops at 300 KiB
            return pycurl.error(Code.TOO_LARGE, "")
        if len(self._lines) > INFORMATIONAL_LIMIT and _informational(self._lines) > INFORMATIONAL_LIMIT:
            return pycurl.error(Code.WEIRD_SERVER_REPLY, TOO_MANY_INFORMATIONAL)
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


def _informational(lines: Sequence[bytes]) -> int:
    """How many heads came before the answer's."""
    return sum(line[:5] == b"HTTP/" and line[9:10] == b"1" for line in lines)


def _lines_of(headers: Mapping[str, str]) -> list[str | bytes]:
    # What the library would add by itself is named without a value.
    lines: list[str | bytes] = ["expect:"]
    if not ("content-type" in headers or any(name.lower() == "content-type" for name in headers)):
        lines.append("content-type:")
    lines += [f"{name}: {value}".encode() if value else f"{name};" for name, value in headers.items()]
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

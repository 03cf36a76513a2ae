"""HTTP/1.1 through libcurl in the event loop."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import pycurl

from relay import __version__
from relay.errors import TransportError
from relay.http.curl_errors import Failure, explain
from relay.http.curl_handle import CurlHandle
from relay.http.curl_multi import Multi, open_multi
from relay.http.curl_transfer import CurlTransfer
from relay.http.guard import Network
from relay.http.handle_pool import HandlePool
from relay.http.reasons import host_of
from relay.http.request import Request, Response
from relay.http.socket_guard import SocketGuard
from relay.http.transport import KEEP_ALIVE, ForbiddenAddress, OnDone, Transport
from relay.http.wire_url import WireUrl

STALE_CONNECTION = 408
"""The status that servers send on an idle connection before they close it. As the first bytes on a reused
connection it is not a response to the request (RFC 9110, 15.5.9)."""


DNS_CACHE_SECONDS = 10
"""Seconds for which addresses of a name are kept, so that a failover by DNS is noticed soon."""


class CurlTransport(Transport):
    """The connections to one provider. They open with the first request, so idle providers cost nothing.

    libcurl sends a request again over a new connection if a reused one ended without a single byte of a
    response: the server had closed the idle connection before the request arrived.
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
        allowed: Sequence[Network] | None = None,
        addresses: Sequence[str] = (),
    ) -> None:
        """`timeout` is in seconds and covers a whole request. `ca` and `identity` (certificate, key) are PEM.

        At most `connections` are open (None: `concurrency`); further requests wait. With `allowed`, only
        public addresses and those networks are reachable; None permits every address. `addresses` replace
        DNS, as HOST:PORT:ADDRESS[,ADDRESS…].
        """
        self._timeout = timeout
        self._max_connections = min(connections or concurrency, concurrency)
        self._proxied = proxy is not None
        self._allowed = None if allowed is None else tuple(allowed)
        self._keep_alive = KEEP_ALIVE
        self._options = _options(timeout, ca, identity, proxy, addresses)
        self._multi: Multi | None = None
        self._url: WireUrl | None = None
        """The URL of the last request."""
        self._handles: HandlePool | None = None
        """Open with the first request, as are the connections."""
        self._in_flight = 0
        self._used_at = 0.0
        self._reaper: asyncio.Task[None] | None = None

    def start(self, request: Request, on_done: OnDone) -> CurlTransfer:
        url = self._url
        if url is None or url.text != request.url:
            url = self._url = WireUrl(request.url, proxied=self._proxied)
        handles = self._handles or self._open_handles()
        handle = handles.take()
        try:
            handle.prepare(request, url)
            multi = self._multi or self._open()
            transfer = CurlTransfer(handle, multi, on_done, self._ended, self._cancel)
            transfer.start()
        except pycurl.error as error:
            raise self._error(handle.failed_to_start(error), handle) from None
        self._in_flight += 1
        return transfer

    async def close(self) -> None:
        if self._reaper is not None:
            self._reaper.cancel()
        await self._close_all()

    def _open_handles(self) -> HandlePool:
        key = (*self._options.items(), self._allowed)
        self._handles = HandlePool.join(key, self._new_handle)
        return self._handles

    def _new_handle(self) -> CurlHandle:
        return CurlHandle(self._options, None if self._allowed is None else SocketGuard(self._allowed))

    def _ended(self, transfer: CurlTransfer, error: pycurl.error | None) -> None:
        handle, on_done = transfer.handle, transfer.on_done
        assert on_done is not None
        result = handle.response(error, self._error)
        if not isinstance(result, Response):
            # The handle is not used again, because its state is unknown.
            self._release(transfer, result)
            on_done(transfer, self._error(result, handle))
            return
        if result.status == STALE_CONNECTION and handle.is_stale():
            handle.prepare_again()
            transfer.start()
            return
        self._release(transfer, result)
        if self._handles is not None:
            self._handles.put_back(handle)
        on_done(transfer, result)

    def _cancel(self, transfer: CurlTransfer) -> None:
        if transfer.on_done is not None:
            transfer.multi.stop(transfer.handle.curl)
            self._release(transfer, None)

    def _release(self, transfer: CurlTransfer, result: Response | Failure | None) -> None:
        """A request has ended with a `result`, or was cancelled (None)."""
        transfer.on_done = None
        self._in_flight -= 1
        if not self._in_flight:
            self._used_at = time.monotonic()

    def _error(self, failure: Failure, handle: CurlHandle) -> TransportError:
        guard, url = handle.guard, handle.url.text if handle.url else ""
        if guard is not None and guard.forbids:
            host = host_of(url)
            return ForbiddenAddress(f"{host}: {guard.refused}; `allow_private` permits it")
        if guard is not None and guard.errno:
            failure = failure.without_socket(guard.errno)
        return explain(failure, url, timeout=self._timeout, proxied=self._proxied)

    def _open(self) -> Multi:
        self._multi = self._open_multi()
        if self._reaper is None or self._reaper.done():
            self._reaper = asyncio.create_task(self._reap())
        return self._multi

    def _open_multi(self) -> Multi:
        multi = open_multi()
        multi.setopt(pycurl.M_MAXCONNECTS, self._max_connections)
        multi.setopt(pycurl.M_MAX_TOTAL_CONNECTIONS, self._max_connections)
        return multi

    async def _reap(self) -> None:
        """Close connections that were idle for too long. libcurl itself does so only at the next request."""
        left = self._keep_alive
        while self._in_flight or left > 0:
            await asyncio.sleep(max(left, 1.0))
            left = self._used_at + self._keep_alive - time.monotonic()
        await self._close_all()

    async def _close_all(self) -> None:
        multi, self._multi = self._multi, None
        handles, self._handles = self._handles, None
        if handles is not None:
            handles.leave()
        if multi is not None:
            await multi.aclose()


def _options(
    timeout: float,
    ca: str | None,
    identity: tuple[str, str] | None,
    proxy: str | None,
    addresses: Sequence[str],
) -> dict[int, Any]:
    """Return the options of every easy handle."""
    milliseconds = max(1, round(timeout * 1000))
    options: dict[int, Any] = {
        pycurl.NOSIGNAL: 1,
        pycurl.PROTOCOLS: pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS,
        pycurl.PATH_AS_IS: 1,
        pycurl.USERAGENT: f"relay/{__version__}",
        pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
        pycurl.TIMEOUT_MS: milliseconds,
        # Shared by the addresses of a name, so that a dead one leaves time for the others.
        pycurl.CONNECTTIMEOUT_MS: max(1, milliseconds // 2),
        pycurl.MAXAGE_CONN: round(KEEP_ALIVE),
        pycurl.DNS_CACHE_TIMEOUT: DNS_CACHE_SECONDS,
        pycurl.SSLVERSION: pycurl.SSLVERSION_TLSv1_2,
        # Empty: ignore proxies of the environment, and their exceptions.
        pycurl.PROXY: proxy or "",
        pycurl.NOPROXY: "",
    }
    options |= _authorities(ca)
    if identity:
        options[pycurl.SSLCERT_BLOB], options[pycurl.SSLKEY_BLOB] = identity
    if addresses:
        options[pycurl.RESOLVE] = tuple(addresses)
    return options


@lru_cache(maxsize=64)
def _authorities(ca: str | None) -> dict[int, Any]:
    """Return the path of the system's certificate authorities (as Python finds them) with those of `ca`
    (PEM).

    libcurl parses them once if they are a single file, and otherwise for each connection (20 ms of CPU).
    """
    paths = ssl.get_default_verify_paths()
    if ca is None:
        if paths.cafile:
            return {pycurl.CAINFO: paths.cafile}
        return {pycurl.CAPATH: paths.capath} if paths.capath else {}
    pem = f"{Path(paths.cafile).read_text() if paths.cafile else ''}\n{ca}"
    options: dict[int, Any] = {}
    with suppress(AttributeError, OSError):  # not Linux, or no free descriptor
        file = os.memfd_create("certificate authorities")
        os.write(file, pem.encode())
        path = Path(f"/proc/self/fd/{file}")
        if path.exists():
            options[pycurl.CAINFO] = str(path)
    if not options:
        options[pycurl.CAINFO_BLOB] = pem
    if not paths.cafile and paths.capath:
        options[pycurl.CAPATH] = paths.capath
    return options

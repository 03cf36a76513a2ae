"""An easy handle of libcurl, and the data that it receives for one request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pycurl

from relay.errors import TransportError
from relay.http.curl_errors import Code, Failure
from relay.http.request import Request, Response
from relay.http.response_body import readable
from relay.http.response_head import (
    ENDS,
    Headers,
    accepted,
    final_head_ended,
    informational_heads,
)
from relay.http.socket_guard import SocketGuard
from relay.http.transport import (
    BODY_LIMIT,
    HEAD_LIMIT,
    INFORMATIONAL_LIMIT,
)
from relay.http.validate import check_headers
from relay.http.wire_url import WireUrl

TOO_MANY_INFORMATIONAL = f"it sent more than {INFORMATIONAL_LIMIT} informational responses (1xx)"

SMALL_BODY = 14 * 1024
"""Maximum bytes of a body that fits into one buffer of libcurl together with usual headers."""

SMALL_BUFFER = 16 * 1024
"""Bytes that libcurl sends at once, and allocates for each request: for small bodies, more would only cost
memory."""

LARGE_BUFFER = 64 * 1024
"""The same for larger bodies: each further piece costs a write, two changes of epoll and a wake-up."""


class CurlHandle:
    """Serves one request after another, because setting one up costs as much as a request."""

    __slots__ = (
        "_cut",
        "_has_target",
        "_is_fresh",
        "_lines",
        "_parts",
        "_shape",
        "_size",
        "curl",
        "guard",
        "url",
    )

    def __init__(self, options: Mapping[int, Any], guard: SocketGuard | None = None) -> None:
        self.curl = pycurl.Curl()
        for option, value in options.items():
            self.curl.setopt(option, value)
        self.guard = guard
        if guard is not None:
            self.curl.setopt(pycurl.OPENSOCKETFUNCTION, guard.open)
        self.url: WireUrl | None = None
        """The URL of the request."""
        self._has_target = False
        self._cut = False
        self._lines: list[bytes] = []
        self._parts: list[bytes] = []
        self._size = 0
        self._shape = ("", False, False)
        """Method, whether there is a body, and whether it is large."""
        self._is_fresh = False
        self.curl.setopt(pycurl.HEADERFUNCTION, self._lines.append)
        self.curl.setopt(pycurl.WRITEFUNCTION, self._receive)

    def prepare(self, request: Request, url: WireUrl) -> None:
        """Set the options of a request to this URL. Raises Unsendable or pycurl.error."""
        check_headers(request.headers)
        curl = self.curl
        if url is not self.url:
            self.url = url
            self._set_url(url)
        size = len(request.body)
        has_body = size > 0 or request.method not in ("GET", "HEAD")
        if self._shape != (request.method, has_body, size > SMALL_BODY):
            self._shape = (request.method, has_body, size > SMALL_BODY)
            curl.setopt(pycurl.HTTPGET, 1)
            curl.setopt(pycurl.NOBODY, int(request.method == "HEAD"))
            curl.setopt(pycurl.CUSTOMREQUEST, request.method)
            curl.setopt(pycurl.UPLOAD_BUFFERSIZE, LARGE_BUFFER if size > SMALL_BODY else SMALL_BUFFER)
        if has_body:
            curl.setopt(pycurl.POSTFIELDS, request.body)
        curl.setopt(pycurl.HTTPHEADER, _header_lines(request.headers))
        if self._is_fresh:
            self._is_fresh = False
            curl.setopt(pycurl.FRESH_CONNECT, 0)
        self._reset()

    def _set_url(self, url: WireUrl) -> None:
        self.curl.setopt(pycurl.URL, url.on_wire)
        # The option cannot be unset.
        if url.has_own_target or self._has_target:
            self._has_target = True
            self.curl.setopt(pycurl.REQUEST_TARGET, url.target)

    @property
    def spoke_http1(self) -> bool:
        """Whether the response came over HTTP/1.0 or HTTP/1.1."""
        return bool(self.curl.getinfo(pycurl.INFO_HTTP_VERSION) < pycurl.CURL_HTTP_VERSION_2)

    def is_stale(self) -> bool:
        """Return whether the connection served another request before, and one at a time (HTTP/1.1)."""
        return self.spoke_http1 and not self.curl.getinfo(pycurl.NUM_CONNECTS)

    def prepare_again(self) -> None:
        """Prepare the same request for a new connection, and discard the received data."""
        self._reset()
        self._is_fresh = True
        self.curl.setopt(pycurl.FRESH_CONNECT, 1)

    def response(
        self, error: pycurl.error | None, explain: Callable[[Failure, CurlHandle], TransportError]
    ) -> Response | Failure:
        """Return the response, or the error. `explain` describes a failure."""
        lines, heads = self._lines, b"".join(self._lines)
        problem: pycurl.error | None = None
        if error is not None and not self._cut:
            problem = error
        elif not (lines and lines[-1] in ENDS) and not final_head_ended(lines):
            problem = pycurl.error(Code.GOT_NOTHING, "")  # libcurl accepts a head without an end
        elif len(heads) > HEAD_LIMIT:  # libcurl's own limit is 300 KiB
            problem = pycurl.error(Code.TOO_LARGE, "")
        elif len(lines) > INFORMATIONAL_LIMIT and informational_heads(lines) > INFORMATIONAL_LIMIT:
            return self._failure(pycurl.error(Code.WEIRD_SERVER_REPLY, TOO_MANY_INFORMATIONAL))
        incomplete = None
        if problem is not None:
            failure = self._failure(problem)
            if not self._was_accepted(failure):
                return failure
            incomplete = str(explain(failure, self))
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        headers = Headers(heads)
        # Hardly any body begins with the first byte of gzip or of a byte order mark.
        if body[:1] in (b"\x1f", b"\xef") or self._cut:
            body, missing = readable(body, headers)
            incomplete = incomplete or missing
        return Response(self.curl.getinfo(pycurl.RESPONSE_CODE), headers, body, incomplete)

    def _was_accepted(self, failure: Failure) -> bool:
        return failure.connected and accepted(self._lines, HEAD_LIMIT, by_tunnel=failure.tunnel > 0)

    def _failure(self, error: pycurl.error) -> Failure:
        return Failure.of(error, self.curl, answering=final_head_ended(self._lines))

    def failed_to_start(self, error: pycurl.error) -> Failure:
        """Return the error if `prepare` or the start of a transfer failed."""
        return self._failure(error)

    def _reset(self) -> None:
        self._cut = False
        self._lines.clear()
        self._parts = []
        self._size = 0
        if self.guard is not None:
            self.guard.reset()

    def _receive(self, part: bytes) -> int | None:
        self._parts.append(part)
        self._size += len(part)
        if self._size > BODY_LIMIT:
            self._cut = True
            return 0
        return None


def _header_lines(headers: Mapping[str, str]) -> list[str | bytes]:
    # A name without a value removes the header that libcurl would add.
    lines: list[str | bytes] = ["expect:"]
    if not ("content-type" in headers or any(name.lower() == "content-type" for name in headers)):
        lines.append("content-type:")
    lines += [f"{name}: {value}".encode() if value else f"{name};" for name, value in headers.items()]
    return lines

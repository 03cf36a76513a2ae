"""Describes errors of libcurl in one line for people."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import IntEnum
from http import HTTPStatus
from typing import Self

import pycurl

from relay.errors import Exhausted, TransportError
from relay.http.reasons import EXHAUSTED, host_of, text_of
from relay.http.transport import ProxyCredentialsRequired, Unsendable
from relay.text import excerpt


class Code(IntEnum):
    """The codes of libcurl-errors(3) that have their own text here."""

    UNSUPPORTED_PROTOCOL = 1
    URL_MALFORMAT = 3
    COULDNT_RESOLVE_PROXY = 5
    COULDNT_RESOLVE_HOST = 6
    COULDNT_CONNECT = 7
    WEIRD_SERVER_REPLY = 8
    HTTP2 = 16
    PARTIAL_FILE = 18
    OUT_OF_MEMORY = 27
    OPERATION_TIMEDOUT = 28
    SSL_CONNECT_ERROR = 35
    BAD_FUNCTION_ARGUMENT = 43
    GOT_NOTHING = 52
    SEND_ERROR = 55
    RECV_ERROR = 56
    SSL_CERTPROBLEM = 58
    PEER_FAILED_VERIFICATION = 60
    HTTP2_STREAM = 92
    TOO_LARGE = 100


_OPENSSL = re.compile(r"^.*error:[0-9A-F]+:[^:]*:[^:]*:")
_NO_HTTP2 = "while we expected SETTINGS frame"
_CERTIFICATE = re.compile(r"^SSL(?: certificate OpenSSL verify result)?: ")


@dataclass(frozen=True, slots=True)
class Failure:
    """The failure of a transfer: libcurl's code and text, and the progress until then."""

    code: int
    words: str
    errno: int
    """The error number of the socket; 0: none."""
    connected: bool
    """Whether all handshakes were done, so that the request may have been sent."""
    status: int
    """The status of the response if its final head was complete, otherwise 0."""
    tunnel: int
    """The status of a proxy's response to CONNECT; 0: none."""

    @classmethod
    def of(cls, error: pycurl.error, curl: pycurl.Curl, *, answering: bool) -> Self:
        """Read a failed transfer. `answering`: the head of the response was complete."""
        # An error without a code: libcurl found no descriptors or no memory to begin with.
        code, words = error.args[:2] if len(error.args) > 1 else (Code.OUT_OF_MEMORY, str(error))
        status = curl.getinfo(pycurl.RESPONSE_CODE) if answering else 0
        return cls(
            code,
            words,
            curl.getinfo(pycurl.OS_ERRNO),
            curl.getinfo(pycurl.PRETRANSFER_TIME) > 0,
            status if status >= HTTPStatus.OK else 0,
            curl.getinfo(pycurl.HTTP_CONNECTCODE),
        )

    def without_socket(self, number: int) -> Self:
        """Return the same failure, caused by a socket that could not be opened. libcurl does not see that
        error number."""
        return replace(self, errno=number, connected=False)


def explain(failure: Failure, url: str, *, timeout: float, proxied: bool) -> TransportError:
    """Return the exception for a request to `url`. `proxied`: through a proxy."""
    words = excerpt(failure.words)
    if failure.code in (Code.URL_MALFORMAT, Code.BAD_FUNCTION_ARGUMENT):
        return Unsendable(f"the request cannot be sent: {words}")
    host = host_of(url)
    reason = _before_response(failure, host, words, timeout, proxied) or _in_http(failure, host, words)
    if failure.tunnel == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return ProxyCredentialsRequired(f"{reason} (it requires credentials)")
    if not failure.connected and (failure.errno in EXHAUSTED or failure.code == Code.OUT_OF_MEMORY):
        return Exhausted(reason)
    return TransportError(reason)


def _before_response(failure: Failure, host: str, words: str, timeout: float, proxied: bool) -> str | None:
    """Return the reason if the request did not reach the server, or took too long."""
    if failure.tunnel >= HTTPStatus.MULTIPLE_CHOICES:
        return f"the proxy did not connect to {host}: it answered {failure.tunnel}"
    match failure.code:
        case Code.OPERATION_TIMEDOUT if failure.status:
            return f"{host} did not finish its answer within {timeout:g} s (status {failure.status})"
        case Code.OPERATION_TIMEDOUT if failure.connected or words.startswith("Operation"):
            return f"no answer within {timeout:g} s"
        case Code.OPERATION_TIMEDOUT:
            return f"cannot connect to {host}: no answer within {timeout / 2:g} s"
        case Code.COULDNT_RESOLVE_HOST:
            return f"DNS: {host} cannot be resolved: {words}"
        case Code.COULDNT_RESOLVE_PROXY:
            return f"DNS: the proxy cannot be resolved: {words}"
        case Code.COULDNT_CONNECT:
            why = text_of(failure.errno) if failure.errno else words
            return f"cannot connect to {'the proxy' if proxied else host}: {why}"
        case Code.PEER_FAILED_VERIFICATION:
            return f"TLS: the certificate of {host} is refused: {_CERTIFICATE.sub('', words)}"
        case Code.SSL_CONNECT_ERROR | Code.SSL_CERTPROBLEM:
            return f"TLS: {host}: {_OPENSSL.sub('', words)}"
    return None


def _in_http(failure: Failure, host: str, words: str) -> str:
    status = f" (status {failure.status})" if failure.status else ""
    match failure.code:
        case Code.WEIRD_SERVER_REPLY | Code.UNSUPPORTED_PROTOCOL:
            return f"{host} did not answer in HTTP: {words}"
        case Code.TOO_LARGE:
            return f"{host} did not answer in HTTP: its headers are too long"
        case Code.RECV_ERROR if words.startswith(("chunk", "nghttp2")):
            return f"{host} did not answer in HTTP: {words}"
        case Code.PARTIAL_FILE:
            return f"{host} ended its answer early{status}"
        case Code.HTTP2 if _NO_HTTP2 in words:
            return f"{host} does not speak HTTP/2, and this provider needs it"
        case Code.SEND_ERROR | Code.RECV_ERROR if words.startswith("Connection died, tried"):
            return f"{host} refused the request, or closed the connection, again and again"
        case Code.HTTP2_STREAM if words:
            return f"{host} ended the exchange: {words}"
        case Code.HTTP2 | Code.GOT_NOTHING | Code.RECV_ERROR | Code.SEND_ERROR:
            if failure.status:
                return f"{host} ended its answer early{status}"
            return f"{host} closed the connection before it answered"
    return f"{host}: {words or f'error {failure.code} of libcurl'}"

"""Why no answer came, as one line for people, from what libcurl says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from http import HTTPStatus
from typing import Self

import pycurl

from relay.errors import Exhausted, TransportError
from relay.http.reasons import EXHAUSTED, cut, host_of, words_of
from relay.http.transport import Unsendable


class Code(IntEnum):
    """How a transfer ended: those of libcurl-errors(3) that have words of their own here."""

    UNSUPPORTED_PROTOCOL = 1
    URL_MALFORMAT = 3
    COULDNT_RESOLVE_PROXY = 5
    COULDNT_RESOLVE_HOST = 6
    COULDNT_CONNECT = 7
    WEIRD_SERVER_REPLY = 8
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
    TOO_LARGE = 100


_OPENSSL = re.compile(r"^.*error:[0-9A-F]+:[^:]*:[^:]*:")
_CERTIFICATE = re.compile(r"^SSL(?: certificate OpenSSL verify result)?: ")


@dataclass(frozen=True, slots=True)
class Failure:
    """How a transfer ended: libcurl's code and words, and how far it had come."""

    code: int
    words: str
    errno: int
    """Of the socket; 0: none."""
    connected: bool
    """Whether the request could be sent, handshakes and all."""
    answering: bool
    """Whether the head of an answer had come."""
    tunnel: int
    """The status by which a proxy answered CONNECT; 0: none."""

    @classmethod
    def of(cls, error: pycurl.error, curl: pycurl.Curl, *, answering: bool) -> Self:
        """What is known of a transfer of `curl` that ended with this error."""
        code, words = error.args[:2]
        return cls(
            code,
            words,
            curl.getinfo(pycurl.OS_ERRNO),
            curl.getinfo(pycurl.PRETRANSFER_TIME) > 0,
            answering,
            curl.getinfo(pycurl.HTTP_CONNECTCODE),
        )


def explain(failure: Failure, url: str, *, seconds: float, proxied: bool) -> TransportError:
    """What is raised for a request to `url` with a time-out of `seconds`. `proxied`: it went by a proxy."""
    words = cut(failure.words)
    if failure.code in (Code.URL_MALFORMAT, Code.BAD_FUNCTION_ARGUMENT):
        return Unsendable(f"the request cannot be sent: {words}")
    host = host_of(url)
    reason = _on_the_way(failure, host, words, seconds, proxied) or _in_http(failure, host, words)
    if not failure.connected and (failure.errno in EXHAUSTED or failure.code == Code.OUT_OF_MEMORY):
        return Exhausted(reason)
    return TransportError(reason)


def _on_the_way(failure: Failure, host: str, words: str, seconds: float, proxied: bool) -> str | None:
    """The reason, where the request did not reach the other side, or only too late."""
    if failure.tunnel >= HTTPStatus.MULTIPLE_CHOICES:
        return f"the proxy did not connect to {host}: it said {failure.tunnel}"
    match failure.code:
        case Code.OPERATION_TIMEDOUT if failure.connected or words.startswith("Operation"):
            return f"no answer within {seconds:g} s"
        case Code.OPERATION_TIMEDOUT:
            return f"cannot connect to {host}: no answer within {seconds / 2:g} s"
        case Code.COULDNT_RESOLVE_HOST:
            return f"DNS: {host} cannot be resolved: {words}"
        case Code.COULDNT_RESOLVE_PROXY:
            return f"DNS: the proxy cannot be resolved: {words}"
        case Code.COULDNT_CONNECT:
            why = words_of(failure.errno) if failure.errno else words
            return f"cannot connect to {'the proxy' if proxied else host}: {why}"
        case Code.PEER_FAILED_VERIFICATION:
            return f"TLS: the certificate of {host} is refused: {_CERTIFICATE.sub('', words)}"
        case Code.SSL_CONNECT_ERROR | Code.SSL_CERTPROBLEM:
            return f"TLS: {host}: {_OPENSSL.sub('', words)}"
    return None


def _in_http(failure: Failure, host: str, words: str) -> str:
    match failure.code:
        case Code.WEIRD_SERVER_REPLY | Code.UNSUPPORTED_PROTOCOL:
            return f"{host} did not answer in HTTP: {words}"
        case Code.TOO_LARGE:
            return f"{host} did not answer in HTTP: its headers are too long"
        case Code.RECV_ERROR if words.startswith("chunk"):
            return f"{host} did not answer in HTTP: {words}"
        case Code.PARTIAL_FILE:
            return f"{host} broke off its answer"
        case Code.GOT_NOTHING | Code.RECV_ERROR | Code.SEND_ERROR:
            what = "broke off its answer" if failure.answering else "closed the connection before it answered"
            return f"{host} {what}"
    return f"{host}: {words or f'libcurl says {failure.code}'}"

"""Errors of pyreqwest as one line for people, from their chain of causes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from relay.http.reasons import EXHAUSTED, WORDS, cut, host_of

_ERRNO = re.compile(r" \(os error (\d+)\)$")
_PEER_ERROR = re.compile(r"^(?:stream|connection) error received: (.*)$")
_REFUSED_STREAM = "refused stream before processing any application logic"
_PROXY_CREDENTIALS = "proxy authorization required"
PING_TIMED_OUT = "keep-alive timed out"
_NOT_HTTP2 = ("frame with invalid size", "not a result of an error")
_CLOSED = ("connection closed", "broken pipe", "connection reset", "unexpected end of file", "eof")
_NO_CLOSE_NOTIFY = "peer closed connection without sending TLS close_notify"
CONNECTING = "client error (Connect)"
_BAD_ANSWER = ("invalid HTTP", "message head is too large", "invalid content-length", "invalid chunk")


def explain_causes(causes: list[str], url: str, *, http2: bool = False) -> str:
    """Why a request to `url` failed. `http2`: only HTTP/2 was offered.

    `causes` are the texts of reqwest, hyper, h2 and rustls, the outermost first.
    """
    host, last = host_of(url), causes[-1]
    if found := _ERRNO.search(last):
        number = int(found[1])
        last = WORDS.get(number) or os.strerror(number).lower()
    if "dns error" in causes:
        return f"DNS: {host} cannot be resolved: {cut(last)}"
    if "tcp connect error" in causes:
        return f"cannot connect to {host}: {cut(last)}"
    if any("tunnel" in cause or "proxy" in cause for cause in causes):
        return f"the proxy did not connect to {host}: {cut(last)}"
    if any("certificate" in cause for cause in causes):
        return f"TLS: the certificate of {host} is refused: {cut(last)}"
    if any(_NO_CLOSE_NOTIFY in cause for cause in causes):
        return f"{host} broke off {'its answer' if _in_body(causes) else 'the connection'}"
    if any("tls" in cause.lower() or "InvalidContentType" in cause for cause in causes):
        return f"TLS: {host}: {cut(last)}"
    if PING_TIMED_OUT in causes:
        return f"{host} answered neither the request nor a PING; its connection was given up"
    return _in_http(host, causes, last, http2)


def _in_http(host: str, causes: list[str], last: str, http2: bool) -> str:
    if any(_REFUSED_STREAM in cause for cause in causes):
        return f"{host} refused the request before it processed it (REFUSED_STREAM)"
    for cause in causes:
        if found := _PEER_ERROR.match(cause):
            # The debug data of a GOAWAY of APNs contains its reason.
            return f"{host} ended the exchange: {cut(found[1])}"
    if http2 and any(text in last for text in _NOT_HTTP2):
        return f"{host} does not speak HTTP/2, and this provider needs it"
    if _in_body(causes):
        return f"{host} broke off its answer"
    if any(text in cause for cause in causes for text in _BAD_ANSWER):
        return f"{host} did not answer in HTTP: {cut(last)}"
    if last in (WORDS.values()) or any(text in cause.lower() for cause in causes for text in _CLOSED):
        return f"{host} closed the connection before it answered"
    return f"{host}: {cut(last)}"


def is_refused_by_proxy(causes: list[str]) -> bool:
    """Whether the proxy requires other credentials than ours (407)."""
    return any(_PROXY_CREDENTIALS in cause for cause in causes)


def is_exhaustion(causes: list[str]) -> bool:
    """Whether this process or this host has run out of a resource."""
    found = _ERRNO.search(causes[-1])
    return found is not None and int(found[1]) in EXHAUSTED


def _in_body(causes: list[str]) -> bool:
    return "error reading a body from connection" in causes or "request or response body error" in causes


def causes_of(details: Mapping[str, object]) -> list[str]:
    """The texts of a pyreqwest error and its causes, the outermost first; never empty."""
    causes = details.get("causes")
    found = [str(cause["message"]) for cause in causes] if isinstance(causes, list) else []
    return found or ["unknown error"]

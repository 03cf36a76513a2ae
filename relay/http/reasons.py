"""Why no answer came, as one line for people: the client's own words are for programmers."""

from __future__ import annotations

import errno
import os
import ssl

import aiohttp

_LONGEST = 200
"""Characters of a foreign text in a reason."""


def explain(error: BaseException, url: str) -> str:
    """One line on an error of aiohttp, of TLS or of a socket, while `url` was asked."""
    host = host_of(url)
    match error:
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return f"not a URL: {cut(url)}"
        case UnicodeError():
            return f"not a host name: {cut(host)}"
        case aiohttp.ClientConnectorCertificateError():
            return f"TLS: the certificate of {host} is refused: {cut(str(error.certificate_error))}"
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return f"TLS: {host}: {cut(_tls(error))}"
        case aiohttp.ClientConnectorDNSError():
            return f"DNS: {host} cannot be resolved: {cut(_system(error.os_error))}"
        case aiohttp.ClientConnectorError() if _in_handshake(error.os_error):
            return f"TLS: {host} broke off the handshake"
        case aiohttp.ClientConnectorError():
            return f"cannot connect to {host}: {cut(_system(error.os_error))}"
        case aiohttp.ServerDisconnectedError() | ConnectionResetError() | BrokenPipeError():
            return f"{host} closed the connection before it answered"
        case aiohttp.ClientOSError() if error.errno in (errno.ECONNRESET, errno.EPIPE):
            return f"{host} closed the connection before it answered"
        case aiohttp.ClientPayloadError():
            return f"{host} broke off its answer"
        case aiohttp.ClientResponseError():
            return f"{host} did not answer in HTTP: {cut(error.message)}"
        case ValueError():
            return f"the request cannot be sent: {cut(str(error))}"
    return f"{host}: {type(error).__name__}: {cut(str(error))}"


def host_of(url: str) -> str:
    """Host and port of a URL, whatever is wrong with it, without credentials, as one printable line."""
    rest = url.partition("://")[2]
    for end in "/?#":
        rest = rest.partition(end)[0]
    return cut(rest.rpartition("@")[2])


def _tls(error: BaseException) -> str:
    """OpenSSL's reason without its file and line."""
    cause = getattr(error, "os_error", error)
    reason = getattr(cause, "reason", None)
    return str(reason).lower().replace("_", " ") if reason else str(cause)


def _in_handshake(error: OSError) -> bool:
    """Whether a connection ended that the system had opened: it gives no number then."""
    return isinstance(error, ConnectionResetError) and error.errno is None


def _system(error: OSError) -> str:
    """The system's words. A connection that failed says "Connect call failed" where its number says why."""
    if error.errno is not None and error.errno > 0:
        return words_of(error.errno)
    return error.strerror or str(error)


def words_of(number: int) -> str:
    """What the system calls an error number, in lower case as within a sentence."""
    return WORDS.get(number) or os.strerror(number).lower()


WORDS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.EHOSTUNREACH: "no route to the host",
    errno.ENETUNREACH: "the network is unreachable",
    errno.ETIMEDOUT: "no answer from the host",
    errno.EMFILE: "too many open files in this process",
    errno.ENFILE: "too many open files on this host",
    errno.EADDRNOTAVAIL: "no free local port",
}


def cut(text: str) -> str:
    """One printable line."""
    line = " ".join(text[: 2 * _LONGEST].split())
    return "".join(character if character.isprintable() else "?" for character in line)[:_LONGEST]

"""Why no answer came, as one line for people, from the errors of aiohttp."""

from __future__ import annotations

import errno
import ssl

import aiohttp

from relay.http.reasons import cut, host_of, words_of


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

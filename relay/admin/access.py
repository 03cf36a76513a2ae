"""Access to relay's own HTTP servers: with a token, or from this host by one of its own names.

Pages in a browser must be kept out. A page can reach a server on loopback by a name that was bound to
127.0.0.1 (DNS rebinding), which shows in the Host header, and can send requests whose answers it cannot read,
which shows in `Sec-Fetch-Site` and `Origin`.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Literal
from urllib.parse import urlsplit

from aiohttp import web

from relay.settings.models import is_loopback

Challenge = Literal["Bearer", "Basic"]

_READS = frozenset({"GET", "HEAD", "OPTIONS"})


def refusal(request: web.Request, token: str, challenge: Challenge = "Bearer") -> web.Response | None:
    """Return the answer to a request that is not admitted; None if it is.

    With the challenge `Basic`, the token is also accepted as a password with any user name, because browsers
    can prompt for one. Without a token, the request must be addressed to a name of this host.
    """
    if not token and not is_local(request.host):
        return web.Response(status=421, text="use 127.0.0.1 or localhost in the URL, or set a token\n")
    if request.method not in _READS and not _is_same_origin(request):
        return web.Response(status=403, text="refused: the request comes from a page of another origin\n")
    if token and not _brings(request.headers.get("Authorization", ""), token, challenge):
        return web.Response(
            status=401,
            text="send `Authorization: Bearer TOKEN` with the token\n",
            headers={"WWW-Authenticate": f'{challenge} realm="relay"' if challenge == "Basic" else challenge},
        )
    return None


def is_local(host: str) -> bool:
    """Return whether a Host header is a loopback name of this host; with any port, because the port may be
    forwarded."""
    _, colon, port = host.rpartition(":")
    return is_loopback(host.lower() if colon and port.isdecimal() else f"{host.lower()}:0")


def _is_same_origin(request: web.Request) -> bool:
    """Return whether the request comes from a page of this origin, or from a program, which sends neither
    header."""
    if request.headers.get("Sec-Fetch-Site", "none").lower() not in ("same-origin", "none"):
        return False
    origin = request.headers.get("Origin")
    if origin is None:
        return True
    try:
        return urlsplit(origin).netloc.lower() == request.host.lower()
    except ValueError:
        return False


def _brings(authorization: str, token: str, challenge: Challenge) -> bool:
    scheme, _, given = authorization.partition(" ")
    # A client's header may be invalid UTF-8.
    found = given.strip().encode("utf-8", "surrogateescape")
    if challenge == "Basic" and scheme.lower() == "basic":
        try:
            found = base64.b64decode(found, validate=True).partition(b":")[2]
        except binascii.Error:
            return False
    elif scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(found, token.encode())

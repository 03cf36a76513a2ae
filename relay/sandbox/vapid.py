"""VAPID, the sender of a push (RFC 8292), checked as strictly as by the strictest push service.

Source: https://www.rfc-editor.org/rfc/rfc8292
"""

from __future__ import annotations

import re

from relay.sandbox import jws
from relay.sandbox.subscriptions import public_key

LONGEST = 24 * 3600
"""Longest lifetime of a token, in seconds."""

_PARAMETER = re.compile(r'\s*([a-z]+)\s*=\s*"?([A-Za-z0-9_.=\-]*)"?\s*')
_SUBJECT = re.compile(r"mailto:[^\s<>@]+@[^\s<>@]+|https://[^\s]+")


def sender(authorization: str, origin: str, now: float) -> bytes:
    """Return the public key of a valid header. Raises jws.InvalidToken.

    `origin` is that of the endpoint, such as http://127.0.0.1:8089; `now` is in Unix seconds.
    """
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() != "vapid":
        raise jws.InvalidToken("Authorization must be `vapid t=…, k=…`")
    found = [_PARAMETER.fullmatch(part) for part in rest.split(",")]
    given = {match[1]: match[2] for match in found if match is not None}
    for name in ("t", "k"):
        if not given.get(name):
            raise jws.InvalidToken(f"Authorization has no {name}=")
    try:
        data, key = public_key(given["k"])
    except ValueError as error:
        raise jws.InvalidToken(f"k {error}") from None
    token = jws.read(given["t"])
    token.verify(key)
    audience = token.claims.get("aud")
    if origin not in (audience if isinstance(audience, list) else [audience]):
        raise jws.InvalidToken(f"aud must be {origin}")
    ends = token.seconds("exp")
    if ends <= now:
        raise jws.InvalidToken("exp has passed")
    if ends > now + LONGEST:
        raise jws.InvalidToken("exp must be within 24 hours")
    subject = token.claims.get("sub")
    if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject) or subject.endswith("@localhost"):
        raise jws.InvalidToken("sub must be a mailto: or https: address, without spaces, not at localhost")
    return data

"""A receiver of Standard Webhooks 1.0.0, as strict as its reference libraries.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping

CLOCK = 300
"""Seconds that a request's timestamp may be off."""


def verify(headers: Mapping[str, str], body: bytes, secret: str, now: float | None = None) -> str | None:
    """Why the request is not to be trusted; None if it is. Header names are matched in any case."""
    found = {name: headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature")}
    for name, value in found.items():
        if not value:
            return f"the header webhook-{name} is missing"
    try:
        skew = (time.time() if now is None else now) - int(found["timestamp"])
    except ValueError:
        return "webhook-timestamp must be Unix seconds"
    if abs(skew) > CLOCK:
        return f"webhook-timestamp is off by {abs(skew):.0f} s; at most {CLOCK} are allowed"
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{found['id']}.{found['timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    for signature in found["signature"].split(" "):
        version, _, value = signature.partition(",")
        if version == "v1" and hmac.compare_digest(value, expected):
            return None
    return "no v1 signature of webhook-signature matches the body"

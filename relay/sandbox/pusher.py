"""Pusher Channels' HTTP API, as its documentation describes it.

Source: https://pusher.com/docs/channels/library_auth_reference/rest-api/
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from typing import Any

CLOCK = 600
"""Seconds that a request's timestamp may be off."""

_CHANNEL = re.compile(r"^(#server-to-user-)?[A-Za-z0-9_\-=@,.;]{1,200}$")
_SOCKET_ID = re.compile(r"^\d+\.\d+$")
_DATA, _CHANNELS, _BATCH, _NAME = 10_240, 100, 10, 200


class Refused(Exception):
    """The answer to a request that is wrong: `status` and a text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def check_signature(
    method: str,
    path: str,
    query: dict[str, str],
    body: bytes,
    key: str,
    secret: str,
    now: float | None = None,
) -> None:
    """Raise Refused (401) unless the request is signed by the secret, now and over this very body."""
    if query.get("auth_key") != key:
        raise Refused(401, f"Unknown auth_key: {query.get('auth_key', '')[:40]}")
    if query.get("auth_version") != "1.0":
        raise Refused(401, "Unsupported auth_version: must be 1.0")
    try:
        skew = abs((time.time() if now is None else now) - int(query.get("auth_timestamp", "")))
    except ValueError:
        raise Refused(401, "auth_timestamp must be Unix seconds") from None
    if skew > CLOCK:
        raise Refused(401, f"Timestamp expired: given timestamp not within {CLOCK}s of server time")
    if body and not hmac.compare_digest(query.get("body_md5", ""), hashlib.md5(body).hexdigest()):  # noqa: S324
        raise Refused(401, "Invalid body_md5: it is not the MD5 of the body")
    text = "&".join(f"{name.lower()}={query[name]}" for name in sorted(query) if name != "auth_signature")
    to_sign = f"{method}\n{path}\n{text}"
    expected = hmac.new(secret.encode(), to_sign.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(query.get("auth_signature", ""), expected):
        shown = to_sign.replace("\n", "\\n")
        raise Refused(
            401, f'Invalid signature: you should have sent HmacSHA256Hex("{shown}", your_secret_key)'
        )


def events_of(path: str, content_type: str, body: bytes) -> list[tuple[str, str, str]]:
    """The events of a request as (channel, name, data). Raises Refused (400, 413)."""
    if content_type.partition(";")[0].strip() != "application/json":
        raise Refused(400, "Content-Type must be application/json")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(400, "The body is not JSON in UTF-8") from None
    if not isinstance(document, dict):
        raise Refused(400, "The body must be an object")
    if not path.endswith("/batch_events"):
        return _event(document, batch=False)
    batch = document.get("batch")
    if not isinstance(batch, list):
        raise Refused(400, "Missing required parameter: batch")
    if len(batch) > _BATCH:
        raise Refused(400, f"Batch too large ({len(batch)} > {_BATCH})")
    return [event for entry in batch for event in _event(entry, batch=True)]


def _event(event: Any, *, batch: bool) -> list[tuple[str, str, str]]:
    if not isinstance(event, dict):
        raise Refused(400, "An event must be an object")
    name, data = event.get("name"), event.get("data")
    if not isinstance(name, str) or not name:
        raise Refused(400, "Missing required parameter: name")
    if len(name) > _NAME:
        raise Refused(400, f"The event name is longer than {_NAME} characters")
    if not isinstance(data, str):
        raise Refused(400, "Missing required parameter: data, a string")
    if len(data.encode("utf-8", "surrogatepass")) > _DATA:
        raise Refused(413, f"The data content of this event exceeds the allowed maximum ({_DATA} bytes)")
    socket_id = event.get("socket_id")
    if socket_id is not None and not (isinstance(socket_id, str) and _SOCKET_ID.match(socket_id)):
        raise Refused(400, "Invalid socket_id")
    channels = [event.get("channel")] if batch or "channel" in event else event.get("channels")
    if not isinstance(channels, list) or not channels:
        raise Refused(
            400, "Missing required parameter: channel" if batch else "Missing required parameter: channels"
        )
    if len(channels) > _CHANNELS:
        raise Refused(400, f"Cannot trigger on more than {_CHANNELS} channels")
    for channel in channels:
        if not isinstance(channel, str) or not _CHANNEL.match(channel):
            raise Refused(400, f"Invalid channel name: {str(channel)[:60]}")
    if len(channels) > 1 and any(channel.startswith("private-encrypted-") for channel in channels):
        raise Refused(400, "You cannot trigger to multiple channels when using encrypted channels")
    return [(channel, name, data) for channel in channels]

"""Pusher Channels' HTTP API, as its documentation describes it.

Source: https://pusher.com/docs/channels/library_auth_reference/rest-api/
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence

from relay.sandbox.exchange import CUT, Answer, Call, Query, Received, Refused, Verdict
from relay.sandbox.options import SandboxOptions
from relay.sandbox.pusher_events import Event, check_user, events_of

CLOCK = 600
"""Seconds by which the timestamp of a request may be off."""

_SECONDS = re.compile(r"[0-9]{1,15}")
_DONE = Answer(200, b"{}", "application/json")
_ATTRIBUTES = ("user_count", "subscription_count")


class PusherEmulator:
    """Accepts events and batches for one app, ends connections of users, and lists channels."""

    name = "pusher"
    routes = (
        ("POST", "/apps/{app_id}/events"),
        ("POST", "/apps/{app_id}/batch_events"),
        ("POST", "/apps/{app_id}/users/{user_id}/terminate_connections"),
        ("GET", "/apps/{app_id}/channels"),
    )
    gone = 0

    def __init__(self, options: SandboxOptions, clock: Callable[[], float] = time.time) -> None:
        self._options, self._clock = options, clock

    def judge(self, call: Call) -> Verdict:
        """Refuse a wrong request with 400, a wrong signature with 401, a wrong app with 404, a size with
        413."""
        options = self._options
        try:
            app_id = call.path.split("/")[2]
            if app_id != options.app_id:
                raise Refused(404, f"Could not find app by id {app_id[:40]}")
            check_signature(call, options.key, options.secret, self._clock())
            if call.method == "GET":
                return Verdict(_channels(call.query))
            if call.path.endswith("/terminate_connections"):
                user = check_user(call.path.split("/")[4])
                return Verdict(_DONE, [Received(user, "terminate_connections", "", "")])
            batched = call.path.endswith("/batch_events")
            events = events_of(call.headers.get("Content-Type", ""), call.body, batched=batched)
        except Refused as error:
            # An unreadable request counts as one message, so that the operator sees it.
            text = call.body[:CUT].decode("utf-8", "replace")
            return error.verdict([Received("", "", "", text)] if call.method == "POST" else [])
        return Verdict(
            _attributes(events, batched=batched),
            [Received(", ".join(event.channels)[:CUT], event.name, "", event.data[:CUT]) for event in events],
        )

    def failed(self, injected: Answer, right: Answer, reason: str) -> Answer:
        """Return the failure unchanged: its body is plain text."""
        return injected

    def settings(self, url: str) -> Mapping[str, object]:
        """Return the options of relay's Pusher adapter that point here."""
        options = self._options
        return {
            "type": "pusher",
            "app_id": options.app_id,
            "key": options.key,
            "secret": options.secret,
            "url": url,
        }


def check_signature(call: Call, key: str, secret: str, now: float) -> None:
    """Raise Refused (401) unless the request is signed with the secret, recently and over this body.

    `now` is in Unix seconds. The signed text holds all parameters except the signature, unescaped, with
    sorted names in lower case. A refusal shows the text, never the secret.
    """
    query = call.query
    given_key = query.get("auth_key", "")
    if not _same(given_key, key):
        raise Refused(401, f"Unknown auth_key: {given_key[:40]}")
    if query.get("auth_version", "") != "1.0":
        raise Refused(401, "Unsupported auth_version: must be 1.0")
    timestamp = query.get("auth_timestamp", "")
    if not _SECONDS.fullmatch(timestamp):
        raise Refused(401, "auth_timestamp must be Unix seconds")
    if abs(now - int(timestamp)) > CLOCK:
        raise Refused(
            401,
            f"Timestamp expired: Given timestamp ({timestamp}) not within {CLOCK}s "
            f"of server time ({int(now)})",
        )
    if call.body:
        digest = hashlib.md5(call.body, usedforsecurity=False).hexdigest()
        if not _same(query.get("body_md5", ""), digest):
            raise Refused(401, "Invalid body_md5: it is not the MD5 of the body")
    pairs = sorted((name.lower(), value) for name, value in query.items())
    text = "&".join([f"{name}={value}" for name, value in pairs if name != "auth_signature"])
    to_sign = f"{call.method}\n{call.path}\n{text}"
    expected = hmac.digest(secret.encode(), to_sign.encode("utf-8", "surrogatepass"), "sha256").hex()
    given = query.get("auth_signature", "")
    if not _same(given, expected):
        shown = to_sign.replace("\n", "\\n")
        raise Refused(
            401,
            f'Invalid signature: you should have sent HmacSHA256Hex("{shown}", your_secret_key), '
            f'but you sent "{given[:80]}"',
        )


def _same(given: str, expected: str) -> bool:
    """Compare in constant time. Any characters are allowed."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode())


def _channels(query: Query) -> Answer:
    """Return no channels, because the sandbox has no subscribers."""
    if "user_count" in query.get("info", "").split(",") and not query.get("filter_by_prefix", "").startswith(
        "presence-"
    ):
        raise Refused(400, "user_count may only be requested for presence channels (filter_by_prefix)")
    return Answer(200, b'{"channels":{}}', "application/json")


def _attributes(events: Sequence[Event], *, batched: bool) -> Answer:
    """Return `{}`, or the attributes in `info`: all counts are 0, because there are no subscribers."""
    if not any(event.info for event in events):
        return _DONE
    if batched:
        document: object = {"batch": [_counts(event, event.channels[0]) for event in events]}
    else:
        (event,) = events
        document = {"channels": {channel: _counts(event, channel) for channel in event.channels}}
    return Answer(200, json.dumps(document).encode(), "application/json")


def _counts(event: Event, channel: str) -> dict[str, int]:
    wanted = [name for name in event.info.split(",") if name in _ATTRIBUTES]
    return {name: 0 for name in wanted if name != "user_count" or channel.startswith("presence-")}

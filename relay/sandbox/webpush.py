"""A push service of browsers (RFC 8030), and the browsers themselves, which decrypt the pushes (RFC 8291).

Errors have the form of Mozilla's service:
https://mozilla-services.github.io/autopush-rs/errors.html
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from http.client import responses
from typing import Annotated
from uuid import uuid4

import http_ece
import msgspec

from relay.sandbox import jws, vapid
from relay.sandbox.exchange import Answer, Call, Received, Verdict, excerpt
from relay.sandbox.identity import VAPID, Identity
from relay.sandbox.subscriptions import PATH, Subscription, Subscriptions

LARGEST = 4096
"""Bytes of a body that every push service must accept (RFC 8030, section 7.2)."""

LONGEST_LIFE = 2_419_200
"""Seconds for which a push is kept: four weeks."""

_HEADER, _TAG = 86, 16
"""Bytes before the record (salt, record size, key length, key) and of the tag after it."""

_TTL = re.compile(r"[0-9]{1,15}")
_TOPIC = re.compile(r"[A-Za-z0-9_\-]{1,32}")
_URGENCIES = ("very-low", "low", "normal", "high")

NUMBERS = {404: 102, 410: 103, 413: 104, 429: 202, 503: 201}
"""Mozilla's number of an injected failure; 999 stands for any other."""


NOTIFICATION = "application/notification+json"
"""The content type of a declarative push message."""


class _Action(msgspec.Struct):
    action: str
    title: str
    navigate: str


class _Notification(msgspec.Struct):
    title: str
    navigate: str
    actions: list[_Action] = []


class _Declarative(msgspec.Struct):
    web_push: int
    notification: _Notification
    app_badge: Annotated[int, msgspec.Meta(ge=0)] | None = None
    mutable: bool = False


class Wrong(Exception):
    """A push is wrong: the answer's status, Mozilla's number and one line."""

    def __init__(self, status: int, number: int, text: str) -> None:
        super().__init__(text)
        self.status, self.number = status, number


class WebPushEmulator:
    """Accepts pushes to the subscriptions that it has issued."""

    name = "webpush"
    routes = (("*", f"{PATH}{{subscription}}"),)
    gone = 410

    def __init__(
        self, identity: Identity, subscriptions: Subscriptions, clock: Callable[[], float] = time.time
    ) -> None:
        self._identity, self._subscriptions, self._clock = identity, subscriptions, clock

    def judge(self, call: Call) -> Verdict:
        """Check the endpoint first, then the sender, the headers and the body."""
        headers = call.headers
        about = " ".join(headers[name] for name in ("urgency", "topic") if name in headers)
        shown = Received(call.path, about, "", f"{len(call.body)} bytes, encrypted")
        origin = f"http://{headers.get('host', '')}"
        try:
            subscription = self._subscription(call)
            key = self._sender(headers, origin)
            if not subscription.accepts(key):
                raise Wrong(403, 109, "VapidPkHashMismatch: the page subscribed with another key")
            ttl = check_headers(headers)
            text = read_body(call, subscription, key)
        except Wrong as error:
            return Verdict(_refusal(error.status, error.number, str(error)), [shown])
        answer = {"Location": f"{origin}/messages/{uuid4()}", "TTL": str(min(ttl, LONGEST_LIFE))}
        return Verdict(Answer(201, headers=answer), [shown._replace(body=excerpt(text))])

    def failed(self, injected: Answer, right: Answer, reason: str) -> Answer:
        """Return an injected failure in Mozilla's form."""
        number = NUMBERS.get(injected.status, 999)
        return _refusal(injected.status, number, reason or "injected fault", injected.headers)

    def settings(self, url: str) -> Mapping[str, object]:
        """Return the options of relay's Web Push adapter. The endpoint comes with each message."""
        return {
            "type": "webpush",
            **self._identity.option("private_key", VAPID),
            "subject": "mailto:sandbox@example.com",
            "allow_private": True,
        }

    def _subscription(self, call: Call) -> Subscription:
        if call.method != "POST":
            raise Wrong(405, 999, "only POST is allowed")
        identity = call.path.removeprefix(PATH)
        found = self._subscriptions.find(identity)
        if found is None:
            raise Wrong(404, 102, "Request did not validate: no such endpoint")
        if self._subscriptions.is_gone(identity):
            raise Wrong(410, 106, "the user has unsubscribed")
        return found

    def _sender(self, headers: Mapping[str, str], origin: str) -> bytes:
        """Check the sender (RFC 8292, section 4.2): 401 if there is none, 403 if it is wrong."""
        authorization = headers.get("authorization")
        if authorization is None:
            raise Wrong(401, 109, "Authorization is missing")
        try:
            return vapid.sender(authorization, origin, self._clock())
        except jws.InvalidToken as error:
            raise Wrong(403, 109, f"BadJwtToken: {error}") from None


def check_headers(headers: Mapping[str, str]) -> int:
    """Return the requested lifetime in seconds. Raises Wrong."""
    ttl = headers.get("ttl")
    if ttl is None:
        raise Wrong(400, 111, "Missing TTL header")
    if not _TTL.fullmatch(ttl):
        raise Wrong(400, 112, "TTL must be whole seconds, 0 or more")
    if headers.get("urgency", "normal") not in _URGENCIES:
        raise Wrong(400, 999, f"BadUrgency: must be one of {', '.join(_URGENCIES)}")
    topic = headers.get("topic", "none")
    # Apple decodes it as base64url, where a length modulo 4 is never 1.
    if not _TOPIC.fullmatch(topic) or len(topic) % 4 == 1:
        raise Wrong(400, 113, "BadWebPushTopic: 1 to 32 letters, digits, - and _, that are base64url")
    return int(ttl)


def read_body(call: Call, subscription: Subscription, sender: bytes) -> bytes:
    """Return the text that the browser sees. Raises Wrong, also for faults that only the browser notices."""
    body, coding = call.body, call.headers.get("content-encoding")
    if not body:
        if coding is not None:
            raise Wrong(400, 110, "Content-Encoding without a body")
        return b""
    if len(body) > LARGEST:
        raise Wrong(413, 104, f"{len(body)} bytes; at most {LARGEST} are accepted")
    if coding != "aes128gcm":
        raise Wrong(400, 110, "Content-Encoding must be aes128gcm")
    if len(body) <= _HEADER + _TAG or body[20] != 65:
        raise Wrong(400, 110, "the body is not aes128gcm with an uncompressed key (RFC 8291 section 4)")
    if int.from_bytes(body[16:20]) < len(body) - _HEADER:
        raise Wrong(400, 110, "more than one record, or a record size that is too small (RFC 8291 section 4)")
    if body[21:_HEADER] == sender:
        raise Wrong(400, 110, "the key of the encryption must not be that of VAPID (RFC 8292 section 5)")
    try:
        text: bytes = http_ece.decrypt(
            body, private_key=subscription.private_key, auth_secret=subscription.auth, version="aes128gcm"
        )
    except Exception:  # errors of the library and of its dependencies
        raise Wrong(400, 110, "the browser could not decrypt it: not made for this subscription") from None
    if call.headers.get("content-type") == NOTIFICATION and not _is_notification(text):
        raise Wrong(400, 110, "the browser could not show it: it is not a declarative push message")
    return text


def _is_notification(text: bytes) -> bool:
    """Return whether a browser shows this without a service worker (Push API: declarative push message
    parser)."""
    try:
        document = msgspec.json.decode(text, type=_Declarative)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    notification = document.notification
    return document.web_push == 8030 and bool(notification.title) and bool(notification.navigate)


def _refusal(status: int, number: int, text: str, headers: Mapping[str, str] | None = None) -> Answer:
    name = responses.get(status, "Error")
    document = {"code": status, "errno": number, "error": name, "message": text}
    return Answer(status, msgspec.json.encode(document), "application/json", headers or {})

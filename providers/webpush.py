"""Web Push: RFC 8030 (delivery), RFC 8291 (encryption), RFC 8292 (VAPID)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from pydantic import field_validator

from relay.message import Message
from relay.outcome import Delivered, Outcome, Rejected, Retry, Throttled, Unauthorised, Unregistered
from relay.provider import HttpProvider, Request, Response, statuses
from relay.provider.retry_after import retry_after
from relay.settings.options import DestinationOptions
from relay.settings.values import Duration, Secret

from ._shared.answers import reason
from ._shared.declarative_push import CONTENT_TYPE, check_declarative, is_declarative
from ._shared.hosts import host_of
from ._shared.networks import PrivateAccess, networks
from ._shared.upstream import LONGEST_LIFE, seconds_left, topic
from ._shared.utf8_json import without_escapes
from ._shared.webhook_limits import check_url

URGENCIES = ("very-low", "low", "normal", "high")
PAUSE = 60.0
"""Seconds to wait after a 429 without Retry-After, which is about one subscription or its service."""

_URGENCY = {0: "high", 1: "normal", 2: "low"}
_TOPIC = re.compile(r"[A-Za-z0-9_-]{1,32}")
_FIELDS = ("subscription", "data", "ttl", "urgency", "topic")
_KNOWN = re.compile(
    r"fcm\.googleapis\.com|(.+\.)?push\.services\.mozilla\.com|(.+\.)?push\.apple\.com|.+\.notify\.windows\.com"
)
_OF_ANOTHER_KEY = (
    b"VapidPkHashMismatch",  # Apple
    b"VAPID public key mismatch",  # Mozilla
    b"do not correspond to the credentials used to create the subscriptions",  # FCM, and three older texts
    b"does not correspond to the sender ID",
    b"UnauthorizedRegistration",
    b"MismatchSenderId",
)
"""Texts of a 400, 401 or 403: the browser subscribed with another VAPID key than ours."""
_BAD_SENDER = (*_OF_ANOTHER_KEY, b"Vapid", b"BadJwtToken", b"BadAuthorizationHeader")
"""Texts of a 400 that blame the sender instead of the message."""
_UNREACHABLE = (
    ".local",
    ".localhost",
    ".localdomain",
    ".internal",
    ".invalid",
    ".test",
    ".lan",
    ".home.arpa",
)
_SUBJECT = re.compile(r"mailto:[^\s<>@]+@[^\s<>@]+\.[^\s<>@]+|https://[^\s]+")


class WebPushOptions(DestinationOptions):
    """Options of `type: webpush`."""

    private_key: Secret
    """VAPID key: PEM or base64url. `relay vapid` creates one."""
    subject: str
    """Address at which push services can reach you, such as `mailto:ops@example.com`."""
    default_ttl: Duration = 86400.0
    """Default TTL at the push service, for messages without one: if the browser is offline, the service keeps
    the message for this long."""
    allow_private: PrivateAccess = False
    """Allow endpoints at private addresses: all of them, or those in a list of networks, such as
    `[10.0.0.0/8]`."""

    @field_validator("private_key")
    @classmethod
    def _is_key(cls, value: Secret) -> Secret:
        from ._shared.webpush_crypto import read_private_key

        read_private_key(value.get_secret_value())
        return value

    @field_validator("subject")
    @classmethod
    def _is_subject(cls, value: str) -> str:
        host = urlsplit(value).hostname or "" if value.startswith("https:") else value.rpartition("@")[2]
        if not _SUBJECT.fullmatch(value) or not _is_public(host):
            raise ValueError(
                "must be mailto:somebody@example.com or https://example.com with a public name: "
                "Apple refuses every push of a sender at localhost or a .local name"
            )
        return value


class WebPush(HttpProvider[WebPushOptions]):
    """Sends each message in one HTTP request to the endpoint of its subscription."""

    Options = WebPushOptions
    target_field = "subscription"

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        from ._shared.webpush_crypto import Vapid, read_private_key

        options = self.options
        if isinstance(options.allow_private, list):
            self.allowed_networks = networks(options.allow_private)
        self.guarded = options.allow_private is not True
        key = read_private_key(options.private_key.get_secret_value())
        self._vapid = Vapid(key, options.subject, self.clock)

    def check(self, message: Message) -> Rejected | None:
        try:
            self._check(message.payload, message)
        except ValueError as error:
            return Rejected(str(error))
        return None

    def _check(self, payload: dict[str, Any], message: Message) -> None:
        from ._shared.webpush_crypto import LARGEST

        for name in payload:
            if name not in _FIELDS:
                raise ValueError(f"{name[:60]!r}: not a field; fields: {', '.join(_FIELDS)}")
        _keys(payload.get("subscription"))
        endpoint = payload["subscription"]["endpoint"]
        check_url(endpoint)
        if self.guarded and urlsplit(endpoint).scheme != "https":
            raise ValueError("subscription.endpoint: must be https")
        ttl = payload.get("ttl")
        if ttl is None:
            ttl = 0
        if type(ttl) is not int or ttl < 0:
            raise ValueError("ttl: must be whole seconds, 0 or more")
        if payload.get("urgency") not in (None, *URGENCIES):
            raise ValueError(f"urgency: must be one of {', '.join(URGENCIES)}")
        named = payload.get("topic")
        if named is not None and not (isinstance(named, str) and _TOPIC.fullmatch(named)):
            raise ValueError("topic: 1 to 32 letters, digits, - or _")
        if named is not None and len(named) % 4 == 1:
            raise ValueError(f"topic: {len(named)} characters cannot be base64url, which Apple requires")
        data = payload.get("data")
        if is_declarative(data):
            check_declarative(data)
        size = len(_plaintext(message, payload))
        if size > LARGEST:
            raise ValueError(f"{size} bytes of data; push services take at most {LARGEST}")

    def destination(self, message: Message) -> str:
        subscription = message.payload.get("subscription")
        return host_of(subscription.get("endpoint") if isinstance(subscription, dict) else None)

    def request(self, batch: Sequence[Message]) -> Request:
        from ._shared.webpush_crypto import encrypt

        (message,) = batch
        payload = message.payload
        endpoint = payload["subscription"]["endpoint"]
        receiver, auth = _keys(payload["subscription"])
        left = seconds_left(message, self.clock())
        life = payload.get("ttl")
        if life is None:
            life = self.options.default_ttl if left is None else left
        headers = {
            "ttl": str(int(min(life, LONGEST_LIFE if left is None else left))),
            "urgency": payload.get("urgency") or _URGENCY[message.priority],
            "authorization": self._vapid.authorization(endpoint),
        }
        if payload.get("topic") is not None:
            headers["topic"] = payload["topic"]
        elif message.collapse_key:
            headers["topic"] = topic(message.collapse_key)
        body = b""
        if plaintext := _plaintext(message, payload):
            body = encrypt(plaintext, receiver, auth)
            declares = is_declarative(payload["data"])
            kind = CONTENT_TYPE if declares else "application/octet-stream"
            headers |= {"content-encoding": "aes128gcm", "content-type": kind}
        return Request(endpoint, body, headers, public_only=self.guarded)

    def outcomes(self, batch: Sequence[Message], response: Response) -> Sequence[Outcome]:
        (message,) = batch
        return [self._outcome(message, response)]

    def _outcome(self, message: Message, response: Response) -> Outcome:
        status, body = response.status, response.body
        if 200 <= status < 300:
            return Delivered(response.headers.get("location", ""))
        why = reason(response)
        match status:
            case 404 | 410:
                return Unregistered(_endpoint(message), why, status)
            case 406 | 429 | 503:
                return self._throttled(message, why, response)
        if status in statuses.CREDENTIALS or (status == 400 and _says(body, _BAD_SENDER)):
            return self._refused(message, why, response)
        return statuses.outcome(response, why, self.clock())

    def _throttled(self, message: Message, why: str, response: Response) -> Outcome:
        """The push service is busy, or limits this subscription. Messages to other services go on."""
        status, body = response.status, response.body
        after = retry_after(response.headers, self.clock())
        if message.group:
            return Throttled(why, after, status, body)
        if after is None and status == 503:
            return Retry(why, status, body)
        return Throttled(why, PAUSE if after is None else after, status, body, "target")

    def _refused(self, message: Message, why: str, response: Response) -> Outcome:
        """Our key may be wrong, or this subscription belongs to another key.

        Only services that we know can accuse our key: anybody can make up an endpoint.
        """
        endpoint = _endpoint(message)
        if not self.guarded or _KNOWN.fullmatch(urlsplit(endpoint).hostname or ""):
            stale = _says(response.body, _OF_ANOTHER_KEY)
            return Unauthorised(why, response.status, response.body, endpoint, unregistered=stale)
        return Rejected(why, response.status, response.body)

    async def verify(self) -> str:
        """Sends nothing, because a push service has no way to say that it would accept."""
        return f"nothing was sent; the VAPID key and {self.options.subject} are well-formed"


def _is_public(host: str) -> bool:
    """Return whether a host is a name that anybody can look up, and no address."""
    name = host.lower().rstrip(".")
    return "." in name and not name.endswith(_UNREACHABLE) and not name.rpartition(".")[2].isdigit()


def _endpoint(message: Message) -> str:
    endpoint: str = message.payload["subscription"]["endpoint"]
    return endpoint


def _says(body: bytes, texts: Sequence[bytes]) -> bool:
    return any(text in body for text in texts)


def _keys(subscription: object) -> tuple[bytes, bytes]:
    """The receiver's public key and authentication secret. Raises ValueError."""
    from ._shared.webpush_crypto import decoded, public_key

    if not isinstance(subscription, dict) or not isinstance(subscription.get("keys"), dict):
        raise ValueError(
            "subscription: must be the result of JSON.stringify(subscription): endpoint and keys"
        )
    if not isinstance(subscription.get("endpoint"), str):
        raise ValueError("subscription.endpoint: missing")
    keys = subscription["keys"]
    receiver = public_key(keys.get("p256dh"), "subscription.keys.p256dh")
    return receiver, decoded(keys.get("auth"), 16, "subscription.keys.auth")


def _plaintext(message: Message, payload: dict[str, Any]) -> bytes:
    """A text unchanged, anything else as the JSON that the application wrote."""
    from ._shared.webpush_crypto import LARGEST

    data = payload.get("data")
    if data is None:
        return b""
    if isinstance(data, str):
        return data.encode()
    raw = message.raw("data") or b""
    return raw if len(raw) <= LARGEST else without_escapes(raw)

"""Apple Push Notification service, over HTTP/2.

Source: https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from typing import Any, Literal
from uuid import NAMESPACE_URL, uuid5

import msgspec
from pydantic import field_validator, model_validator

from relay.errors import TransportError, UsageError
from relay.message import Message
from relay.outcome import Delivered, Outcome, Rejected, Unauthorised
from relay.provider import HttpProvider, Request, Response
from relay.settings.http import HttpOptions, pem_text
from relay.settings.values import Secret

from ._shared.apns_answers import TOKEN_EXPIRED, outcome, reason_of
from ._shared.hosts import base_url
from ._shared.upstream import collapse_id

HOSTS = {"production": "https://api.push.apple.com", "sandbox": "https://api.sandbox.push.apple.com"}

LARGEST, LARGEST_VOIP = 4096, 5120
"""Bytes of a payload."""

TOKEN_LIFE = 2400
"""Seconds for which a provider token is used: Apple wants 20 to 60 minutes."""

YOUNGEST = 1200
"""Seconds before whose end a token is never replaced."""

_LONGEST_LIFE = 30 * 86400
_DEVICE = re.compile(r"[0-9a-fA-F]+")
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SECONDS = re.compile(r"[0-9]{1,12}")
_PRIORITIES = frozenset({"1", "5", "10"})
_TOKEN_ONLY = frozenset({"location", "liveactivity"})
"""Push types that Apple takes with a provider token only."""
_HEADERS = frozenset(
    {"apns-topic", "apns-push-type", "apns-priority", "apns-expiration", "apns-collapse-id", "apns-id"}
)
_OUR_FIELDS = frozenset({"device_token", "headers"})
_SUFFIX = {
    "voip": ".voip",
    "complication": ".complication",
    "fileprovider": ".pushkit.fileprovider",
    "location": ".location-query",
    "liveactivity": ".push-type.liveactivity",
    "pushtotalk": ".voip-ptt",
    "widgets": ".push-type.widgets",
    "controls": ".push-type.controls",
}
"""The suffix that each push type adds to the app's bundle id in the topic."""
_PRIORITY = {0: "10", 2: "5"}
"""High and low; a normal message is left to Apple's default for its kind."""

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class ApnsOptions(HttpOptions):
    """Options of `type: apns`: a provider token's key, or a certificate (`client_cert_file`)."""

    key: Secret | None = None
    """The .p8 signing key, as Apple gives it: `key_file`."""
    key_id: str | None = None
    """The key's ten characters."""
    team_id: str | None = None
    """The developer team's ten characters."""
    topic: str | None = None
    """The app's bundle id, for messages that name no `apns-topic`. The suffix of a push type is added."""
    environment: Literal["production", "sandbox"] = "production"
    """Which of Apple's two: device tokens are valid in one of them only."""
    url: str | None = None
    """Another server than Apple's, for trying out."""

    @field_validator("key")
    @classmethod
    def _is_key(cls, value: Secret | None) -> Secret | None:
        if value is None:
            return None
        text = pem_text(value.get_secret_value())
        read_key(text)
        return Secret(text)

    @field_validator("key_id", "team_id", "topic")
    @classmethod
    def _fits_a_header(cls, value: str | None) -> str | None:
        if value is not None and not _NAME.fullmatch(value):
            raise ValueError("must be letters, digits, full stops, - and _")
        return value

    @field_validator("url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        return None if value is None else base_url(value)

    @model_validator(mode="after")
    def _is_complete(self) -> ApnsOptions:
        if (self.key is None) == (self.client_cert is None):
            raise ValueError("give either key_file (with key_id and team_id) or client_cert_file")
        if self.key is not None and not (self.key_id and self.team_id):
            raise ValueError("key_id and team_id are needed with key_file")
        return self


class Apns(HttpProvider[ApnsOptions]):
    """One HTTP/2 stream for each message."""

    Options = ApnsOptions
    target_field = "device_token"
    http2 = True

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        options = self.options
        self._base = options.url or HOSTS[options.environment]
        self._key = read_key(options.key.get_secret_value()) if options.key else None
        self._issued = 0
        self._token = ""

    def check(self, message: Message) -> Rejected | None:
        try:
            self._check(message)
        except ValueError as error:
            return Rejected(str(error))
        return None

    def _check(self, message: Message) -> None:
        payload = message.payload
        device = payload.get("device_token")
        if not isinstance(device, str) or not _DEVICE.fullmatch(device):
            raise ValueError("device_token: must be a text of hexadecimal digits")
        headers = _headers(payload)
        kind = push_type(payload)
        if kind == "mdm" and payload.get("aps") is None:
            if not isinstance(payload.get("mdm"), str):
                raise ValueError("mdm: must be the PushMagic text of the device")
        elif not isinstance(payload.get("aps"), dict):
            raise ValueError("aps: must be an object")
        _check_values(headers, kind)
        if kind in _TOKEN_ONLY and self._key is None:
            raise ValueError(f"headers.apns-push-type: {kind} needs a provider token (key_file)")
        if "apns-topic" not in headers and self.options.topic is None and self._key is not None:
            raise ValueError("headers.apns-topic: missing, and the configuration has no topic")
        largest = _largest(kind)
        # The body is a part of the payload.
        if len(message.payload_json) > largest and (size := len(_body(message, largest))) > largest:
            raise ValueError(f"{size} bytes of payload; APNs takes at most {largest}")

    def group(self, message: Message) -> Hashable:
        return None

    def request(self, batch: Sequence[Message]) -> Request:
        (message,) = batch
        payload = message.payload
        kind = push_type(payload)
        headers = {"apns-id": apns_id(message.id), "apns-push-type": kind}
        if self.options.topic is not None:
            # An operator may have written the topic with its suffix.
            suffix = _SUFFIX.get(kind, "")
            headers["apns-topic"] = self.options.topic.removesuffix(suffix) + suffix
        priority = "5" if kind == "background" else _PRIORITY.get(message.priority)
        if priority is not None:
            headers["apns-priority"] = priority
        if message.expires_at:
            latest = self.clock() + _LONGEST_LIFE
            headers["apns-expiration"] = str(int(min(message.expires_at, latest)))
        if message.collapse_key:
            headers["apns-collapse-id"] = collapse_id(message.collapse_key)
        headers |= _headers(payload)
        headers["apns-id"] = headers["apns-id"].lower()
        if self._key is not None:
            headers["authorization"] = f"bearer {self._provider_token()}"
        return Request(
            f"{self._base}/3/device/{payload['device_token']}", _body(message, _largest(kind)), headers
        )

    def _provider_token(self) -> str:
        """One token for all senders, and by its time of issue for all processes: of the same 40 minutes."""
        now = int(self.clock())
        if not self._token or not 0 <= now - self._issued < TOKEN_LIFE:
            self._issue(now - now % TOKEN_LIFE)
        return self._token

    def _issue(self, issued: int) -> None:
        import jwt

        assert self._key is not None
        self._issued = issued
        self._token = jwt.encode(
            {"iss": self.options.team_id, "iat": issued},
            self._key,
            algorithm="ES256",
            headers={"kid": self.options.key_id},
        )

    async def deliver(self, batch: Sequence[Message]) -> Sequence[Outcome]:
        request = self.request(batch)
        response = await self._transport.send(request)
        if (
            response.status == 403
            and reason_of(response)[0] == TOKEN_EXPIRED
            and self._has_newer(request.headers.get("authorization", ""))
        ):
            response = await self._transport.send(self.request(batch))
        return self.outcomes(batch, response)

    def _has_newer(self, used: str) -> bool:
        """Whether another token than the expired one is worth a try: that of a sender that was faster, or a
        token of now, where Apple's clock is ahead of ours."""
        if self._key is None:
            return False
        now = int(self.clock())
        if used == f"bearer {self._token}" and now - self._issued >= YOUNGEST:
            self._issue(now)
        return used != f"bearer {self._token}"

    def outcomes(self, batch: Sequence[Message], response: Response) -> Sequence[Outcome]:
        (message,) = batch
        payload = message.payload
        own_topic = "apns-topic" in _headers(payload)
        return [outcome(response, str(payload["device_token"]), own_topic=own_topic)]

    async def verify(self) -> str:
        """Has APNs refuse a push to a device that cannot be: who may send comes first."""
        nobody = Message(id="relay check", queue="", payload_json=b'{"device_token":"00","aps":{}}')
        try:
            (found,) = await self.deliver([nobody])
        except TransportError as error:
            raise UsageError(str(error)) from error
        if isinstance(found, Unauthorised):
            if self.options.topic is None and found.reason.endswith("MissingTopic"):
                return f"{self._base} answers; more cannot be told without a `topic` ({found.reason})"
            raise UsageError(f"APNs refuses us: {found.reason}")
        told = "accepted" if isinstance(found, Delivered) else found.reason
        return f"{self._base} takes our credentials ({told})"


def _check_values(headers: dict[str, str], kind: str) -> None:
    """Raise ValueError for what APNs would never take; `kind` is the push type."""
    if len(headers.get("apns-collapse-id", "")) > 64:
        raise ValueError("headers.apns-collapse-id: at most 64 bytes")
    if "apns-id" in headers and not _is_uuid(headers["apns-id"]):
        raise ValueError("headers.apns-id: must be a UUID")
    if not _SECONDS.fullmatch(headers.get("apns-expiration", "0")):
        raise ValueError("headers.apns-expiration: must be Unix seconds, or 0 for one try")
    priority = headers.get("apns-priority", "5")
    if priority not in _PRIORITIES:
        raise ValueError("headers.apns-priority: must be 10, 5 or 1")
    if kind == "background" and priority == "10":
        raise ValueError("headers.apns-priority: a background push must not have 10")


def push_type(payload: dict[str, Any]) -> str:
    """The push type that the headers name; otherwise mdm, background or alert, by the payload."""
    headers = payload.get("headers")
    named = headers.get("apns-push-type") if isinstance(headers, dict) else None
    if named is not None:
        return str(named)
    aps = payload.get("aps")
    if not isinstance(aps, dict):
        return "mdm" if "mdm" in payload else "alert"
    shows = any(aps.get(name) is not None for name in ("alert", "badge", "sound"))
    return "background" if aps.get("content-available") == 1 and not shows else "alert"


def _headers(payload: dict[str, Any]) -> dict[str, str]:
    """The headers that the message brings; null is the same as absent. Raises ValueError."""
    headers = payload.get("headers")
    if headers is None:
        return {}
    if not isinstance(headers, dict):
        raise ValueError("headers: must be an object")
    found = {}
    for name, value in headers.items():
        if name not in _HEADERS:
            raise ValueError(f"headers.{name[:60]}: no such header; there are {', '.join(sorted(_HEADERS))}")
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, str | int) or not _VALUE.fullmatch(str(value)):
            raise ValueError(f"headers.{name}: must be a text of visible ASCII characters")
        found[name] = str(value)
    return found


def _largest(kind: str) -> int:
    return LARGEST_VOIP if kind == "voip" else LARGEST


def apns_id(message_id: str) -> str:
    """A UUID of the message, the same at every attempt."""
    return message_id.lower() if _is_uuid(message_id) else str(uuid5(NAMESPACE_URL, f"relay:{message_id}"))


def read_key(text: str) -> Any:
    """The private key of a .p8 file. Raises ValueError with what is wrong about it."""
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(text.encode(), None)
    except Exception as error:  # the library's own mix
        raise ValueError("must be the .p8 file that Apple gives: a PEM private key") from error
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
        raise ValueError("must be a P-256 key, as Apple's .p8 files are")
    return key


def _is_uuid(text: str) -> bool:
    return _UUID.fullmatch(text) is not None


def _body(message: Message, largest: int) -> bytes:
    """The payload without the fields that became the path and the headers.

    Each value goes out as the application wrote it, unless it is too large that way: escapes such as
    `\\u0436` take three times the bytes of the UTF-8 that they stand for.
    """
    fields = _decode(message.payload_json)
    body = _encode({name: value for name, value in fields.items() if name not in _OUR_FIELDS})
    if len(body) <= largest:
        return body
    return _encode({name: value for name, value in message.payload.items() if name not in _OUR_FIELDS})

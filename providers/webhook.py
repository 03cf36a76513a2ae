"""Webhooks, signed by Standard Webhooks 1.0.0.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Hashable, Sequence
from hashlib import sha256
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from pydantic import field_validator

from relay.http.guard import networks
from relay.http.retry_after import retry_after
from relay.message import Message
from relay.outcome import Delivered, Outcome, Rejected, Retry, Throttled, Unregistered
from relay.provider import HttpProvider, Request, Response
from relay.settings.provider import ProviderOptions
from relay.settings.types import Secret

LONGEST_URL = 2048
MOST_HEADERS = 50
LONGEST_HEADER = 4096
SHORTEST_KEY, LONGEST_KEY = 16, 64
"""Bytes of a decoded secret; the specification recommends 24 to 64."""

Method = Literal["POST", "PUT", "PATCH", "DELETE", "GET"]

_METHODS = ("POST", "PUT", "PATCH", "DELETE", "GET")
_FIELDS = frozenset({"url", "body", "headers", "method"})
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_OURS = frozenset(
    {
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "upgrade",
        "expect",
    }
)
_CONTROL = re.compile(r"[\x00-\x20\x7f]")

_encode = msgspec.json.Encoder().encode


def signing_key(secret: str) -> bytes:
    """The key of a `whsec_…` secret (the prefix may be missing). Raises ValueError."""
    text = secret.removeprefix("whsec_")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be whsec_ followed by base64") from None
    if not SHORTEST_KEY <= len(key) <= LONGEST_KEY:
        raise ValueError(f"must hold {SHORTEST_KEY} to {LONGEST_KEY} bytes in base64, not {len(key)}")
    return key


class WebhookOptions(ProviderOptions):
    """What `type: webhook` takes."""

    url: str | None = None
    """Where to post. Absent: each message brings its own `url`."""
    secret: Secret | None = None
    """whsec_… by which requests are signed. Absent: they are not."""
    secrets: list[Secret] = []
    """Several secrets during a rotation, the newest first: each request bears a signature by each."""
    method: Method = "POST"
    """The method of messages that name none."""
    headers: dict[str, str] = {}
    """Sent with every request; a message's own headers win."""
    allow_private: bool | list[str] = False
    """Whether URLs that messages bring may reach private addresses: true, false, or a list of networks."""

    @field_validator("secret", "secrets")
    @classmethod
    def _are_secrets(cls, value: Secret | list[Secret] | None) -> Secret | list[Secret] | None:
        for secret in value if isinstance(value, list) else [value] if value else []:
            signing_key(secret.get_secret_value())
        return value

    @field_validator("url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None:
            _check_url(value)
        return value

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, value: dict[str, str]) -> dict[str, str]:
        _check_headers(value)
        return value

    @field_validator("allow_private")
    @classmethod
    def _are_networks(cls, value: bool | list[str]) -> bool | list[str]:
        if isinstance(value, list):
            networks(value)
        return value


class Webhook(HttpProvider[WebhookOptions]):
    """HTTP requests to any receiver, signed by Standard Webhooks."""

    Options = WebhookOptions

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        options = self.options
        secrets = [*([options.secret] if options.secret else []), *options.secrets]
        self._macs = [
            hmac.new(signing_key(secret.get_secret_value()), digestmod=sha256) for secret in secrets
        ]
        if isinstance(options.allow_private, list):
            self.allowed_networks = networks(options.allow_private)
        self._guarded = options.url is None and options.allow_private is not True

    def check(self, message: Message) -> Rejected | None:
        payload = message.payload
        if _is_whole_body(payload):
            payload = {}
        try:
            unknown = sorted(set(payload) - _FIELDS)
            if unknown:
                raise ValueError(f"{unknown[0]}: not a field; there are {', '.join(sorted(_FIELDS))}")
            self._check_target(payload)
            if _CONTROL.search(message.id) or not message.id.isascii():
                raise ValueError("id: must be visible ASCII, it travels in the header webhook-id")
            method = payload.get("method", self.options.method)
            if method not in _METHODS:
                raise ValueError(f"method: must be one of {', '.join(_METHODS)}")
            headers = payload.get("headers")
            if headers is not None:
                _check_headers(headers)
        except ValueError as error:
            return Rejected(str(error))
        return None

    def _check_target(self, payload: dict[str, Any]) -> None:
        url = payload.get("url")
        if self.options.url is None:
            if url is None:
                raise ValueError("url: missing, and the configuration gives none")
            _check_url(url)
        elif url is not None:
            raise ValueError("url: the configuration gives one already; take it out of one of the two")

    def group(self, message: Message) -> Hashable:
        return None

    def request(self, batch: Sequence[Message]) -> Request:
        (message,) = batch
        payload = message.payload
        if _is_whole_body(payload):
            payload = {}
            body, content_type = message.payload_json, "application/json"
        else:
            body, content_type = _body(message, payload)
        headers = {name.lower(): value for name, value in self.options.headers.items()}
        headers.update((name.lower(), value) for name, value in (payload.get("headers") or {}).items())
        if content_type:
            headers.setdefault("content-type", content_type)
        if message.traceparent:
            headers["traceparent"] = message.traceparent
        timestamp = str(int(self.clock()))
        headers["webhook-id"] = message.id
        headers["webhook-timestamp"] = timestamp
        if self._macs:
            headers["webhook-signature"] = self._signatures(f"{message.id}.{timestamp}.".encode() + body)
        url = self.options.url or payload["url"]
        method = payload.get("method", self.options.method)
        return Request(url, body, headers, method, public_only=self._guarded)

    def _signatures(self, content: bytes) -> str:
        signatures = []
        for prepared in self._macs:
            mac = prepared.copy()
            mac.update(content)
            signatures.append("v1," + base64.b64encode(mac.digest()).decode())
        return " ".join(signatures)

    def outcomes(self, batch: Sequence[Message], response: Response) -> Sequence[Outcome]:
        (message,) = batch
        return [self._outcome(message, response)]

    def _outcome(self, message: Message, response: Response) -> Outcome:
        status = response.status
        if 200 <= status < 300:
            return Delivered()
        text = " ".join(response.text.split())[:200]
        reason = f"{status} {text}" if text else f"status {status}"
        match status:
            case 410:
                return Unregistered(self.options.url or message.payload["url"], reason, status)
            case 429:
                return Throttled(reason, retry_after(response.headers, self.clock()), status, response.body)
            case 503 if "retry-after" in response.headers:
                return Throttled(reason, retry_after(response.headers, self.clock()), status, response.body)
            case 408:
                return Retry(reason, status, response.body)
            case _ if status >= 500 or status < 200:
                return Retry(reason, status, response.body)
            case _ if status < 400:
                where = response.headers.get("location", "")[:200]
                return Rejected(
                    f"status {status}: redirects are not followed ({where})", status, response.body
                )
        return Rejected(reason, status, response.body)

    async def verify(self) -> str:
        """Sends nothing: a receiver has no way to say that it would accept."""
        target = self.options.url or "each message's own url"
        return f"nothing is sent; {len(self._macs)} signing secrets, to {target}"


def _is_whole_body(payload: dict[str, Any]) -> bool:
    """Whether a payload uses none of our fields: then all of it is the body (`format: bare`)."""
    return _FIELDS.isdisjoint(payload)


def _body(message: Message, payload: dict[str, Any]) -> tuple[bytes, str]:
    """The bytes to send and their type: JSON as the application wrote it, text as text."""
    if "body" not in payload:
        return b"", ""
    body = payload["body"]
    if isinstance(body, str):
        return body.encode(), "text/plain; charset=utf-8"
    return message.raw("body") or b"null", "application/json"


def _check_url(url: object) -> None:
    if not isinstance(url, str) or not url or len(url) > LONGEST_URL:
        raise ValueError(f"url: must be a string of 1 to {LONGEST_URL} characters")
    if _CONTROL.search(url):
        raise ValueError("url: has spaces or control characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"url: {error}") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError("url: must begin with https:// or http://")
    if not parts.hostname or port == 0:
        raise ValueError("url: names no host, or port 0")
    if "@" in parts.netloc:
        raise ValueError("url: credentials in it would be logged by others; use a header")


def _check_headers(headers: object) -> None:
    if not isinstance(headers, dict):
        raise ValueError("headers: must be an object of names and texts")
    if len(headers) > MOST_HEADERS:
        raise ValueError(f"headers: {len(headers)} of them; at most {MOST_HEADERS} are allowed")
    for name, value in headers.items():
        if not isinstance(name, str) or len(name) > LONGEST_HEADER or not _TOKEN.fullmatch(name):
            raise ValueError(f"headers: {str(name)[:60]!r} is no name of a header")
        if name.lower() in _OURS:
            raise ValueError(f"headers: {name} is set by relay and by the connection")
        if not isinstance(value, str) or len(value) > LONGEST_HEADER or not _VALUE.fullmatch(value):
            raise ValueError(f"headers: the value of {name} must be a text without line breaks")

"""Pusher Channels, and servers that speak its HTTP API (soketi, sockudo, …).

Source: https://pusher.com/docs/channels/library_auth_reference/rest-api/
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Hashable, Sequence
from hashlib import md5, sha256
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

import msgspec
from pydantic import Field, field_validator

from relay.errors import TransportError, UsageError
from relay.http.retry_after import retry_after
from relay.message import Message
from relay.outcome import Delivered, Isolate, Outcome, Rejected, Retry, Throttled, Unauthorised
from relay.provider import HttpProvider, Request, Response
from relay.settings.provider import ProviderOptions
from relay.settings.types import Secret

EVENTS_PER_BATCH = 10
CHANNELS_PER_EVENT = 100
LONGEST_NAME = 200
"""Characters of a channel's name, an event's name, and a user's id."""

_RESERVED = ("channel", "channels", "event", "data", "socket_id", "info")
_CHANNEL = re.compile(r"[A-Za-z0-9_\-=@,.;]+")
_TO_USER = "#server-to-user-"
_ENCRYPTED = "private-encrypted-"
_SOCKET_ID = re.compile(r"\d+\.\d+")
_HEADERS = {"Content-Type": "application/json"}

_encode = msgspec.json.Encoder().encode


class PusherOptions(ProviderOptions):
    """What `type: pusher` takes."""

    app_id: Annotated[str, Field(pattern=r"^[0-9]+$")]
    """The app's id: digits, in quotes."""
    key: Annotated[str, Field(min_length=1)]
    """The app's key."""
    secret: Secret
    """The app's secret; it signs every request."""
    cluster: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")] = "mt1"
    """The app's cluster, such as eu or us2."""
    url: str | None = None
    """A self-hosted server, such as http://127.0.0.1:6001, instead of the cluster."""
    event: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)] | None = None
    """The event of messages that name none."""
    max_data: Annotated[int, Field(ge=1)] = 10240
    """Bytes of data that the server takes for one event; dedicated clusters may take more."""

    @field_validator("url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("must be http://HOST or https://HOST, with a port and a path where needed")
        return value.rstrip("/")


class Pusher(HttpProvider[PusherOptions]):
    """Pusher Channels: events to channels, up to ten in one request."""

    Options = PusherOptions
    batch_size = EVENTS_PER_BATCH

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        options = self.options
        self._base = options.url or f"https://api-{options.cluster}.pusher.com"
        # A server behind a path prefix signs the path that it sees.
        self._prefix = urlsplit(self._base).path
        self._origin = self._base.removesuffix(self._prefix) if self._prefix else self._base
        self._hmac = hmac.new(options.secret.get_secret_value().encode(), digestmod=sha256)

    def check(self, message: Message) -> Rejected | None:
        payload = message.payload
        try:
            channels = _channels(payload)
            self._check_event(payload)
            _check_optional(payload)
            if len(channels) > 1 and any(name.startswith(_ENCRYPTED) for name in channels):
                raise ValueError(f"channels: an encrypted channel ({_ENCRYPTED}…) must be alone")
            size = len(_data(message, payload).encode("utf-8", "surrogatepass"))
            if size > self.options.max_data:
                raise ValueError(f"data: {size} bytes; the server takes at most {self.options.max_data}")
        except ValueError as error:
            return Rejected(str(error))
        return None

    def _check_event(self, payload: dict[str, Any]) -> None:
        event = payload.get("event", self.options.event)
        if event is None:
            raise ValueError("event: missing, and the option `event` supplies none")
        if not isinstance(event, str) or not 1 <= len(event) <= LONGEST_NAME:
            raise ValueError(f"event: must be a string of 1 to {LONGEST_NAME} characters")
        if event.startswith(("pusher:", "pusher_internal:")):
            raise ValueError("event: names that begin with pusher: or pusher_internal: are reserved")

    def group(self, message: Message) -> Hashable:
        payload = message.payload
        channels = _channels(payload)
        alone = len(channels) > 1 or channels[0].startswith(_ENCRYPTED)
        return None if alone else "batch"

    def request(self, batch: Sequence[Message]) -> Request:
        if len(batch) == 1:
            path = f"/apps/{self.options.app_id}/events"
            body = _encode(self._event(batch[0], single=True))
        else:
            path = f"/apps/{self.options.app_id}/batch_events"
            body = _encode({"batch": [self._event(message, single=False) for message in batch]})
        url = self._sign("POST", path, {"body_md5": md5(body, usedforsecurity=False).hexdigest()})
        return Request(url, body, _HEADERS)

    def _event(self, message: Message, *, single: bool) -> dict[str, Any]:
        payload = message.payload
        channels = _channels(payload)
        event: dict[str, Any] = {
            "name": payload.get("event", self.options.event),
            "data": _data(message, payload),
        }
        if single:
            event["channels"] = channels
        else:
            event["channel"] = channels[0]
        for name in ("socket_id", "info"):
            if payload.get(name) is not None:
                event[name] = payload[name]
        return event

    def _sign(self, method: str, path: str, extra: dict[str, str]) -> str:
        """The URL with its signature: of method, path and the sorted query, not escaped."""
        path = self._prefix + path
        query = {
            "auth_key": self.options.key,
            "auth_timestamp": str(int(self.clock())),
            "auth_version": "1.0",
            **extra,
        }
        text = "&".join(f"{name}={query[name]}" for name in sorted(query))
        mac = self._hmac.copy()
        mac.update(f"{method}\n{path}\n{text}".encode())
        escaped = "&".join(f"{name}={quote(query[name], safe='')}" for name in sorted(query))
        return f"{self._origin}{path}?{escaped}&auth_signature={mac.hexdigest()}"

    def outcomes(self, batch: Sequence[Message], response: Response) -> Sequence[Outcome]:
        return [self._outcome(response, several=len(batch) > 1)] * len(batch)

    def _outcome(self, response: Response, *, several: bool) -> Outcome:
        status = response.status
        if status in (200, 202):
            return Delivered()
        reason = _reason(response)
        match status:
            case 429:
                return Throttled(reason, retry_after(response.headers, self.clock()), status, response.body)
            case 503 if "retry-after" in response.headers:
                return Throttled(reason, retry_after(response.headers, self.clock()), status, response.body)
            case 401 | 403 | 404 | 407:
                return Unauthorised(reason + _advice(status, response.text), status, response.body)
            case _ if 300 <= status < 400:
                return Unauthorised(
                    f"{reason}: redirects are not followed; mend `url`", status, response.body
                )
            case 408:
                return Retry(reason, status, response.body)
            case _ if status >= 500 or status < 200:
                return Retry(reason, status, response.body)
            case 400 | 413 if several:
                return Isolate(reason)
        return Rejected(reason, status, response.body)

    async def verify(self) -> str:
        """Lists the channels of one prefix: signed, and without effect."""
        url = self._sign("GET", f"/apps/{self.options.app_id}/channels", {"filter_by_prefix": "relay-check-"})
        try:
            response = await self._transport.send(Request(url, method="GET"))
        except TransportError as error:
            raise UsageError(f"{self._base}: {error}") from error
        if response.status != 200:
            raise UsageError(f"{self._base}: {_reason(response)}{_advice(response.status, response.text)}")
        return f"{self._base} accepts the key and the secret of app {self.options.app_id}"


def _channels(payload: dict[str, Any]) -> list[str]:
    """The channels of a payload. Raises ValueError with what is wrong about them."""
    one, many = payload.get("channel"), payload.get("channels")
    if one is not None and many is not None:
        raise ValueError("channel, channels: give one of the two")
    channels = many if many is not None else [one]
    if channels == [None]:
        raise ValueError("channel: missing")
    if not isinstance(channels, list) or not 1 <= len(channels) <= CHANNELS_PER_EVENT:
        raise ValueError(f"channels: must be a list of 1 to {CHANNELS_PER_EVENT} names")
    for channel in channels:
        if not isinstance(channel, str):
            raise ValueError("channel: must be a string")
        name = channel.removeprefix(_TO_USER)
        if len(name) > LONGEST_NAME:
            raise ValueError(f"channel: {len(name)} characters; at most {LONGEST_NAME} are allowed")
        if not _CHANNEL.fullmatch(name):
            raise ValueError(f"channel: {channel[:60]!r} may hold only letters, digits and _-=@,.;")
    return channels


def _check_optional(payload: dict[str, Any]) -> None:
    socket_id, info = payload.get("socket_id"), payload.get("info")
    if socket_id is not None and not (isinstance(socket_id, str) and _SOCKET_ID.fullmatch(socket_id)):
        raise ValueError("socket_id: must look like 123.456")
    if info is not None and not isinstance(info, str):
        raise ValueError("info: must be a string, such as subscription_count")


def _data(message: Message, payload: dict[str, Any]) -> str:
    """The data as the string that Pusher wants: JSON as the application wrote it, unless it is a string."""
    if "data" not in payload:
        rest = {name: value for name, value in payload.items() if name not in _RESERVED}
        return _encode(rest).decode()
    data = payload["data"]
    if isinstance(data, str):
        return data
    raw = message.raw("data")
    return "null" if raw is None else raw.decode()


def _reason(response: Response) -> str:
    text = " ".join(response.text.split())[:200]
    return f"{response.status} {text}" if text else f"status {response.status}"


def _advice(status: int, text: str) -> str:
    if "imestamp" in text:
        return " (check the clock of this host)"
    advice = {
        401: " (check key and secret)",
        403: " (the app is disabled, or over its quota)",
        404: " (check app_id, cluster and url)",
        407: " (a proxy wants credentials)",
    }
    return advice.get(status, "")

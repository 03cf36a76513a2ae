"""Pusher Channels, and servers that speak its HTTP API (soketi, sockudo, …).

Source: https://pusher.com/docs/channels/library_auth_reference/rest-api/
"""

from __future__ import annotations

import hmac
from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache
from hashlib import md5, sha256
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

import msgspec
from pydantic import Field, field_validator, model_validator

from relay.errors import TransportError, UsageError
from relay.message import Message
from relay.outcome import Delivered, Isolate, Outcome, Rejected, Unauthorised
from relay.provider import HttpProvider, Request, Response, statuses
from relay.settings.http import HttpOptions
from relay.settings.values import Count, Secret

from ._shared import pusher_limits as limits
from ._shared.answers import reason
from ._shared.hosts import base_url
from ._shared.pusher_encryption import Seal, is_sealed, most_to_seal, read_master_key, sealer

_HEADERS = {"Content-Type": "application/json"}

_encode = msgspec.json.Encoder().encode


class _Event(msgspec.Struct, omit_defaults=True):
    """One event in Pusher's form: with `channels` in a single request, with `channel` in a batch."""

    name: str
    data: msgspec.Raw | str
    channels: list[str] | None = None
    channel: str | None = None
    socket_id: str | None = None
    info: str | None = None


class PusherOptions(HttpOptions):
    """Options of `type: pusher`."""

    app_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._~-]+$")]
    """Id of the app, in quotes: digits at Pusher. A self-hosted server (`url`) may use letters too."""
    key: Annotated[str, Field(min_length=1)]
    """Key of the app."""
    secret: Secret
    """Secret of the app, which signs every request."""
    cluster: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")] = "mt1"
    """Cluster of the app, such as `eu` or `us2`."""
    url: str | None = None
    """URL of a self-hosted server, such as `http://127.0.0.1:6001`, instead of `cluster`."""
    event: Annotated[str, Field(min_length=1, max_length=limits.LONGEST_NAME)] | None = None
    """Default event, for messages without one."""
    encryption_master_key: Secret | None = None
    """Key that encrypts the data of `private-encrypted-` channels: base64 of 32 bytes. Needs the extra
    `encryption`."""
    max_data: Count = 10240
    """Largest size of the data of one event, in bytes. Dedicated clusters may allow more."""

    @field_validator("url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        return None if value is None else base_url(value)

    @field_validator("event")
    @classmethod
    def _is_event(cls, value: str | None) -> str | None:
        if value is not None:
            limits.check_event(value)
        return value

    @field_validator("encryption_master_key")
    @classmethod
    def _is_master_key(cls, value: Secret | None) -> Secret | None:
        if value is not None:
            sealer(read_master_key(value.get_secret_value()))
        return value

    @model_validator(mode="after")
    def _is_an_app_of_pusher(self) -> PusherOptions:
        if self.url is None and not (self.app_id.isascii() and self.app_id.isdecimal()):
            raise ValueError(
                "app_id: ids at Pusher are digits; a self-hosted server with another id needs `url`"
            )
        return self


class Pusher(HttpProvider[PusherOptions]):
    """Triggers events on Pusher Channels, up to ten in one request."""

    Options = PusherOptions
    batch_size = limits.EVENTS_PER_BATCH

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        options = self.options
        self._base = options.url or f"https://api-{options.cluster}.pusher.com"
        # A server behind a path prefix verifies the path that it receives.
        prefix = urlsplit(self._base).path
        self._origin = self._base.removesuffix(prefix)
        self._path = f"{prefix}/apps/{options.app_id}"
        self._seal: Seal | None = None
        if options.encryption_master_key is not None:
            self._seal = sealer(read_master_key(options.encryption_master_key.get_secret_value()))
        self._hmac = hmac.new(options.secret.get_secret_value().encode(), digestmod=sha256)

    def check(self, message: Message) -> Rejected | None:
        try:
            payload = limits.read(message)
            if payload.terminate_connections is not None:
                limits.check_user(payload.terminate_connections)
                limits.check_termination(message)
                return None
            channels = limits.channels(payload)
            limits.check_channels(channels)
            name = payload.event if payload.event is not None else self.options.event
            if name is None:
                raise ValueError("event: missing, and the option `event` supplies none")
            limits.check_event(name)
            limits.check_socket_id(payload.socket_id)
            self._check_data(message, payload, channels)
        except ValueError as error:
            return Rejected(str(error))
        return None

    def _check_data(self, message: Message, payload: limits.Payload, channels: list[str]) -> None:
        encrypted, most = limits.is_encrypted(channels[0]), self.options.max_data
        if not encrypted and limits.LONGER_AT_MOST * len(message.payload_json) <= most:
            return
        content = limits.data(message, payload, most)
        sealed = encrypted and self._seal is not None and not is_sealed(limits.text(content))
        if sealed:
            content = limits.data(message, payload, most_to_seal(most))
        elif encrypted:
            limits.check_encrypted(content)
        limits.check_size(content, most, sealed=sealed)

    def group(self, message: Message) -> Hashable:
        payload = limits.read(message)
        if payload.terminate_connections is not None or limits.is_alone(limits.channels(payload)):
            return None
        return "batch"

    def request(self, batch: Sequence[Message]) -> Request:
        user = limits.read(batch[0]).terminate_connections
        if user is not None:
            path = f"{self._path}/users/{user}/terminate_connections"
            body = b"{}"
        elif len(batch) == 1:
            path = f"{self._path}/events"
            body = _encode(self._event(batch[0]))
        else:
            path = f"{self._path}/batch_events"
            body = _encode({"batch": [self._event(message, in_batch=True) for message in batch]})
        return Request(self._sign("POST", path, body), body, _HEADERS)

    def _event(self, message: Message, *, in_batch: bool = False) -> _Event:
        payload = limits.read(message)
        channels = limits.channels(payload)
        content = limits.data(message, payload, self.options.max_data)
        if self._seal is not None and limits.is_encrypted(channels[0]):
            content = self._sealed(message, payload, channels[0])
        return _Event(
            name=payload.event if payload.event is not None else self.options.event or "",
            data=content,
            channels=None if in_batch else channels,
            channel=channels[0] if in_batch else None,
            socket_id=payload.socket_id or None,
            info=payload.info,
        )

    def _sealed(self, message: Message, payload: limits.Payload, channel: str) -> str:
        """The encrypted data, unless the application has encrypted it already."""
        assert self._seal is not None
        plain = limits.text(limits.data(message, payload, most_to_seal(self.options.max_data)))
        return plain if is_sealed(plain) else self._seal(channel, plain)

    def _sign(self, method: str, path: str, body: bytes = b"", **extra: str) -> str:
        """The URL, signed now. The signature is valid for ten minutes."""
        query = {
            "auth_key": self.options.key,
            "auth_timestamp": str(int(self.clock())),
            "auth_version": "1.0",
            **extra,
        }
        if body:
            query["body_md5"] = md5(body, usedforsecurity=False).hexdigest()
        return f"{self._origin}{path}?{signed_query(self._hmac, method, path, query)}"

    def outcomes(self, batch: Sequence[Message], response: Response) -> Sequence[Outcome]:
        return [self._outcome(response, several=len(batch) > 1)] * len(batch)

    def _outcome(self, response: Response, *, several: bool) -> Outcome:
        status = response.status
        if 200 <= status < 300:
            return Delivered()
        why = reason(response)
        if self._is_ours(response):
            return Unauthorised(why + _advice(response), status, response.body)
        if several and status in {400, 413}:
            return Isolate(why)
        return statuses.outcome(response, why, self.clock())

    def _is_ours(self, response: Response) -> bool:
        """Return whether a refusal is about the app or the address, which all messages share."""
        if response.status == 413:
            # One of Pusher's pages has 413 instead of 403 for a quota that is used up.
            return "quota" in response.text.lower()
        return response.status in statuses.OURS or 300 <= response.status < 400

    async def verify(self) -> str:
        """Sends a signed request without effect, which lists the channels of one prefix."""
        url = self._sign("GET", f"{self._path}/channels", filter_by_prefix="relay-check-")
        try:
            response = await self._transport.send(Request(url, method="GET"))
        except TransportError as error:
            raise UsageError(f"{self._base}: {error}") from error
        if response.status != 200:
            raise UsageError(f"{self._base}: {reason(response)}{_advice(response)}")
        return f"{self._base} accepts the key and the secret of app {self.options.app_id}"


def signed_query(prepared: hmac.HMAC, method: str, path: str, query: Mapping[str, str]) -> str:
    """The query, escaped, with its signature.

    Signed is the text that is *not* escaped, in the order of the names; `prepared` holds the secret and
    is not changed.
    """
    pairs = sorted(query.items())
    mac = prepared.copy()
    mac.update(f"{method}\n{path}\n{'&'.join([f'{name}={value}' for name, value in pairs])}".encode())
    escaped = "&".join([f"{name}={_escape(value)}" for name, value in pairs])
    return f"{escaped}&auth_signature={mac.hexdigest()}"


def _escape(value: str) -> str:
    return value if value.isascii() and value.isalnum() else _quoted(value)


@lru_cache(maxsize=64)
def _quoted(value: str) -> str:
    return quote(value, safe="")


_ADDRESS = " (check app_id, cluster and url)"


def _advice(response: Response) -> str:
    """Advice for the operator, in brackets."""
    if response.status == 401 and "timestamp" in response.text.lower():
        return " (check this host's clock)"
    advice = {
        401: " (check key and secret)",
        403: " (the app is disabled, or over its quota)",
        404: _ADDRESS,
        405: _ADDRESS,
        407: " (a proxy requires credentials)",
        410: _ADDRESS,
        413: " (the app is over its quota)",
    }
    if 300 <= response.status < 400:
        return f"{statuses.redirect_note(response)} (check `url`)"
    return advice.get(response.status, "")

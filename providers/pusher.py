"""Pusher Channels, and servers that speak its HTTP API (soketi, sockudo, …).

Source: https://pusher.com/docs/channels/library_auth_reference/rest-api/
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Hashable, Mapping, Sequence
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

_PLACE = "_pusher_event"
"""The place of an event among the attributes of its message."""


class _Event(msgspec.Struct, omit_defaults=True):
    """One event in Pusher's form: with `channel` in a batch, with `channels` in a request of its own."""

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
        # Each event needs these, and an attribute of a pydantic model takes five times as long.
        self._default_event = options.event
        self._max_data = options.max_data
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
            self._event(message)
        except ValueError as error:
            return Rejected(str(error))
        return None

    def group(self, message: Message) -> Hashable:
        event = self._event(message)
        alone = event is None or event.channel is None or limits.is_encrypted(event.channel)
        return None if alone else "batch"

    def request(self, batch: Sequence[Message]) -> Request:
        if len(batch) > 1:
            path = f"{self._path}/batch_events"
            body = _encode({"batch": [self._event(message) for message in batch]})
        elif (event := self._event(batch[0])) is not None:
            path = f"{self._path}/events"
            body = _encode(self._alone(event))
        else:
            path = f"{self._path}/users/{limits.read(batch[0]).terminate_connections}/terminate_connections"
            body = b"{}"
        return Request(self._sign("POST", path, body), body, _HEADERS)

    def _event(self, message: Message) -> _Event | None:
        """The event of a message; None if it ends a user's connections. Raises ValueError.

        It is made once, when the message is checked, and stays with the message until it is sent.
        """
        seen = message.__dict__
        if _PLACE in seen:
            found: _Event | None = seen[_PLACE]
            return found
        event = seen[_PLACE] = self._new_event(message)
        return event

    def _new_event(self, message: Message) -> _Event | None:
        payload = limits.read(message)
        if payload.terminate_connections is not None:
            limits.check_user(payload.terminate_connections)
            limits.check_termination(message)
            return None
        channels = limits.channels(payload)
        limits.check_channels(channels)
        name = payload.event if payload.event is not None else self._default_event
        if name is None:
            raise ValueError("event: missing, and the option `event` supplies none")
        limits.check_event(name)
        limits.check_socket_id(payload.socket_id)
        is_one = len(channels) == 1
        return _Event(
            name=name,
            data=self._data(message, payload, channels[0]),
            channels=None if is_one else channels,
            channel=channels[0] if is_one else None,
            socket_id=payload.socket_id or None,
            info=payload.info,
        )

    def _data(self, message: Message, payload: limits.Payload, channel: str) -> msgspec.Raw | str:
        """The data of an event, before it is encrypted."""
        most = self._max_data
        content = limits.data(message, payload, most)
        if not limits.is_encrypted(channel):
            if limits.LONGER_AT_MOST * len(message.payload_json) > most:
                limits.check_size(content, most, sealed=False)
            return content
        if self._seal is None or is_sealed(limits.text(content)):
            limits.check_encrypted(content)
            limits.check_size(content, most, sealed=False)
            return content
        plain = limits.data(message, payload, most_to_seal(most))
        limits.check_size(plain, most, sealed=True)
        return plain

    def _alone(self, event: _Event) -> _Event:
        """The event for a request of its own, with encrypted data if its channel takes only these."""
        if event.channel is None:
            return event
        content = event.data
        if self._seal is not None and limits.is_encrypted(event.channel):
            plain = limits.text(content)
            content = plain if is_sealed(plain) else self._seal(event.channel, plain)
        return msgspec.structs.replace(event, channel=None, channels=[event.channel], data=content)

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
    text = "&".join([f"{name}={value}" for name, value in pairs])
    mac = prepared.copy()
    mac.update(f"{method}\n{path}\n{text}".encode())
    if not _UNRESERVED.fullmatch("".join(query.values())):
        text = "&".join([f"{name}={quote(value, safe='')}" for name, value in pairs])
    return f"{text}&auth_signature={mac.hexdigest()}"


_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]*")
"""Text that needs no escapes in a query."""


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

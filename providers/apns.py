"""Apple Push Notification service, over HTTP/2.

Source: https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import field_validator, model_validator

from relay.errors import TransportError, UsageError
from relay.http.transport import OnDone, PendingRequest
from relay.message import Message
from relay.outcome import Delivered, Outcome, Rejected, Unauthorised
from relay.provider import HttpProvider, Request, Response
from relay.provider.base import Repeat
from relay.settings.http import HttpOptions, pem_text
from relay.settings.values import Secret

from ._shared import apns_channels
from ._shared.apns_answers import BAD_EXPIRATION, TOKEN_EXPIRED, delivered, outcome, reason_of
from ._shared.apns_push import (
    NO_STORAGE,
    SUFFIXES,
    check_push,
    headers_of,
    push_request,
    target_of,
)
from ._shared.apns_token import ProviderToken, read_key
from ._shared.hosts import base_url

HOSTS = {"production": "https://api.push.apple.com", "sandbox": "https://api.sandbox.push.apple.com"}

MAX_CHANNELS = 10_000
"""Channels that are remembered to store nothing. An app has no more."""

_NAME = re.compile(r"[A-Za-z0-9._-]+")


class ApnsOptions(HttpOptions):
    """Options of `type: apns`: the key of provider tokens, or a certificate (`client_cert_file`)."""

    key: Secret | None = None
    """Signing key (.p8) that Apple issued, usually by its path, `key_file`."""
    key_id: str | None = None
    """Id of the key, ten characters. Required with `key`."""
    team_id: str | None = None
    """Id of the developer team, ten characters. Required with `key`."""
    topic: str | None = None
    """Bundle id of the app, for messages without an `apns-topic`. relay adds the suffix of the push type."""
    environment: Literal["production", "sandbox"] = "production"
    """Environment of the device tokens and channels, each of which is valid in one environment only.
    `sandbox` is for builds from Xcode."""
    url: str | None = None
    """Base URL of a server other than Apple's, such as `relay sandbox`."""

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
    """Sends each push on a stream of HTTP/2: to a device, or to all devices of a broadcast channel."""

    Options = ApnsOptions
    target_field = "device_token"
    http2 = True

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        options = self.options
        self._base = options.url or HOSTS[options.environment]
        self._token: ProviderToken | None = None
        if options.key and options.key_id and options.team_id:
            key = read_key(options.key.get_secret_value())
            self._token = ProviderToken(key, options.key_id, options.team_id, self.clock)
        self._without_storage: set[str] = set()

    def check(self, message: Message) -> Rejected | None:
        try:
            check_push(message, self.options.topic, by_token=self._token is not None)
        except ValueError as error:
            return Rejected(str(error))
        return None

    def request(self, batch: Sequence[Message]) -> Request:
        (message,) = batch
        headers = self._authorization()
        if self._without_storage and self._stores_nothing(message.payload):
            headers["apns-expiration"] = NO_STORAGE
        return push_request(message, self._base, self.options.topic, self.clock(), headers)

    async def deliver(self, batch: Sequence[Message]) -> Sequence[Outcome]:
        request = self.request(batch)
        response = await self._transport.send(request)
        if self._corrects(batch[0], request, response):
            return await self.deliver_again(batch)
        return self.outcomes(batch, response)

    async def deliver_again(self, batch: Sequence[Message]) -> Sequence[Outcome]:
        return self.outcomes(batch, await self._transport.send(self.request(batch)))

    def start_request(self, batch: Sequence[Message], on_done: OnDone) -> PendingRequest:
        request = self.request(batch)

        def answered(pending: PendingRequest, answer: Response | Exception) -> None:
            corrected = isinstance(answer, Response) and self._corrects(batch[0], request, answer)
            on_done(pending, Repeat() if corrected else answer)

        return self._transport.start(request, answered)

    def outcomes(self, batch: Sequence[Message], response: Response) -> Sequence[Outcome]:
        (message,) = batch
        if 200 <= response.status < 300:
            return [delivered(response)]
        payload = message.payload
        own_topic = "apns-topic" in headers_of(payload)
        return [outcome(response, target_of(payload), self.clock(), own_topic=own_topic)]

    def channels(self) -> apns_channels.Channels:
        """Return the broadcast channels of the configured app. Raises UsageError."""
        if self.options.topic is None:
            raise UsageError(f"providers.{self.name}.topic: missing; channels belong to an app")
        base = self.options.url or apns_channels.HOSTS[self.options.environment]
        bundle = self.options.topic.removesuffix(SUFFIXES["liveactivity"])
        return apns_channels.Channels(self._transport, base, bundle, self._authorization)

    async def verify(self) -> str:
        """Push to a device that cannot exist. APNs checks the credentials first."""
        nobody = Message(id="relay check", queue="", payload_json=b'{"device_token":"00","aps":{}}')
        try:
            (found,) = await self.deliver([nobody])
        except TransportError as error:
            raise UsageError(str(error)) from error
        if isinstance(found, Unauthorised):
            if self.options.topic is None and found.reason.endswith("MissingTopic"):
                return f"{self._base} answers; without a `topic` that is all we can check ({found.reason})"
            raise UsageError(f"APNs refuses us: {found.reason}")
        result = "accepted" if isinstance(found, Delivered) else found.reason
        return f"{self._base} accepts our credentials ({result})"

    def _authorization(self) -> dict[str, str]:
        return {} if self._token is None else {"authorization": self._token.header}

    def _stores_nothing(self, payload: dict[str, Any]) -> bool:
        return payload.get("channel_id") in self._without_storage and "apns-expiration" not in headers_of(
            payload
        )

    def _corrects(self, message: Message, request: Request, response: Response) -> bool:
        """Return whether a second request differs from a refused one: a newer token, or no expiration."""
        if response.status not in {400, 403}:
            return False
        why = reason_of(response)[0]
        if why == TOKEN_EXPIRED:
            return self._token is not None and self._token.replaces(request.headers.get("authorization", ""))
        channel = request.headers.get("apns-channel-id")
        if why != BAD_EXPIRATION or channel is None or "apns-expiration" in headers_of(message.payload):
            return False
        if request.headers["apns-expiration"] == NO_STORAGE:
            return False
        # APNs does not report which channels store messages, and the others accept no expiration.
        if len(self._without_storage) >= MAX_CHANNELS:
            self._without_storage.clear()
        self._without_storage.add(channel)
        return True

"""Broadcast channels of APNs: create, list, read and delete them.

Source:
https://developer.apple.com/documentation/usernotifications/sending-channel-management-requests-to-apns
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any

import msgspec

from relay.errors import TransportError, UsageError
from relay.http.transport import Transport
from relay.provider import Request, Response

from .answers import json_object
from .apns_answers import reason_of

HOSTS = {
    "production": "https://api-manage-broadcast.push.apple.com:2196",
    "sandbox": "https://api-manage-broadcast.sandbox.push.apple.com:2195",
}

REMEDIES = {
    "BadChannelId": "it must be the text that APNs issued",
    "CannotCreateChannelConfig": "an app may have 10,000 channels; delete those that you no longer need",
    "ChannelNotRegistered": "no such channel in this `environment`",
    "ExpiredProviderToken": "is the clock of this host right?",
    "FeatureNotEnabled": "enable Broadcast Capability for the app in the developer account",
    "InvalidProviderToken": "are `key_file`, `key_id` and `team_id` right?",
    "TopicDisallowed": "is `topic` the bundle id of the app, and may this key push to it?",
    "TopicMismatch": "is `topic` the bundle id of the app, and may this key push to it?",
}


class Storage(IntEnum):
    """The storage policy of a channel for devices that are offline. It cannot be changed later."""

    NONE = 0
    LATEST = 1


class Channels:
    """The channels of one app in one environment. All methods raise UsageError or TransportError."""

    def __init__(
        self, transport: Transport, base: str, bundle: str, authorization: Callable[[], dict[str, str]]
    ) -> None:
        self._transport = transport
        self._url = f"{base}/1/apps/{bundle}"
        self._authorization = authorization

    async def create(self, storage: Storage) -> str:
        """Create a channel for Live Activities and return its id."""
        body = msgspec.json.encode({"message-storage-policy": int(storage), "push-type": "LiveActivity"})
        response = await self._send("POST", "channels", body, {"content-type": "application/json"})
        channel = response.headers.get("apns-channel-id", "")
        if not channel:
            raise TransportError(f"APNs answered {response.status} without a channel id")
        return channel

    async def list(self) -> list[str]:
        """Return the ids of all channels, some 2,000 at most: longer answers are refused."""
        found = (await self._read("all-channels")).get("channels")
        if not isinstance(found, list):
            raise TransportError("APNs answered without a list of channels")
        return [str(channel) for channel in found]

    async def storage(self, channel: str) -> Storage:
        """Return the storage policy of a channel."""
        found = await self._read("channels", {"apns-channel-id": channel})
        policy = found.get("message-storage-policy")
        if policy not in list(Storage):
            raise TransportError("APNs answered without the storage policy of the channel")
        return Storage(policy)

    async def delete(self, channel: str) -> None:
        """Delete a channel. It cannot be created again."""
        await self._send("DELETE", "channels", b"", {"apns-channel-id": channel})

    async def _read(self, path: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
        response = await self._send("GET", path, b"", headers or {})
        if response.incomplete is not None:
            raise TransportError(f"APNs' answer cannot be read: {response.incomplete}")
        return json_object(response.body)

    async def _send(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Response:
        request = Request(f"{self._url}/{path}", body, {**headers, **self._authorization()}, method)
        response = await self._transport.send(request)
        if 200 <= response.status < 300:
            return response
        why = reason_of(response)[0]
        line = f"APNs answered {response.status} {why}".strip()
        if response.status == 429 or response.status >= 500:
            raise TransportError(f"{line}; try again later")
        raise UsageError(f"{line}: {REMEDIES[why]}" if why in REMEDIES else line)

"""The fields of a payload for Pusher Channels, and the server's limits.

Source: https://pusher.com/docs/channels/library_auth_reference/rest-api/ and the official libraries.
All checks raise ValueError with one line about the mistake.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import msgspec

from relay.message import Message

from .payload import reader
from .pusher_encryption import PREFIX, is_sealed, sealed_size
from .utf8_json import without_escapes

EVENTS_PER_BATCH = 10
CHANNELS_PER_EVENT = 100
LONGEST_NAME = 200
"""Characters of a channel's name, an event's name, and a user's id."""

LONGER_AT_MOST = 5
"""Maximum ratio of the length of an event's data to its payload: 1e15 may become 1000000000000000.0."""

_CHANNEL = re.compile(r"[A-Za-z0-9_\-=@,.;]+")
_TO_USER = "#server-to-user-"
_SOCKET_ID = re.compile(r"[0-9]+\.[0-9]+")
_RESERVED_EVENTS = ("pusher:", "pusher_internal:")
_QUOTE = ord('"')


class Payload(msgspec.Struct):
    """The known fields of a payload. Null is the same as absent, except for `data`."""

    channel: str | None = None
    channels: list[str] | None = None
    event: str | None = None
    data: msgspec.Raw = msgspec.Raw()
    socket_id: str | None = None
    info: str | None = None
    terminate_connections: str | None = None


_FIELDS = frozenset(Payload.__struct_fields__)
_MUST_BE = {
    "channel": "a string",
    "channels": f"a list of 1 to {CHANNELS_PER_EVENT} names",
    "event": f"a string of 1 to {LONGEST_NAME} characters",
    "socket_id": "a string that looks like 123.456",
    "info": "a string, such as subscription_count",
    "terminate_connections": "a user's id, a string",
}

_decode_fields = msgspec.json.Decoder(dict[str, Any]).decode
_decode_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


read = reader(Payload, _MUST_BE)
"""The payload of a message. Raises ValueError if a field has another type than Pusher's."""


def channels(payload: Payload) -> list[str]:
    """The channels of a payload: 1 to 100, given in one of the two ways."""
    if payload.channels is None:
        if payload.channel is None:
            raise ValueError("channel: missing")
        return [payload.channel]
    if payload.channel is not None:
        raise ValueError("channel, channels: give one of the two")
    if not 1 <= len(payload.channels) <= CHANNELS_PER_EVENT:
        raise ValueError(f"channels: must be {_MUST_BE['channels']}, not {len(payload.channels)}")
    return payload.channels


def is_encrypted(channel: str) -> bool:
    """Return whether a channel takes encrypted data only."""
    return channel.startswith(PREFIX)


def data(message: Message, payload: Payload, most: int) -> msgspec.Raw | str:
    """The data as the string that Pusher takes: JSON as the application wrote it, unless it is a string.

    A string is returned as its JSON text (`Raw`), which fits into a body; anything else as a text to encode.
    JSON of more than `most` bytes comes without escapes such as `\\u0436`.
    """
    if not payload.data:
        rest = _decode_fields(message.payload_json)
        for name in rest.keys() & _FIELDS:
            del rest[name]
        return _encode(rest).decode()
    if memoryview(payload.data)[0] == _QUOTE:
        return payload.data
    encoded = bytes(payload.data)
    return (encoded if len(encoded) <= most else without_escapes(encoded)).decode()


def text(content: msgspec.Raw | str) -> str:
    """The data as plain text."""
    return _decode_text(content) if isinstance(content, msgspec.Raw) else content


def check_channels(names: list[str]) -> None:
    """Check the characters and lengths of names. An encrypted channel must be the only one."""
    for channel in names:
        _check_channel(channel)
    if len(names) > 1 and any(map(is_encrypted, names)):
        raise ValueError(f"channels: an encrypted channel ({PREFIX}…) must be the only one")


@lru_cache(maxsize=4096)
def _check_channel(channel: str) -> None:
    _check_name("channel", channel, channel.removeprefix(_TO_USER))


def check_user(user: str) -> None:
    """Check the id of a user. It has the characters of a channel's name and becomes a part of a path."""
    _check_name("terminate_connections", user, user)
    if user in {".", ".."}:
        raise ValueError(f"terminate_connections: {user!r} cannot stand in a path")


def _check_name(field: str, whole: str, name: str) -> None:
    if not name:
        raise ValueError(f"{field}: is empty")
    if len(name) > LONGEST_NAME:
        raise ValueError(f"{field}: {len(name)} characters; at most {LONGEST_NAME} are allowed")
    if not _CHANNEL.fullmatch(name):
        raise ValueError(f"{field}: {whole[:60]!r} may hold only letters, digits and _-=@,.;")


@lru_cache(maxsize=4096)
def check_event(event: str) -> None:
    """Check the length, and refuse names that Pusher reserves."""
    if not 1 <= len(event) <= LONGEST_NAME:
        raise ValueError(f"event: must be {_MUST_BE['event']}, not {len(event)}")
    if event.startswith(_RESERVED_EVENTS):
        raise ValueError("event: names that begin with pusher: or pusher_internal: are reserved")


def check_socket_id(socket_id: str | None) -> None:
    """Check for two numbers with a full stop between them."""
    # Client libraries return an empty text before they are connected.
    if socket_id and not _SOCKET_ID.fullmatch(socket_id):
        raise ValueError(f"socket_id: must be {_MUST_BE['socket_id']}")


def check_termination(message: Message) -> None:
    """Check that a message that ends a user's connections has no other field."""
    for name, value in message.payload.items():
        if name != "terminate_connections" and value is not None:
            raise ValueError(f"{name[:60]!r}: a message with terminate_connections must have no other field")


def check_encrypted(content: msgspec.Raw | str) -> None:
    """An encrypted channel takes encrypted data only, because Pusher could read plain data.

    Source: https://pusher.com/docs/channels/using_channels/encrypted-channels/
    """
    if not is_sealed(text(content)):
        raise ValueError(
            f"data: a {PREFIX}… channel takes only encrypted data: "
            '{"nonce": "…", "ciphertext": "…"}, both in base64, as the official libraries make it, '
            "or plain data with the option `encryption_master_key`"
        )


def check_size(content: msgspec.Raw | str, most: int, *, sealed: bool) -> None:
    """Check for at most `most` bytes of UTF-8, before the string is escaped and after it is `sealed`."""
    # Escapes only make a text longer, so most texts need no decoding.
    if isinstance(content, msgspec.Raw) and (sealed or len(content) - 2 > most):
        content = _decode_text(content)
    size = len(content.encode()) if isinstance(content, str) else 0
    if (found := sealed_size(size) if sealed else size) > most:
        after = " after its encryption" if sealed else ""
        raise ValueError(f"data: {found} bytes{after}; the server takes at most {most} (`max_data`)")

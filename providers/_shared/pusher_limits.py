"""What a payload for Pusher Channels holds, and what the server will take of it.

Source: https://pusher.com/docs/channels/library_auth_reference/rest-api/ and the official libraries.
All checks raise ValueError with one line on what is wrong.
"""

from __future__ import annotations

import re
from base64 import b64decode
from functools import lru_cache

import msgspec

from relay.message import Message

from .payload import reader

EVENTS_PER_BATCH = 10
CHANNELS_PER_EVENT = 100
LONGEST_NAME = 200
"""Characters of a channel's name, an event's name, and a user's id."""

LONGER_AT_MOST = 5
"""How many times as long as its payload an event's data can be: 1e15 may come out as 1000000000000000.0."""

_CHANNEL = re.compile(r"[A-Za-z0-9_\-=@,.;]+")
_TO_USER = "#server-to-user-"
_ENCRYPTED = "private-encrypted-"
_SOCKET_ID = re.compile(r"[0-9]+\.[0-9]+")
_RESERVED_EVENTS = ("pusher:", "pusher_internal:")
_QUOTE = ord('"')
_NONCE, _TAG = 24, 16
"""Bytes of a NaCl secretbox's nonce, and of its authenticator in front of the ciphertext."""


class _Box(msgspec.Struct):
    """The data of an event to an encrypted channel."""

    nonce: str
    ciphertext: str


class Payload(msgspec.Struct):
    """The fields of a payload that are ours; null is the same as absent, but for `data`."""

    channel: str | None = None
    channels: list[str] | None = None
    event: str | None = None
    data: msgspec.Raw = msgspec.Raw()
    socket_id: str | None = None
    info: str | None = None


_FIELDS = frozenset(Payload.__struct_fields__)
_MUST_BE = {
    "channel": "a string",
    "channels": f"a list of 1 to {CHANNELS_PER_EVENT} names",
    "event": f"a string of 1 to {LONGEST_NAME} characters",
    "socket_id": "a string that looks like 123.456",
    "info": "a string, such as subscription_count",
}

_decode_box = msgspec.json.Decoder(_Box).decode
_decode_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


read = reader(Payload, _MUST_BE)
"""The payload of a message. Raises ValueError where a field has another type than Pusher's."""


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


def is_alone(names: list[str]) -> bool:
    """Whether an event to these channels needs a request of its own."""
    return len(names) > 1 or names[0].startswith(_ENCRYPTED)


def data(message: Message, payload: Payload) -> msgspec.Raw | str:
    """The data as the string that Pusher wants: JSON as the application wrote it, unless it is a string.

    A string comes as its JSON text (`Raw`), ready to stand in a body; all else as the text to encode.
    """
    if not payload.data:
        rest = {name: value for name, value in message.payload.items() if name not in _FIELDS}
        return _encode(rest).decode()
    if memoryview(payload.data)[0] == _QUOTE:
        return payload.data
    return bytes(payload.data).decode()


def check_channels(names: list[str]) -> None:
    """Characters and lengths; encrypted channels stand alone."""
    for channel in names:
        _check_channel(channel)
    if len(names) > 1 and any(name.startswith(_ENCRYPTED) for name in names):
        raise ValueError(f"channels: an encrypted channel ({_ENCRYPTED}…) must be alone")


@lru_cache(maxsize=4096)
def _check_channel(channel: str) -> None:
    name = channel.removeprefix(_TO_USER)
    if not name:
        raise ValueError("channel: is empty")
    if len(name) > LONGEST_NAME:
        raise ValueError(f"channel: {len(name)} characters; at most {LONGEST_NAME} are allowed")
    if not _CHANNEL.fullmatch(name):
        raise ValueError(f"channel: {channel[:60]!r} may hold only letters, digits and _-=@,.;")


@lru_cache(maxsize=4096)
def check_event(event: str) -> None:
    """Length, and names that belong to Pusher itself."""
    if not 1 <= len(event) <= LONGEST_NAME:
        raise ValueError(f"event: must be {_MUST_BE['event']}, not {len(event)}")
    if event.startswith(_RESERVED_EVENTS):
        raise ValueError("event: names that begin with pusher: or pusher_internal: are reserved")


def check_socket_id(socket_id: str | None) -> None:
    """Two numbers with a full stop between them."""
    # Client libraries give an empty text before they are connected.
    if socket_id and not _SOCKET_ID.fullmatch(socket_id):
        raise ValueError(f"socket_id: must be {_MUST_BE['socket_id']}")


def check_encrypted(message: Message, payload: Payload) -> None:
    """An encrypted channel takes encrypted data only: plain data would be readable on its way.

    Source: https://pusher.com/docs/channels/using_channels/encrypted-channels/
    """
    if not any(name.startswith(_ENCRYPTED) for name in channels(payload)):
        return
    content = data(message, payload)
    try:
        box = _decode_box(_decode_text(content) if isinstance(content, msgspec.Raw) else content)
        nonce, ciphertext = b64decode(box.nonce, validate=True), b64decode(box.ciphertext, validate=True)
    except (msgspec.DecodeError, ValueError):
        nonce, ciphertext = b"", b""
    if len(nonce) != _NONCE or len(ciphertext) <= _TAG:
        raise ValueError(
            f"data: a {_ENCRYPTED}… channel takes only encrypted data: "
            '{"nonce": "…", "ciphertext": "…"}, both in base64, as the official libraries make it'
        )


def check_size(content: msgspec.Raw | str, most: int) -> None:
    """At most `most` bytes of UTF-8, before the string is escaped."""
    # Escapes only ever make a text longer, so most texts need no decoding.
    if isinstance(content, msgspec.Raw) and len(content) - 2 > most:
        content = _decode_text(content)
    size = len(content.encode()) if isinstance(content, str) else 0
    if size > most:
        raise ValueError(f"data: {size} bytes; the server takes at most {most} (`max_data`)")

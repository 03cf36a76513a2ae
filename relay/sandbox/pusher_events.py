"""The body of a request to Pusher Channels, by the limits of its documentation and its libraries."""

from __future__ import annotations

import re
from base64 import b64decode
from dataclasses import dataclass
from typing import Any

import msgspec

from relay.sandbox.exchange import Refused

DATA = 10_240
"""Most bytes of an event's data, as UTF-8."""

CHANNELS = 100
"""Most channels of one event."""

BATCH = 10
"""Most events of one batch."""

NAME = 200
"""Most characters of an event's name, a channel's name and a user's id."""

_CHANNEL = re.compile(rf"(?:#server-to-user-)?[A-Za-z0-9_\-=@,.;]{{1,{NAME}}}")
_USER = re.compile(rf"[A-Za-z0-9_\-=@,.;]{{1,{NAME}}}")
_SOCKET_ID = re.compile(r"[0-9]+\.[0-9]+")
_ENCRYPTED = "private-encrypted-"
_RESERVED = ("pusher:", "pusher_internal:")

_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `info` names the attributes that its sender asks for."""

    name: str
    channels: tuple[str, ...]
    data: str
    info: str


def events_of(content_type: str, body: bytes, *, batched: bool) -> list[Event]:
    """Read the events of a body. Raises Refused: 400, or 413 if data is too large."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise Refused(400, "Content-Type must be application/json")
    try:
        document = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused(400, "The body is not JSON in UTF-8") from None
    if not isinstance(document, dict):
        raise Refused(400, "The body must be an object")
    if not batched:
        return [_event(document, _channels(document))]
    batch = document.get("batch")
    if not isinstance(batch, list) or not batch:
        raise Refused(400, "Missing required parameter: batch, a list of events")
    if len(batch) > BATCH:
        raise Refused(400, f"Batch too large ({len(batch)} > {BATCH})")
    return [_event(entry, _channel(entry)) for entry in batch]


def check_user(user: str) -> str:
    """The id of a user. Raises Refused (400)."""
    if not _USER.fullmatch(user):
        raise Refused(400, f"Invalid user id: '{user[:60]}'")
    return user


def _channels(event: dict[str, Any]) -> tuple[str, ...]:
    """Return the channels of a single event."""
    channels = event.get("channels")
    if channels is None:
        return _channel(event)
    if not isinstance(channels, list) or not channels:
        raise Refused(400, "Missing required parameter: channels, a list of names")
    if len(channels) > CHANNELS:
        raise Refused(400, f"Cannot trigger on more than {CHANNELS} channels ({len(channels)} given)")
    return tuple(_checked(channel) for channel in channels)


def _channel(event: object) -> tuple[str, ...]:
    """Return the one channel of an event in a batch."""
    if not isinstance(event, dict):
        raise Refused(400, "An event must be an object")
    if event.get("channel") is None:
        raise Refused(400, "Missing required parameter: channel")
    return (_checked(event["channel"]),)


def _checked(channel: object) -> str:
    if not isinstance(channel, str) or not _CHANNEL.fullmatch(channel):
        raise Refused(400, f"Invalid channel name: {str(channel)[:60]}")
    return channel


def _event(event: dict[str, Any], channels: tuple[str, ...]) -> Event:
    name, data = event.get("name"), event.get("data")
    if not isinstance(name, str) or not name:
        raise Refused(400, "Missing required parameter: name")
    if len(name) > NAME:
        raise Refused(400, f"Event name too long: {len(name)} characters, at most {NAME} are allowed")
    if name.startswith(_RESERVED):
        raise Refused(400, f"Invalid event name: {name[:60]} is reserved")
    if not isinstance(data, str):
        raise Refused(400, "Missing required parameter: data, a string")
    # A character has at most 4 bytes, so most texts need not be encoded to be measured.
    if len(data) > DATA // 4 and len(data.encode()) > DATA:
        raise Refused(413, f"The data content of this event exceeds the allowed maximum ({DATA} bytes)")
    socket_id = event.get("socket_id")
    if socket_id is not None and not (isinstance(socket_id, str) and _SOCKET_ID.fullmatch(socket_id)):
        raise Refused(400, f"Invalid socket_id: {str(socket_id)[:60]}")
    info = event.get("info")
    if info is not None and not isinstance(info, str):
        raise Refused(400, "Invalid info: names of attributes, separated by commas")
    if len(channels) > 1 and any(channel.startswith(_ENCRYPTED) for channel in channels):
        raise Refused(400, "You cannot trigger to multiple channels when using encrypted channels")
    if channels[0].startswith(_ENCRYPTED) and not _is_encrypted(data):
        raise Refused(400, "The data of an event to an encrypted channel must be encrypted")
    return Event(name, channels, data, info or "")


def _is_encrypted(data: str) -> bool:
    """Return whether this is a secretbox: a nonce of 24 bytes and a ciphertext of more than 16 (its tag)."""
    try:
        box = _decode(data)
        nonce, ciphertext = (b64decode(box[name], validate=True) for name in ("nonce", "ciphertext"))
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        return False
    return len(nonce) == 24 and len(ciphertext) > 16

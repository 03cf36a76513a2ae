"""The fields of a payload for Redis, and the bytes that subscribers and readers get.

Socket.IO's format is that of `@socket.io/redis-emitter` 5 and `@socket.io/redis-adapter` 8.
All checks raise ValueError with one line about the mistake.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from relay.message import Message

from .payload import reader

EVENT_PACKET = 2
"""The type of a packet that carries an event (socket.io-protocol, PacketType.EVENT)."""

EMITTER = "emitter"
"""The uid of messages that no Socket.IO server sent."""

RESERVED_EVENTS = frozenset(
    {"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"}
)


class Payload(msgspec.Struct, rename={"excepted": "except"}):
    """The known fields of a payload. Null is the same as absent, except for `data`."""

    channel: str | None = None
    stream: str | None = None
    maxlen: int | None = None
    data: msgspec.Raw = msgspec.Raw()
    socketio: bool | None = None
    event: str | None = None
    args: list[Any] | None = None
    room: str | None = None
    rooms: list[str] | None = None
    namespace: str | None = None
    excepted: str | list[str] | None = None
    flags: dict[str, bool | None] | None = None


FIELDS = frozenset({"channel", "stream", "maxlen", "data", "socketio"})
SOCKETIO_FIELDS = frozenset({"event", "args", "room", "rooms", "namespace", "except", "flags"})
FLAGS = ("volatile", "compress")

_MUST_BE = {
    "channel": "a string",
    "stream": "a string",
    "maxlen": "a whole number of at least 1",
    "socketio": "true or false",
    "event": "a string",
    "args": "a list",
    "room": "a string",
    "rooms": "a list of strings",
    "namespace": "a string",
    "except": "a room or a list of rooms, all of them strings",
    "flags": "an object with volatile or compress, true or false",
}

_decode_any = msgspec.json.Decoder().decode
_decode_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode


read = reader(Payload, _MUST_BE)
"""The payload of a message. Raises ValueError if a field has a wrong type."""


def data(message: Message, payload: Payload, *, socketio: bool) -> bytes:
    """The data as JSON, as the application wrote it. Without `data`, the other fields.

    Empty if there are none. Raises ValueError for unknown fields next to `data`.
    """
    rest = _rest(message, FIELDS | SOCKETIO_FIELDS if socketio else FIELDS)
    if payload.data or payload.args is not None:
        if rest:
            name = next(iter(rest))
            hint = " without `socketio: true`" if name in SOCKETIO_FIELDS else ""
            # Sending the rest would silently lose the value of this field.
            raise ValueError(f"{name[:60]!r}: not a field{hint} next to `data`")
        return bytes(payload.data)
    return _encode(rest) if rest else b""


def text(encoded: bytes) -> bytes:
    """The data that subscribers get: a string as it is, anything else as JSON."""
    return _decode_text(encoded).encode() if encoded[:1] == b'"' else encoded


def json_text(names: list[str]) -> bytes:
    """A list of names as JSON."""
    return _encode(names)


def _rest(message: Message, ours: frozenset[str]) -> Mapping[str, msgspec.Raw]:
    fields = _RAW_FIELDS.decode(message.payload_json)
    return {name: value for name, value in fields.items() if name not in ours}


_RAW_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def rooms(payload: Payload) -> list[str]:
    """The rooms that get the event, each once. None: everybody in the namespace."""
    if payload.room is not None and payload.rooms is not None:
        raise ValueError("room, rooms: give one of the two")
    named = [payload.room] if payload.room is not None else payload.rooms or []
    if "" in named:
        # The channel of an empty room is that of everybody.
        raise ValueError("room: is empty")
    return list(dict.fromkeys(named))


def check_socketio(payload: Payload) -> None:
    """Raise ValueError for fields that no message for Socket.IO can have."""
    if payload.channel is not None:
        raise ValueError("channel: with socketio, namespace and room determine it")
    if payload.data and payload.args is not None:
        raise ValueError("data, args: give one of the two")
    for name in payload.flags or {}:
        if name not in FLAGS:
            raise ValueError(f"flags: {name[:60]!r} is not a flag; use {' or '.join(FLAGS)}")


def check_event(event: str) -> None:
    """Raise ValueError for a name that is reserved by Socket.IO."""
    if event in RESERVED_EVENTS:
        raise ValueError(f"event: {event!r} is a reserved name")


def namespace(name: str) -> str:
    """The name with a slash at its beginning."""
    return name if name.startswith("/") else f"/{name}"


def channel(prefix: str, where: str, names: list[str]) -> str:
    """The channel that Socket.IO servers subscribe to. A single room has a channel of its own."""
    return f"{prefix}#{where}#{names[0]}#" if len(names) == 1 else f"{prefix}#{where}#"


def packet(payload: Payload, event: str, where: str, names: list[str], encoded: bytes) -> bytes:
    """The MessagePack that the emitter publishes, with its keys in its order."""
    values = payload.args if payload.args is not None else [_decode_any(encoded)] if encoded else []
    excepted = payload.excepted if payload.excepted is not None else []
    if isinstance(excepted, str):
        excepted = [excepted]
    flags = {name: value for name, value in (payload.flags or {}).items() if value is not None}
    options = {"rooms": names, "flags": flags, "except": list(dict.fromkeys(excepted))}
    body = {"type": EVENT_PACKET, "data": [event, *map(as_javascript, values)], "nsp": where}
    return _pack([EMITTER, body, options])


def as_javascript(value: Any) -> Any:
    """The same value with numbers as JavaScript writes them: whole ones without a fraction.

    Integers beyond 64 bits become floats. Raises ValueError for numbers larger than any float.
    """
    match value:
        case dict():
            return {name: as_javascript(item) for name, item in value.items()}
        case list():
            return [as_javascript(item) for item in value]
        case float() if value.is_integer() and -(2.0**63) <= value < 2.0**64:
            return int(value)
        case int() if not -(2**63) <= value < 2**64:
            try:
                return float(value)
            except OverflowError:
                raise ValueError("data: holds a number that is too large") from None
    return value

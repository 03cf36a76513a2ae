"""The time at which an element was pushed, as far as the element contains it. Pure."""

from __future__ import annotations

from uuid import UUID

import msgspec

from relay.errors import MessageError
from relay.message.fields import Moment
from relay.message.moments import unix_time


class _Times(msgspec.Struct):
    created_at: msgspec.Raw = msgspec.Raw()
    id: msgspec.Raw = msgspec.Raw()


_TIMES = msgspec.json.Decoder(_Times)
_MOMENT = msgspec.json.Decoder(Moment)
_UUID = msgspec.json.Decoder(UUID)


def pushed_at(element: bytes) -> float | None:
    """Return Unix seconds from `created_at`, or from an `id` that is a UUIDv7. None if there are none."""
    try:
        times = _TIMES.decode(element)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, MemoryError):
        return None
    return _created(times.created_at) or _of_uuid(times.id)


def _created(raw: msgspec.Raw) -> float | None:
    try:
        return unix_time(_MOMENT.decode(raw), "created_at") or None
    except (msgspec.MsgspecError, UnicodeDecodeError, MessageError):
        return None


def _of_uuid(raw: msgspec.Raw) -> float | None:
    try:
        number = _UUID.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return (number.int >> 80) / 1000 if number.version == 7 else None

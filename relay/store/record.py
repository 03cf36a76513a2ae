"""The form of a message in Redis: a small header for the scripts, then the message.

2 bytes   length of the header, big endian; 0 if the scripts need no field
header    MessagePack array of the fields in `HEADER`
message   MessagePack array of `Message`; a field that is missing at its end has its default

A message without special features has no header, and costs the scripts one byte comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from relay.message import Message

HEADER = (
    "id",  # the application's
    "reply_to",
    "expires",  # Unix milliseconds
    "deliver",  # Unix milliseconds of the earliest attempt
    "collapse_key",
    "ordering_key",
    "group",  # if groups take turns in the lane
    "targets",  # of a fan-out: how many
    "part_of",  # of a message that was made of a fan-out's target: the ticket of the fan-out
    "public_id",  # the id that receipts show, if id and keys are scoped
)
"""The fields of a header, in their order. Scripts name them: `header.expires`.

A field that is not set is nil, and the array ends at the last one that is set: scripts then unpack less.
"""

_NO_HEADER = b"\0\0"
_ONLY_GROUP = b"\x97" + 6 * b"\xc0"  # an array of 7, the first six of which are nil
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Message).decode
# A script that changes a header may write it as a map, because Lua has only tables.
_decode_header = msgspec.msgpack.Decoder(list[Any] | dict[int, Any]).decode
_PART_OF = HEADER.index("part_of")


def has_header(message: Message) -> bool:
    """Return whether a script must read the message when it ends."""
    return bool(message.group) or _is_special(message)


def _is_special(message: Message) -> bool:
    """Return whether it has a header that names more than its group."""
    return bool(
        message.named
        or message.expires_at
        or message.deliver_at
        or message.collapse_key
        or message.ordering_key
        or message.reply_to
        or message.targets
        or message.part_of
    )


def pack(message: Message) -> bytes:
    """Encode a message."""
    if not _is_special(message):
        if message.group:
            return _with_header(_ONLY_GROUP + _encode(message.group), message)
        return pack_headerless(message)
    # Without an id and a receipt from the application, the id is never looked up.
    message_id = message.id if message.named or message.reply_to else ""
    # A part of a fan-out is already expanded, and waits for its own target only.
    collapse_key = "" if message.part_of else message.collapse_key
    fields = [
        scoped(message_id, message.scope) or None,
        message.reply_to or None,
        round(message.expires_at * 1000) or None,
        round(message.deliver_at * 1000) or None,
        scoped(collapse_key, message.scope) or None,
        scoped(message.ordering_key, message.scope) or None,
        message.group or None,
        None if message.part_of else message.targets or None,
        message.part_of or None,
        (message.scope and message_id) or None,
    ]
    while fields and fields[-1] is None:
        fields.pop()
    return _with_header(_encode(fields), message)


def pack_headerless(message: Message) -> bytes:
    """Encode a message without a header: see `has_header`."""
    if message.traceparent:
        return _NO_HEADER + _encode(message)
    # The fields that each message has.
    start = message.id, message.queue, message.payload_json, message.priority, message.created_at
    return _NO_HEADER + _encode(start)


def pack_targets(messages: Sequence[Message]) -> list[bytes]:
    """Encode the messages of one chunk of a fan-out in half the time: they differ in id and payload only."""
    first = messages[0]
    record, queue = pack(first), first.queue
    common = b"".join(map(_encode, msgspec.structs.astuple(first)[3:]))
    start = record[: -len(_of_target(first, queue)) - len(common)]
    return [start + _of_target(message, queue) + common for message in messages]


def _of_target(message: Message, queue: str) -> bytes:
    """Encode the first fields of a message, without the length of their array."""
    return _encode((message.id, queue, message.payload_json))[1:]


def _with_header(header: bytes, message: Message) -> bytes:
    return len(header).to_bytes(2, "big") + header + _encode(message)


def scoped(name: str, scope: str) -> str:
    """Return an id or key as the scripts store it: in scope `queue` it begins with the queue's name."""
    return f"\0{len(scope)}:{scope}:{name}" if scope and name else name


def unpack(record: bytes) -> Message:
    """Decode the message of a record."""
    return unpack_claimed(record)[0]


def unpack_claimed(record: bytes) -> tuple[Message, bool, str]:
    """Decode the message of a record. Returns, too, whether it has no header, or one that names only its
    group; and the ticket of the fan-out in its header."""
    length = 256 * record[0] + record[1]
    message = _decode(record[2 + length :])
    # The header of a dead letter that returned to its lane names no fan-out any more.
    part_of = _part_of(record[2 : 2 + length]) if message.part_of else ""
    return message, not length or record.startswith(_ONLY_GROUP, 2), part_of


def _part_of(header: bytes) -> str:
    fields = _decode_header(header) if header else []
    if isinstance(fields, dict):
        return str(fields.get(_PART_OF + 1) or "")
    return str(fields[_PART_OF] or "") if len(fields) > _PART_OF else ""

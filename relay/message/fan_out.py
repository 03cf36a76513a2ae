"""Fan-out: one message to many targets becomes one delivery each.

Pure. `split` takes the targets out of a message at intake, in chunks; `expand` makes messages of one
chunk when the lane is ready for them. Shared parts are stored once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from relay.errors import MessageError
from relay.message import Message
from relay.settings.options import ProviderOptions

MOST_TARGETS = 10_000
"""Targets that one message may have."""

MOST_AT_ONCE = 100
"""Targets that become messages in one step: keeps the script well under a millisecond."""

LEAST_AT_ONCE = 10

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TARGETS = msgspec.json.Decoder(list[msgspec.Raw])
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class FanOut:
    """A message without its targets, and these in `chunks` (JSON arrays) of `size`."""

    message: Message
    chunks: Sequence[bytes]
    size: int


def chunk_size(options: ProviderOptions) -> int:
    """Targets in a chunk: about a second's worth, because later messages wait until a chunk is sent."""
    slowest = min((rate.per_second for rate in options.rate), default=MOST_AT_ONCE)
    return max(LEAST_AT_ONCE, min(MOST_AT_ONCE, int(slowest)))


def split(message: Message, field: str, size: int) -> FanOut | Message:
    """Take the `targets` out of the payload, or leave a message that has none as it is.

    `field` is the field of the payload that each target fills in its own delivery. Raises MessageError.
    """
    # Decoding is for those who use it.
    if b'"targets"' not in message.payload_json:
        return message
    fields = _FIELDS.decode(message.payload_json)
    raw = fields.pop("targets", None)
    if raw is None:
        return message
    try:
        targets = _TARGETS.decode(raw)
    except msgspec.ValidationError:
        raise MessageError(f"payload.targets: must be an array, one {field} each") from None
    if not 1 <= len(targets) <= MOST_TARGETS:
        raise MessageError(f"payload.targets: {len(targets)} of them; there may be 1 to {MOST_TARGETS}")
    if field in fields:
        raise MessageError(f"payload.{field}: leave it out, since payload.targets names one each")
    chunks = [_encode(targets[start : start + size]) for start in range(0, len(targets), size)]
    template = msgspec.structs.replace(
        message, payload_json=_encode(fields), targets=len(targets), target_field=field
    )
    return FanOut(template, chunks, size)


def expand(template: Message, ticket: str, chunk: bytes, first: int) -> list[Message]:
    """The messages of one chunk. `first` is the index of its first target among all.

    They are parts of the fan-out `ticket`, which alone has the id, the keys and the receipt.
    """
    head = b'{"' + template.target_field.encode() + b'":'
    rest = template.payload_json[1:]
    if rest != b"}":
        rest = b"," + rest
    return [
        Message(
            id=f"{template.id}#{index}",
            queue=template.queue,
            payload_json=head + bytes(target) + rest,
            priority=template.priority,
            created_at=template.created_at,
            expires_at=template.expires_at,
            collapse_key=template.collapse_key,
            traceparent=template.traceparent,
            part_of=ticket,
            group=template.group,
        )
        for index, target in enumerate(_TARGETS.decode(chunk), first)
    ]

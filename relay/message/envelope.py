"""The JSON contract: one queue element in, one `Message` out, or a `MessageError` that explains.

Pure: the time of intake is passed in. The payload stays as the application wrote it, byte for byte.
"""

from __future__ import annotations

import difflib
import re
from typing import Any, NoReturn

import msgspec

from relay.errors import MessageError
from relay.message.fields import FIELDS, PRIORITIES, Envelope
from relay.message.ids import uuid7
from relay.message.limits import LARGE
from relay.message.message import Message
from relay.message.moments import after, earliest, unix_time
from relay.message.strict_json import decode
from relay.text import quote

FEW_VALUES = 32
"""A large element with at most this many values consists mostly of texts, so that it takes hardly more memory
when it is decoded."""

_LONGEST_NAME = 32  # characters of an unknown field's name that are compared with the known ones
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_ENVELOPE = msgspec.json.Decoder(Envelope)


def parse_envelope(element: bytes, queue: str, now: float, priority: int = 1) -> tuple[str | None, Message]:
    """The provider that the element names (or None) and its message.

    `now` is the time of intake in Unix seconds, `priority` is the queue's default. Raises MessageError with
    one line for the dead letter.
    """
    tree, values = decode(element)
    if type(tree) is not dict:
        raise MessageError(f"the element must be a JSON object, not {_kind(tree)}")
    try:
        envelope = _ENVELOPE.decode(element)
    except msgspec.ValidationError as error:
        _explain(error, tree)
    if type(tree["payload"]) is not dict:
        raise MessageError(f"payload: must be an object, not {_kind(tree['payload'])}")
    if b"\\u0000" in element:
        _refuse_leading_nul(envelope)
    created = unix_time(envelope.created_at, "created_at")
    base = created or now
    expires = earliest(unix_time(envelope.expires_at, "expires_at"), after(base, envelope.ttl, "ttl"))
    deliver = max(unix_time(envelope.deliver_at, "deliver_at"), after(base, envelope.delay, "delay"))
    trace = envelope.traceparent or ""
    message = Message(
        id=envelope.id or uuid7(),
        queue=queue,
        payload_json=bytes(envelope.payload),
        priority=priority if envelope.priority is None else PRIORITIES.index(envelope.priority),
        created_at=base,
        expires_at=expires,
        deliver_at=deliver,
        collapse_key=envelope.collapse_key or "",
        ordering_key=envelope.ordering_key or "",
        group=envelope.group or "",
        reply_to=envelope.reply_to or "",
        # W3C: a receiver ignores a traceparent that it cannot read.
        traceparent=trace if _TRACEPARENT.fullmatch(trace) else "",
        named=envelope.id is not None,
    )
    if len(element) >= LARGE and values <= FEW_VALUES:
        _keep_decoded(message, tree["payload"])
    return envelope.provider, message


def parse_bare(element: bytes, queue: str, now: float, priority: int = 1) -> Message:
    """The message whose payload is the whole element (`format: bare`). Raises MessageError."""
    tree, values = decode(element)
    if type(tree) is not dict:
        raise MessageError(f"the element must be a JSON object, not {_kind(tree)}")
    message = Message(
        id=uuid7(), queue=queue, payload_json=element.strip(), priority=priority, created_at=now
    )
    if len(element) >= LARGE and values <= FEW_VALUES:
        _keep_decoded(message, tree)
    return message


def _keep_decoded(message: Message, payload: dict[str, Any]) -> None:
    """Keep the decoded payload of a large message, because the worker that fetches it mostly claims it, too,
    without reading it again: see `relay.store.recent_messages`."""
    message.__dict__["payload"] = payload


def _explain(error: msgspec.ValidationError, tree: dict[str, Any]) -> NoReturn:
    for name in tree:
        if name not in FIELDS:
            # The comparison takes the square of the length, which a hostile element would choose.
            close = difflib.get_close_matches(name[:_LONGEST_NAME], FIELDS, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"allowed are {', '.join(FIELDS)}"
            bare = "" if "payload" in tree else " (a queue with `format: bare` takes any object as payload)"
            raise MessageError(f"unknown field {quote(name)}: {hint}{bare}") from None
    if "payload" not in tree:
        raise MessageError("payload: missing") from None
    text, _, path = str(error).partition(" - at `$")
    field = path.strip("`").lstrip(".")
    text = text[0].lower() + text[1:].replace("`", "")
    raise MessageError(f"{field}: {text}" if field else text) from None


def _refuse_leading_nul(envelope: Envelope) -> None:
    # Scoped ids and keys begin with a NUL in Redis, so that no unscoped one can be taken for one of them.
    for name in ("id", "collapse_key", "ordering_key"):
        if (getattr(envelope, name) or "").startswith("\0"):
            raise MessageError(f"{name}: must not begin with a NUL character")


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
    return names.get(type(value), "a number")

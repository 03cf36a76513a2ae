"""The JSON contract: one queue element in, one `Message` out, or a `MessageError` that explains.

Pure: the time of intake is passed in. The payload stays as the application wrote it, byte for byte.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import lru_cache
from random import getrandbits
from typing import Annotated, Any, NoReturn

import msgspec

from relay.errors import MessageError
from relay.message.fields import FIELDS, MAX_TIME, PRIORITIES, Envelope, Id, Key, Moment, Span
from relay.settings.durations import parse_duration
from relay.text import quote

MAX_DEPTH = 64
"""Levels of nesting that an element may have."""

MAX_PROVIDER = 64
"""Characters in the name of a provider."""

MAX_CONTAINERS = 100_000
"""Opening brackets and braces that an element may have: bounds the time that it takes."""

LARGE = 1024
"""Bytes from which a message is large, and takes other ways into its lane and out of it."""

FEW_KEYS = 32
"""A large element with at most this many keys has few colons outside of its texts."""

FEW_VALUES = 32
"""A large element with at most this many values consists mostly of texts, so that it takes hardly more memory
when it is decoded."""

TARGETS_SIZE = 16 * 1024 * 1024
"""Bytes that the targets of one message may have; `max_size` does not count them."""

MAX_VALUES = 250_000
"""Values in an element that is larger than `max_size` because of its targets: bounds its decoded form."""

_LONGEST_NAME = 32  # characters of an unknown field's name that are compared with the known ones
_KEY = re.compile(rb'"[ \t\r\n]*:')
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_VARIANT = 0b10 << 62
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class Message(msgspec.Struct, frozen=True, array_like=True, dict=True):
    """One message to one provider. Times are Unix seconds; 0 stands for "none"."""

    id: str
    queue: str
    payload_json: bytes
    priority: int = 1
    created_at: float = 0.0
    expires_at: float = 0.0
    deliver_at: float = 0.0
    collapse_key: str = ""
    ordering_key: str = ""
    reply_to: str = ""
    traceparent: str = ""
    named: bool = False
    """Whether the application chose the id. Only such ids can have duplicates."""
    attempts: int = 0
    """The number of earlier attempts. It is not stored with the message."""
    targets: int = 0
    """The number of targets of a fan-out. 0: the message is no fan-out."""
    target_field: str = ""
    """The field of the payload that each of them fills."""
    part_of: str = ""
    """The ticket of the fan-out that this message is one target of."""
    group: str = ""
    """The tenant or destination that it belongs to, if its lane serves groups in turns."""
    scope: str = ""
    """The queue within which the id and the keys count; empty: they count among all of the provider's."""

    @property
    def payload(self) -> dict[str, Any]:
        """The payload, decoded once: all who look share it, and nobody changes it."""
        # Before Python 3.12 `cached_property` takes a lock, which costs as much as to decode.
        decoded: dict[str, Any] | None = self.__dict__.get("payload")
        if decoded is None:
            decoded = self.__dict__["payload"] = msgspec.json.decode(self.payload_json)
        return decoded

    def remaining(self, now: float) -> float | None:
        """Seconds of life left at `now` (Unix seconds), never below 0; None: it never expires."""
        return max(0.0, self.expires_at - now) if self.expires_at else None

    def raw(self, name: str) -> bytes | None:
        """The JSON text of one field of the payload, exactly as the application wrote it."""
        value = _RAW_FIELDS.decode(self.payload_json).get(name)
        return None if value is None else bytes(value)


_RAW_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENVELOPE = msgspec.json.Decoder(Envelope)
_BARE = msgspec.json.Decoder(msgspec.Raw)


def parse_envelope(element: bytes, queue: str, now: float, priority: int = 1) -> tuple[str | None, Message]:
    """The provider that the element names (or None) and its message.

    `now` is the time of intake in Unix seconds, `priority` is the queue's default. Raises MessageError with
    one line for the dead letter.
    """
    tree, values = _decode(element)
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
    expires = _earliest(unix_time(envelope.expires_at, "expires_at"), _after(base, envelope.ttl, "ttl"))
    deliver = max(unix_time(envelope.deliver_at, "deliver_at"), _after(base, envelope.delay, "delay"))
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
    tree, values = _decode(element)
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


class Hints(msgspec.Struct, frozen=True):
    """The parts of a malformed element that can still be read; empty strings for the rest."""

    provider: str = ""
    id: str = ""
    reply_to: str = ""


class _RawHints(msgspec.Struct):
    provider: msgspec.Raw = msgspec.Raw()
    id: msgspec.Raw = msgspec.Raw()
    reply_to: msgspec.Raw = msgspec.Raw()


_HINTS = msgspec.json.Decoder(_RawHints)
_PROVIDER_HINT = msgspec.json.Decoder(Annotated[str, msgspec.Meta(max_length=MAX_PROVIDER)])
_ID_HINT = msgspec.json.Decoder(Id)
_KEY_HINT = msgspec.json.Decoder(Key)


def hints(element: bytes) -> Hints:
    """The provider, the id and the `reply_to` of a malformed element, as far as they are valid."""
    try:
        raw = _HINTS.decode(element)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, MemoryError):
        return Hints()
    return Hints(_hint(raw.provider, _PROVIDER_HINT), _hint(raw.id, _ID_HINT), _hint(raw.reply_to, _KEY_HINT))


def _hint(raw: msgspec.Raw, decoder: msgspec.json.Decoder[str]) -> str:
    try:
        text = decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
    return "" if text.startswith("\0") else text


class _Targets(msgspec.Struct, frozen=True):
    targets: msgspec.Raw = msgspec.Raw()


class _PayloadTargets(msgspec.Struct):
    payload: _Targets = _Targets()


_ENVELOPE_TARGETS = msgspec.json.Decoder(_PayloadTargets)
_BARE_TARGETS = msgspec.json.Decoder(_Targets)


def size_of_targets(element: bytes, *, bare: bool) -> int:
    """Bytes of the payload's `targets`, found without decoding anything; 0 if there are none."""
    if b'"targets"' not in element:
        return 0
    try:
        found = _BARE_TARGETS.decode(element) if bare else _ENVELOPE_TARGETS.decode(element).payload
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return 0
    return len(memoryview(found.targets))


def uuid7() -> str:
    """A time-ordered UUID (RFC 9562, section 5.7): unique, no secret."""
    return next(_uuids(time.time_ns() // 1_000_000))


@lru_cache(maxsize=1)
def _uuids(milliseconds: int) -> Iterator[str]:
    """Those of one millisecond: numbered (section 6.2, method 1), as bits of its own for each take
    four times as long."""
    text = f"{milliseconds:012x}"
    head = f"{text[:8]}-{text[8:]}-7"
    while True:
        tail = f"{getrandbits(62) | _VARIANT:016x}"
        tail = f"-{tail[:4]}-{tail[4:]}"
        for number in range(4096):
            yield f"{head}{number:03x}{tail}"


def _decode(element: bytes) -> tuple[Any, int]:
    """The JSON value, and the number of values in it. Raises MessageError for all that strict JSON does not
    allow, and more."""
    try:
        tree = msgspec.json.decode(element)
    except RecursionError:
        raise MessageError(f"nested deeper than {MAX_DEPTH} levels") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MessageError(_malformed(element, str(error))) from None
    except MemoryError:
        raise MessageError("too large to decode") from None
    if len(element) > MAX_CONTAINERS:
        _check_containers(element)
    keys, values = _count(tree, 1)
    has_few = len(element) >= LARGE and keys <= FEW_KEYS
    colons = _count_colons(element, keys + 1) if has_few else element.count(b":")
    # Strings may contain colons, and text that looks like a key, so more colons than keys are only a
    # suspicion.
    if colons > keys and len(_KEY.findall(element)) != keys:
        json.loads(element, object_pairs_hook=_refuse_duplicates)
    return tree, values


def _count_colons(element: bytes, most: int) -> int:
    """Count the colons of an element that consists mostly of texts, up to `most`."""
    # `count` looks at each byte, `find` at 32 at once: 0.3 instead of 5 µs for 20 KiB.
    found = -1
    for number in range(most):
        found = element.find(b":", found + 1)
        if found < 0:
            return number
    return most


def _check_containers(element: bytes) -> None:
    found = element.count(b"[") + element.count(b"{")
    if found > MAX_CONTAINERS:
        raise MessageError(f"{found} opening brackets and braces; there may be {MAX_CONTAINERS}")


def _malformed(element: bytes, reason: str) -> str:
    if element.startswith(b"\xef\xbb\xbf"):
        return "not JSON: it starts with a byte order mark"
    if not element.strip():
        return "not JSON: the element is empty"
    try:
        element.decode()
    except UnicodeDecodeError as error:
        return f"not UTF-8: {error.reason} at byte {error.start}"
    if _SURROGATE.search(element):
        return "not valid Unicode: a lone surrogate (\\ud800 to \\udfff without its other half)"
    if re.search(rb"[:\[,]\s*-?(NaN|Infinity)", element):
        return "not JSON: NaN and Infinity are not JSON numbers"
    return f"not JSON: {reason.removeprefix('JSON is malformed: ')}"


def _count(tree: Any, depth: int) -> tuple[int, int]:
    """Return the number of keys and of values in a JSON value."""
    if depth > MAX_DEPTH:
        raise MessageError(f"nested deeper than {MAX_DEPTH} levels")
    children: Iterable[Any]
    if type(tree) is dict:
        keys = values = len(tree)
        children = tree.values()
    elif type(tree) is list:
        keys, values = 0, len(tree)
        children = tree
    else:
        return 0, 1
    for child in children:
        if type(child) is dict or type(child) is list:
            more_keys, more_values = _count(child, depth + 1)
            keys += more_keys
            values += more_values
    return keys, values


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> None:
    seen = set()
    for key, _ in pairs:
        if key in seen:
            raise MessageError(f"duplicate key {quote(key)}")
        seen.add(key)


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


def unix_time(value: Moment, name: str) -> float:
    """Return Unix seconds; 0 if there is no value. Raises MessageError."""
    if value is None:
        return 0.0
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise MessageError(
                f"{name}: {quote(value)} is neither Unix seconds nor an RFC 3339 time"
            ) from None
        if moment.tzinfo is None:
            raise MessageError(f"{name}: {quote(value)} needs a time zone (Z or +02:00)")
        value = moment.timestamp()
    if not math.isfinite(value) or value < 0:
        raise MessageError(f"{name}: {value} is not a Unix time")
    if value >= MAX_TIME:
        raise MessageError(f"{name}: {value:.15g} is too large for Unix seconds; are these milliseconds?")
    return float(value)


def _after(base: float, value: Span, name: str) -> float:
    """`base` plus a span (seconds or "10m"), or 0 for none."""
    if value is None:
        return 0.0
    try:
        span = parse_duration(value)
    except ValueError as error:
        raise MessageError(f"{name}: {error}") from None
    if base + span >= MAX_TIME:
        raise MessageError(f"{name}: {value} is too long")
    return base + span


def _earliest(one: float, other: float) -> float:
    return min(one, other) if one and other else one or other


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
    return names.get(type(value), "a number")

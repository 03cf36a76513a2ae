"""Hints: what can be read from an element that is not, or not yet, decoded as a whole. Pure."""

from __future__ import annotations

from typing import Annotated

import msgspec

from relay.message.fields import Id, Key
from relay.message.limits import MAX_PROVIDER


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

"""The JSON Schema of a queue element, for producers' tests."""

from __future__ import annotations

from typing import Any

from relay.message import MAX_GROUP, MAX_KEY, PRIORITIES

_MOMENT: list[dict[str, Any]] = [
    {"type": "number", "minimum": 0, "exclusiveMaximum": 1e11},
    {"type": "string", "format": "date-time"},
]
_SPAN: list[dict[str, Any]] = [
    {"type": "number", "minimum": 0},
    {"type": "string", "examples": ["10m", "1h30m", "500ms"]},
]


def message_schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of the enveloped form; `relay.message` is what decides."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A relay message",
        "description": "One element of a queue. With `format: bare`, the element is the payload.",
        "type": "object",
        "required": ["payload"],
        "additionalProperties": False,
        "properties": {
            "payload": {"type": "object", "description": "The content, in the provider's own vocabulary."},
            "provider": _text("Name of a provider that the queue admits; optional if the queue names one."),
            "id": {
                **_text("Idempotency key: at most one message with this id is pending per provider."),
                "minLength": 1,
                "maxLength": 128,
            },
            "priority": {
                "enum": [*PRIORITIES, None],
                "default": "normal",
                "description": "Higher priorities go first.",
            },
            "created_at": _any(_MOMENT, "Time of creation: Unix seconds or RFC 3339."),
            "expires_at": _any(_MOMENT, "Never send the message after this time."),
            "deliver_at": _any(_MOMENT, "Do not send the message before this time."),
            "ttl": _any(
                _SPAN, "Time until the message expires, in seconds or as 10m, from created_at or else intake."
            ),
            "delay": _any(
                _SPAN,
                "Time until the message may be sent, in seconds or as 10m, from created_at or else intake.",
            ),
            "collapse_key": _key(
                "While an older message with this key waits, the newer one replaces it in place."
            ),
            "ordering_key": _key(
                "Messages that share this key are sent one at a time, in order, over the whole fleet."
            ),
            "group": {
                **_text(
                    "The tenant that it belongs to, for fair turns and limits. Default: its destination."
                ),
                "minLength": 1,
                "maxLength": MAX_GROUP,
            },
            "reply_to": _key(
                "A Redis list that gets one JSON receipt at the message's end. The queue limits its name."
            ),
            "traceparent": _text("W3C trace context."),
        },
    }


def _text(description: str) -> dict[str, Any]:
    return {"type": ["string", "null"], "description": description}


def _key(description: str) -> dict[str, Any]:
    return {**_text(description), "maxLength": MAX_KEY}


def _any(forms: list[dict[str, Any]], description: str) -> dict[str, Any]:
    return {"anyOf": [*forms, {"type": "null"}], "description": description}

"""The JSON Schema of a message agrees with the parser."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relay.errors import MessageError
from relay.message import parse_envelope
from relay.message.schema import message_schema

FIELDS: dict[str, dict[str, Any]] = message_schema()["properties"]
LIMITED = [
    (name, form) for name, field in FIELDS.items() for form in field.get("anyOf", []) if "maxLength" in form
]


def accepted(**fields: object) -> bool:
    try:
        parse_envelope(json.dumps({"payload": {}, **fields}).encode(), "q", now=1.0)
    except MessageError:
        return False
    return True


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_has_a_description_and_may_be_null_unless_it_is_required(name: str) -> None:
    assert FIELDS[name]["description"].endswith(".")
    is_nullable = {"type": "null"} in FIELDS[name].get("anyOf", [])
    assert is_nullable == (name not in message_schema()["required"]) == accepted(**{name: None})


def test_a_field_that_the_schema_lacks_is_refused() -> None:
    assert message_schema()["additionalProperties"] is False
    assert not accepted(unknown=1)


@pytest.mark.parametrize(("name", "form"), LIMITED, ids=[name for name, _ in LIMITED])
def test_a_text_may_be_as_long_as_in_the_schema(name: str, form: dict[str, Any]) -> None:
    assert accepted(**{name: "x" * form["maxLength"]})
    assert not accepted(**{name: "x" * (form["maxLength"] + 1)})
    assert accepted(**{name: ""}) == (form.get("minLength", 0) == 0)


@pytest.mark.parametrize("name", ["created_at", "expires_at", "deliver_at"])
def test_a_time_is_within_the_limits_of_the_schema(name: str) -> None:
    seconds, text, _ = FIELDS[name]["anyOf"]
    assert accepted(**{name: seconds["minimum"]})
    assert not accepted(**{name: seconds["minimum"] - 1})
    assert not accepted(**{name: seconds["exclusiveMaximum"]})
    assert text["format"] == "date-time"
    assert accepted(**{name: "2026-01-01T12:00:00Z"})


@pytest.mark.parametrize("name", ["ttl", "delay"])
def test_a_span_is_seconds_or_a_text_as_in_the_examples(name: str) -> None:
    seconds, text, _ = FIELDS[name]["anyOf"]
    assert not accepted(**{name: seconds["minimum"] - 1})
    assert all(accepted(**{name: example}) for example in text["examples"])

"""The JSON Schema of a queue element, for producers' tests, made from the fields that the parser reads."""

from __future__ import annotations

from typing import Any

import msgspec

from relay.message.fields import Envelope


def message_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of an element with `format: envelope`."""
    _, components = msgspec.json.schema_components([Envelope])
    schema = components[Envelope.__name__]
    for field in schema["properties"].values():
        field.pop("default", None)  # null, which stands for the default of the description
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "A relay message",
        "description": " ".join(schema["description"].split()),
    }

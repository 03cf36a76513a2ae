"""The fields of a message, as a table."""

from __future__ import annotations

from relay.message.schema import message_schema
from relay.settings.reference import Schema, in_words, split_default
from testing.reference.markdown import code, table


def fields() -> str:
    schema = message_schema()
    rows = (_row(name, field, schema["required"]) for name, field in schema["properties"].items())
    return table(("field", "type", "default", "meaning"), rows)


def _row(name: str, field: Schema, required: list[str]) -> tuple[str, ...]:
    meaning, default = split_default(field["description"])
    kind = in_words(field).replace("mapping", "object")
    return code(name), kind, "required" if name in required else default or "none", meaning

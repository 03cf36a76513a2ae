"""The keys of the configuration, with type, default and meaning in words. All of it comes from the models."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo

from relay.settings._reader.model_info import Reach, fields, nested, twins
from relay.settings.durations import DURATION_PATTERN, format_duration
from relay.settings.formatting import listing
from relay.settings.values import RATE_PATTERN, SIZE_PATTERN, Rate, format_size

Schema = Mapping[str, Any]

_BY_PATTERN = {DURATION_PATTERN: "duration", SIZE_PATTERN: "size", RATE_PATTERN: "rate"}
_BY_FORMAT = {"password": "secret", "date-time": "RFC 3339 time"}
_BY_TYPE = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "array": "list",
    "object": "mapping",
}
_INNER: Mapping[Reach, str] = {"itself": ".", "each item": "[].", "each value": ".NAME."}
_UNBOUNDED = 2**63 - 1
_DEFAULT = " Default: "
"""Begins the last sentence of a docstring if the default is not a plain value."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the configuration."""

    path: str
    """The keys that lead to it: `retry.attempts`, `queues[].name`, `providers.NAME.type`."""
    kind: str
    """The values that it takes, with their limits."""
    default: str
    """The default as the file would have it. Empty if there is none, or if only words can describe it."""
    default_in_words: str
    """`none`, or the words of the docstring, if `default` is empty. Empty for sections and required keys."""
    is_required: bool
    meaning: str
    example: str
    """A value as it would be in the file."""


def keys_of(model: type[BaseModel], prefix: str = "") -> Iterator[Key]:
    """All keys of a model, those of the models within it behind the key that holds them."""
    schemas = schemas_of(model)
    files = {key: twin for twin, key in twins(model).items()}
    inner = nested(model)
    for name, field in fields(model).items():
        schema = schemas.get(name, {})
        yield _key(prefix + name, field, schema, files.get(name), is_section=name in inner)
        for reach, within in inner.get(name, ()):
            yield from keys_of(within, prefix + name + _INNER[reach])


def schemas_of(model: type[BaseModel]) -> Mapping[str, Schema]:
    """The JSON Schema of each key of a model. Empty if an adapter declares a type that has none."""
    with suppress(PydanticUserError):
        properties: Mapping[str, Schema] = model.model_json_schema().get("properties", {})
        return properties
    return {}


def _key(path: str, field: FieldInfo, schema: Schema, file: str | None, *, is_section: bool) -> Key:
    meaning, words = split_default(" ".join((field.description or "").split()))
    kind = in_words(schema)
    is_required = field.is_required()
    default = "" if is_section or words else _default(schema)
    if not (words or default or is_section or is_required):
        words = "none"
    if file:
        kind += f", or `{file}`" + (" with one in each line" if "list of" in kind else "")
    examples = () if kind.startswith(("duration", "size")) else schema.get("examples", ())
    example = as_yaml(examples[0]) if examples else ""
    return Key(path, kind, default, words, is_required, meaning, example)


def split_default(description: str) -> tuple[str, str]:
    """The meaning of a description, and the default that its last sentence gives in words."""
    meaning, _, words = description.partition(_DEFAULT)
    return meaning, words.removesuffix(".")


def in_words(schema: Schema) -> str:
    """The values that a JSON Schema allows: `whole number from 1 to 1000`, `rate or list of rates`."""
    return listing(dict.fromkeys(noun + limits for noun, limits in _alternatives(schema))) or "any value"


def _alternatives(schema: Schema) -> Iterator[tuple[str, str]]:
    """Each kind of value that a schema allows, except null, with its limits."""
    branches = [branch for branch in schema.get("anyOf", ()) if branch.get("type") != "null"]
    match branches:
        case [{"type": "integer" | "number"} as number, {"pattern": pattern}] if pattern in _BY_PATTERN:
            yield _BY_PATTERN[pattern], _limits(number)
            return
    if branches:
        for branch in branches:
            # Only titles of branches are names; others are made of the keys.
            yield from ([(branch["title"], "")] if "title" in branch else _alternatives(branch))
    elif schema.get("type") == "boolean":
        yield from (("`true`", ""), ("`false`", ""))
    elif "enum" in schema:
        yield from ((f"`{as_yaml(value)}`", "") for value in schema["enum"] if value is not None)
    elif "const" in schema:
        yield f"`{as_yaml(schema['const'])}`", ""
    elif "$ref" in schema:
        yield "mapping", ""
    elif schema.get("type") == "array" and schema.get("items"):
        nouns = dict.fromkeys(f"{noun}s" for noun, _ in _alternatives(schema["items"]))
        yield f"list of {listing(nouns)}", ""
    else:
        noun = _BY_PATTERN.get(schema.get("pattern", "")) or _BY_FORMAT.get(schema.get("format", ""))
        yield noun or _BY_TYPE.get(schema.get("type", ""), "any value"), _limits(schema)


def _limits(schema: Schema) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    if "maxLength" in schema:
        fewest = f"{schema['minLength']} to" if "minLength" in schema else "at most"
        return f" of {fewest} {schema['maxLength']} characters"
    if schema.get("exclusiveMinimum") is not None:
        return f" > {schema['exclusiveMinimum']}"
    if most is not None and most < _UNBOUNDED:
        return f" from {least or 0} to {most}"
    return f" ≥ {least}" if least else ""


def _default(schema: Schema) -> str:
    value = schema.get("default")
    noun = next(iter(_alternatives(schema)))[0]
    if value is None:
        return ""
    if noun == "duration":
        return format_duration(value)
    if noun == "rate":
        return str(Rate(**value))
    return format_size(value) if noun == "size" else as_yaml(value)


def as_yaml(value: object) -> str:
    """A value as it would be in the file, on one line."""
    if isinstance(value, str):
        with suppress(yaml.YAMLError):
            if yaml.safe_load(value) == value:
                return value
    return json.dumps(value, ensure_ascii=False)

"""The JSON Schema of the configuration file, for editors, generated from the models."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from pydantic.json_schema import models_json_schema

from relay.settings._reader.model_info import SUFFIX
from relay.settings.models import PROVIDER_NAME_PATTERN, Settings
from relay.settings.options import Options, ProviderOptions

Schema = dict[str, Any]

_REFERENCE = "#/$defs/Reference"
_REFERENCE_SCHEMA: Schema = {
    "type": "string",
    "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^{}]*)?\}",
    "description": "A value from the environment: ${NAME} or ${NAME:-default}.",
}
_NOTES = ("title", "description", "default", "examples", "deprecated")


def config_schema(adapters: Mapping[str, type[ProviderOptions]]) -> Schema:
    """Return the JSON Schema (draft 2020-12) of the file, with the options of each adapter."""
    models: list[type[Options]] = [Settings, ProviderOptions, *adapters.values()]
    found, generated = models_json_schema([(model, "validation") for model in dict.fromkeys(models)])
    definitions: dict[str, Schema] = generated.get("$defs", {})
    name_of: dict[object, str] = {
        model: schema["$ref"].rpartition("/")[2] for (model, _), schema in found.items()
    }
    for definition in definitions.values():
        _add_twins(definition)
    root = definitions.pop(name_of[Settings])
    for kind, model in adapters.items():
        definitions[f"provider.{kind}"] = _of_kind(definitions[name_of[model]], kind)
    for unused in {ProviderOptions, *adapters.values()}:
        definitions.pop(name_of[unused])
    root["properties"]["providers"] |= {
        "propertyNames": {"pattern": PROVIDER_NAME_PATTERN},
        "additionalProperties": {"$ref": "#/$defs/provider"},
    }
    definitions["provider"] = _choice(adapters)
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **root, "$defs": definitions}
    schema["title"] = "relay's configuration file"
    _walk(schema, _admit_references)
    definitions[_REFERENCE.rpartition("/")[2]] = _REFERENCE_SCHEMA
    return schema


def _choice(adapters: Mapping[str, type[ProviderOptions]]) -> Schema:
    """Select the options by `type`. With if/then, an editor reports errors for one adapter only."""
    return {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"enum": list(adapters), "description": "Adapter of this provider."}},
        "allOf": [
            {
                "if": {"properties": {"type": {"const": kind}}, "required": ["type"]},
                "then": {"$ref": f"#/$defs/provider.{kind}"},
            }
            for kind in adapters
        ],
    }


def _of_kind(definition: Schema, kind: str) -> Schema:
    own = copy.deepcopy(definition)
    own["properties"]["type"] = {"const": kind, "description": "Adapter of this provider."}
    return own


def _add_twins(definition: Schema) -> None:
    """Allow `X_file` for every secret X: at most one of the two, and exactly one if X is required."""
    properties: dict[str, Schema] = definition.get("properties", {})
    rules: list[Schema] = []
    for name, schema in list(properties.items()):
        twin = name + SUFFIX
        if twin in properties or not _holds_secret(schema):
            continue
        lines = ", one in each line" if _is_list(schema) else ""
        properties[twin] = {"type": "string", "description": f"Path of a file that contains `{name}`{lines}."}
        if name in definition.get("required", []):
            definition["required"].remove(name)
            rules.append({"oneOf": [{"required": [name]}, {"required": [twin]}]})
        else:
            rules.append({"not": {"required": [name, twin]}})
    if rules:
        definition["allOf"] = rules


def _holds_secret(schema: Schema) -> bool:
    inner = [*schema.get("anyOf", []), schema.get("items", {})]
    return schema.get("format") == "password" or any(_holds_secret(part) for part in inner if part)


def _is_list(schema: Schema) -> bool:
    return any(_holds_secret(part.get("items", {})) for part in (schema, *schema.get("anyOf", [])))


def _walk(schema: Schema, change: Callable[[Schema], None]) -> None:
    """Apply `change` to every schema that describes a value of the file, the innermost first."""
    for definition in schema.get("$defs", {}).values():
        _walk(definition, change)
    for name, part in schema.get("properties", {}).items():
        if name != "type":  # the adapter cannot come from the environment
            _walk(part, change)
            change(part)
    for part in (schema.get("items"), schema.get("additionalProperties")):
        if isinstance(part, dict):
            _walk(part, change)
            change(part)
    for branch in schema.get("anyOf", []):
        _walk(branch, change)


def _admit_references(schema: Schema) -> None:
    """Allow `${NAME}` for every value that a schema restricts."""
    if not _is_formed(schema):
        return
    form = {key: schema.pop(key) for key in list(schema) if key not in _NOTES}
    branches = form["anyOf"] if set(form) == {"anyOf"} else [form]
    schema["anyOf"] = [*branches, {"$ref": _REFERENCE}]


def _is_formed(schema: Schema) -> bool:
    kinds = ("integer", "number", "boolean")
    formed = schema.get("type") in kinds or any(key in schema for key in ("enum", "pattern", "const"))
    return formed or any(_is_formed(part) for part in schema.get("anyOf", []))

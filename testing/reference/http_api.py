"""The reference of the console's HTTP API, made from its routes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from relay.admin.console.api import ROUTES
from relay.admin.console.api.openapi import document_schemas, fields
from relay.admin.console.api.route import NoArguments, Route
from testing.reference.markdown import code, table


def all_routes() -> str:
    """A section for each route."""
    return "\n".join(part for route in ROUTES for part in _route(route))


def _route(route: Route) -> Iterator[str]:
    yield f"## `{route.method} /api/v1{route.path}`\n"
    yield f"{route.summary} Like {code(route.command)}.\n"
    if route.arguments is not NoArguments:
        head = ("parameter" if route.method == "GET" else "field", "value", "default", "meaning")
        yield table(head, (_row(name, schema) for name, schema in fields(route.arguments)))
    answers = [
        f"{_name(kind)}{'' if status == '200' else f' with status {status}'}"
        for status, kinds in route.documents.items()
        for kind in kinds
    ]
    yield f"Returns {' or '.join(answers)}.\n"


def _name(kind: Any) -> str:
    """Return the name of a type, or of the type in a list."""
    inner = get_args(kind)
    return f"a list of {code(inner[0].__name__)}" if inner else code(kind.__name__)


def all_documents() -> str:
    """A table for each document that a route returns, and for each part of one."""
    kinds = dict.fromkeys(kind for route in ROUTES for kinds in route.documents.values() for kind in kinds)
    components = document_schemas(list(kinds), "{name}")
    parts: list[str] = []
    for name, schema in sorted(components.items()):
        parts.append(f"### `{name}`\n")
        parts.append(f"{schema['description']}\n")
        required = schema.get("required", ())
        rows = (
            (code(field), f"{_value(each)}{'' if field in required else ', may be absent'}")
            for field, each in schema["properties"].items()
        )
        parts.append(table(("field", "value"), rows))
    return "\n".join(parts)


def _value(schema: Any) -> str:
    """Return the kind of value of a document's field."""
    match schema:
        case {"$ref": name}:
            return f"[{code(name)}](#{name.lower()})"
        case {"anyOf": choices}:
            return " or ".join(_value(each) for each in choices)
        case {"type": "null"}:
            return "null"
        case {"type": "array", "items": items}:
            return f"list of {_value(items)}"
        case {"type": "object", "additionalProperties": {**values}}:
            return f"object, each value {_value(values)}"
        case {"const": value} | {"enum": [value]}:
            return code(str(value))
        case _:
            return _kind(schema)


def _row(name: str, schema: dict[str, Any] | Any) -> tuple[str, ...]:
    default = schema.get("default")
    return (
        code(name),
        _kind(schema),
        "" if default in (None, "", False, (), []) else code(str(default)),
        str(schema.get("description", "")),
    )


def _kind(schema: Any) -> str:
    if "$ref" in schema or "allOf" in schema:
        return "object"
    if schema.get("type") == "array":
        return "list"
    if "anyOf" in schema:
        return " or ".join(_kind(each) for each in schema["anyOf"] if each.get("type") != "null")
    names = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
    return names.get(str(schema.get("type")), str(schema.get("type")))

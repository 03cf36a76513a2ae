"""The reference of the console's HTTP API, made from its routes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from relay.admin.console.api import ROUTES
from relay.admin.console.api.openapi import fields
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

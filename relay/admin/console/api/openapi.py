"""The OpenAPI document, made from the routes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from relay import __version__
from relay.admin.console.api.route import Arguments, NoArguments, Route

_ERRORS = {
    "400": "The arguments are wrong.",
    "401": "The token is missing or wrong.",
    "403": "The request comes from a page of another origin, or its token is one of a viewer.",
    "404": "There is no such thing.",
    "409": "The thing is in a state that does not allow the action.",
    "422": "The action is not possible.",
    "429": "Too many wrong tokens came from this address: see `Retry-After`.",
    "503": "Redis does not answer.",
}
_ERROR_SCHEMA = {"$ref": "#/components/schemas/Error"}
_ERROR = {"application/json": {"schema": _ERROR_SCHEMA}}
_NOTHING = {"application/json": {"schema": {"anyOf": [_ERROR_SCHEMA, {"type": "array", "maxItems": 0}]}}}
"""The answer if nothing was found: an error, or an empty list."""


def openapi_document(routes: Sequence[Route], base: str = "") -> dict[str, Any]:
    """Return the document of the API below `base`."""
    kinds = list(dict.fromkeys(route.arguments for route in routes if route.arguments is not NoArguments))
    _, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    components["Error"] = {
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"type": "string"}},
    }
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(f"/api/v1{route.path}", {})[route.method.lower()] = _operation(route, components)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "relay",
            "version": __version__,
            "description": "The questions and actions of the console. Times are in Unix seconds.",
        },
        "servers": [{"url": base or "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def path_parameters(path: str) -> list[str]:
    """Return the names in a path such as `/lanes/{provider}`."""
    return re.findall(r"\{(\w+)\}", path)


def fields(arguments: type[Arguments]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Yield the name and the schema of each argument."""
    schema = msgspec.json.schema(arguments)
    definition = schema["$defs"][arguments.__name__]
    yield from definition.get("properties", {}).items()


def _operation(route: Route, components: Mapping[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "description": f"The same as `{route.command}`.",
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{route.path}").strip("_"),
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in path_parameters(route.path)
        ],
        "responses": {
            "200": {"description": "Done.", "content": {"application/json": {"schema": {}}}},
            "202": {"description": "It has begun.", "content": {"application/json": {"schema": {}}}},
            **{
                status: {"description": text, "content": _NOTHING if status == "404" else _ERROR}
                for status, text in _ERRORS.items()
            },
        },
    }
    if route.arguments is NoArguments:
        return operation
    if route.method == "GET":
        operation["parameters"] += [
            {"name": name, "in": "query", "required": False, "schema": schema}
            for name, schema in fields(route.arguments)
        ]
    else:
        reference = f"#/components/schemas/{route.arguments.__name__}"
        operation["requestBody"] = {"content": {"application/json": {"schema": {"$ref": reference}}}}
    return operation

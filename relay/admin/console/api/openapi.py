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
_DONE = {"200": "Done.", "202": "It has begun."}
_ERROR_SCHEMA = {"$ref": "#/components/schemas/Error"}
_ERROR = {"application/json": {"schema": _ERROR_SCHEMA}}
_NOTHING = {"application/json": {"schema": {"anyOf": [_ERROR_SCHEMA, {"type": "array", "maxItems": 0}]}}}
"""The answer if nothing was found: an error, or an empty list."""


def openapi_document(routes: Sequence[Route], base: str = "") -> dict[str, Any]:
    """Return the document of the API below `base`."""
    kinds = list(
        dict.fromkeys(
            kind
            for route in routes
            for kind in (route.arguments, *(each for types in route.documents.values() for each in types))
            if kind is not NoArguments
        )
    )
    found, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    schemas = dict(zip(kinds, found, strict=True))
    components["Error"] = {
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"type": "string"}},
    }
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(f"/api/v1{route.path}", {})[route.method.lower()] = _operation(route, schemas)
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


def _operation(route: Route, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "description": f"The same as `{route.command}`.",
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{route.path}").strip("_"),
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in path_parameters(route.path)
        ],
        "responses": {
            **{
                status: {"description": _DONE[status], "content": _any_of([schemas[each] for each in types])}
                for status, types in route.documents.items()
            },
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
        operation["requestBody"] = {"content": _any_of([schemas[route.arguments]])}
    return operation


def _any_of(schemas: Sequence[Any]) -> dict[str, Any]:
    """Return content that one of the schemas describes."""
    schema = schemas[0] if len(schemas) == 1 else {"anyOf": list(schemas)}
    return {"application/json": {"schema": schema}}

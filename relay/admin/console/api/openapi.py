"""The OpenAPI document, made from the routes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    answers = [each for route in routes for types in route.documents.values() for each in types]
    components |= _complete(answers, components)
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


def document_schemas(documents: Sequence[Any], template: str) -> dict[str, Any]:
    """Return the schema of each part of these documents, by name."""
    _, components = msgspec.json.schema_components(documents, ref_template=template)
    return {**components, **_complete(documents, components)}


def _complete(documents: Sequence[Any], components: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schemas of structs that are written with all of their fields, defaults too."""
    structs = {
        each.cls.__name__
        for kind in documents
        for each in _parts(msgspec.inspect.type_info(kind))
        if isinstance(each, msgspec.inspect.StructType) and not each.cls.__struct_config__.omit_defaults
    }
    return {name: {**components[name], "required": list(components[name]["properties"])} for name in structs}


def _parts(kind: msgspec.inspect.Type) -> Iterator[msgspec.inspect.Type]:
    """Yield a type and all types within it."""
    yield kind
    match kind:
        case msgspec.inspect.ListType():
            inner: Sequence[msgspec.inspect.Type] = [kind.item_type]
        case msgspec.inspect.UnionType():
            inner = kind.types
        case msgspec.inspect.DictType():
            inner = [kind.value_type]
        case msgspec.inspect.TypedDictType() | msgspec.inspect.StructType():
            inner = [field.type for field in kind.fields]
        case _:
            inner = []
    for each in inner:
        yield from _parts(each)


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

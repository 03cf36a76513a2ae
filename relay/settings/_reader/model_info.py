"""Facts about a model: its fields, the fields with secrets, and the fields with nested models."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from relay.settings.values import Secret

SUFFIX = "_file"
"""The suffix of a secret field's name for the path of a file that holds it."""

SecretKind = Literal["one", "many", "values"]
Reach = Literal["itself", "each item", "each value"]
_LISTS = (list, tuple, set, frozenset)


@cache
def fields(model: type[BaseModel]) -> Mapping[str, FieldInfo]:
    """Return the fields by their key in the file."""
    return {info.alias or name: info for name, info in model.model_fields.items()}


def secret_kind(annotation: Any) -> SecretKind | None:
    """Return the kind of secrets in a type: one, a list of many, or a mapping with secret values."""
    if isinstance(annotation, type) and issubclass(annotation, Secret):
        return "one"
    origin = get_origin(annotation)
    if origin is None or origin is Literal:
        return None
    found = next((kind for kind in map(secret_kind, get_args(annotation)) if kind), None)
    if found is None or origin in (Union, types.UnionType, Annotated):
        return found
    return "many" if found == "one" and isinstance(origin, type) and issubclass(origin, _LISTS) else "values"


@cache
def twins(model: type[BaseModel]) -> Mapping[str, str]:
    """Return the keys `X_file` of a model, each with its secret X."""
    known = fields(model)
    return {
        key + SUFFIX: key
        for key, info in known.items()
        if secret_kind(info.annotation) in ("one", "many") and key + SUFFIX not in known
    }


def keys(model: type[BaseModel]) -> list[str]:
    """Return all keys that a mapping of this model may have."""
    return [*fields(model), *twins(model)]


@cache
def nested(model: type[BaseModel]) -> Mapping[str, tuple[tuple[Reach, type[BaseModel]], ...]]:
    """Return the fields with nested models, and these models."""
    found = {key: tuple(models_within(info.annotation)) for key, info in fields(model).items()}
    return {key: models for key, models in found.items() if models}


def models_within(annotation: Any) -> Iterator[tuple[Reach, type[BaseModel]]]:
    """Yield the models in a type: the type itself, each item of a list, each value of a dict."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield "itself", annotation
        return
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        for part in arguments:
            yield from models_within(part)
    elif origin is Annotated:
        yield from models_within(arguments[0])
    elif isinstance(origin, type) and issubclass(origin, (*_LISTS, Mapping)):
        reach: Reach = "each value" if issubclass(origin, Mapping) else "each item"
        for part in arguments:
            yield from ((reach, model) for inner, model in models_within(part) if inner == "itself")


def models_at(model: type[BaseModel], location: tuple[str | int, ...]) -> Iterator[type[BaseModel]]:
    """Yield the models that may apply to the node at a location below a node of `model`."""
    if not location:
        yield model
        return
    info = fields(model).get(str(location[0]))
    for reach, inner in models_within(info.annotation) if info else ():
        below = location[1:] if reach == "itself" else location[2:]
        if reach == "itself" or len(location) > 1:
            yield from models_at(inner, below)


def is_secret(model: type[BaseModel], location: tuple[str | int, ...]) -> bool:
    """Return True if the value at a location below a node of `model` is or may contain a secret."""
    for index, step in enumerate(location):
        for governing in models_at(model, location[:index]):
            info = fields(governing).get(str(step))
            if info and secret_kind(info.annotation):
                return True
    return False

"""What a model says of its fields: which hold secrets, which hold further models."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from relay.settings.types import Secret

SUFFIX = "_file"
"""What is put after the name of a secret field for the path of a file that holds it."""

Steps = Literal["one", "each item", "each value"]


def secret_kind(annotation: Any) -> Literal["one", "many"] | None:
    """Whether a field's type holds a secret, or a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, Secret):
        return "one"
    origin = get_origin(annotation)
    kinds = [secret_kind(part) for part in get_args(annotation)] if origin is not Literal else []
    found: Literal["one", "many"] | None = next((kind for kind in kinds if kind), None)
    return "many" if found and origin not in (Union, types.UnionType, Annotated) else found


def twins(model: type[BaseModel]) -> dict[str, str]:
    """The `X_file` keys that a model's secrets add to it, each with its X."""
    return {
        name + SUFFIX: name
        for name, info in model.model_fields.items()
        if secret_kind(info.annotation) and name + SUFFIX not in model.model_fields
    }


def keys(model: type[BaseModel]) -> list[str]:
    """Every key that a mapping of this model may have."""
    return [*model.model_fields, *twins(model)]


def models_within(annotation: Any) -> Iterator[tuple[Steps, type[BaseModel]]]:
    """The models that a field's type holds: itself, of each item of a list, of each value of a dict."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield "one", annotation
        return
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        for part in arguments:
            yield from models_within(part)
    elif origin is Annotated:
        yield from models_within(arguments[0])
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        yield from (("each value", model) for step, model in models_within(arguments[1]) if step == "one")
    elif isinstance(origin, type) and issubclass(origin, list | tuple | set | frozenset):
        yield from (("each item", model) for part in arguments for step, model in models_within(part) if step == "one")

"""Keys of the configuration that a later version removes, and the warnings about their use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic_core import CoreSchema


@dataclass(frozen=True, slots=True)
class Deprecated:
    """Marks a key that still works: `old: Annotated[int | None, Deprecated("write `new`")] = None`.

    The key stays for at least one minor version. `relay check` and the start of a worker warn about its use,
    and editors strike it out.
    """

    remedy: str

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(core), "deprecated": True}


def deprecated_keys(value: object, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield a warning for each deprecated key that a file uses."""
    match value:
        case BaseModel():
            for name in sorted(value.model_fields_set):
                for mark in type(value).model_fields[name].metadata:
                    if isinstance(mark, Deprecated):
                        where = ".".join((*path, name))
                        yield f"{where} will be refused by a later version: {mark.remedy}"
                yield from deprecated_keys(getattr(value, name), (*path, name))
        case Mapping():
            for name, inner in value.items():
                yield from deprecated_keys(inner, (*path, str(name)))
        case list() | tuple():
            for place, inner in enumerate(value):
                yield from deprecated_keys(inner, (*path, str(place)))

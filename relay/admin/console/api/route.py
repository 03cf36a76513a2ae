"""The declaration of a route, from which its handler, the OpenAPI document and the reference are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from relay.admin.console.call import Call


class Arguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The arguments of a route: the parameters of a GET's URL, the JSON body of a POST."""


class NoArguments(Arguments, frozen=True, kw_only=True):
    """No arguments."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A document, and its status if that is not 200."""

    document: Any
    status: int = 200


@dataclass(frozen=True, slots=True)
class Route:
    """One route below `/api/v1`. `command` is the command that does the same."""

    method: Literal["GET", "POST"]
    path: str
    summary: str
    command: str
    handle: Callable[[Call, Any], Awaitable[Reply]]
    arguments: type[Arguments] = NoArguments
    answer: Any = None
    """The type of the document with status 200, or a tuple of types; None if there is none."""
    begun: Any = None
    """The type of the document with status 202, of an action that has begun."""

    @property
    def documents(self) -> Mapping[str, tuple[Any, ...]]:
        """The types of the documents, by status."""
        answers = self.answer if isinstance(self.answer, tuple) else (self.answer,)
        found = {"200": answers, "202": (self.begun,)}
        return {status: types for status, types in found.items() if types != (None,)}

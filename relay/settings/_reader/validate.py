"""Validation of a tree by a model. Returns the instance, or reports each problem with its position."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from relay.settings._reader.explain import explain
from relay.settings._reader.model_info import fields, is_secret, keys, models_at, twins
from relay.settings._reader.nodes import Location, Mapping, Node, Position, Problems, Scalar, locate, to_data
from relay.settings.formatting import listing, near_miss

ModelT = TypeVar("ModelT", bound=BaseModel)

_WANT_TEXT = ("string_type", "literal_error", "path_type", "url_type")
_KEY = "[key]"  # pydantic's step for the key of a dict


def validate(
    model: type[ModelT],
    node: Node,
    location: Location,
    problems: Problems,
    data: Callable[[Node], object] = to_data,
) -> ModelT | None:
    """Return the node as an instance of `model`, or None after reporting problems.

    `location` is that of the node. `data` converts the node to the input of pydantic.
    """
    while True:
        try:
            return model.model_validate(data(node))
        except ValidationError as error:
            errors = error.errors(include_url=False, include_input=False)
        if not _take_as_text(node, errors):
            break
    report = _Report(model, node, location, problems)
    report.add(errors)
    return None


def _take_as_text(node: Node, errors: list[ErrorDetails]) -> bool:
    """Read numbers as texts if the field is a text: `app_id: 0012` is `"0012"`.

    So `app_id: ${APP_ID}` works if the value happens to look like a number, too.
    """
    changed = False
    for error in errors:
        _, found = locate(node, error["loc"])
        if error["type"] in _WANT_TEXT and isinstance(found, Scalar) and _can_be_text(found):
            found.value = found.text
            changed = True
    return changed


def _can_be_text(scalar: Scalar) -> bool:
    return scalar.plain and scalar.value is not None and not isinstance(scalar.value, str)


class _Report:
    """Groups pydantic's errors by node."""

    def __init__(self, model: type[BaseModel], root: Node, location: Location, problems: Problems) -> None:
        self._model = model
        self._root = root
        self._location = location
        self._problems = problems

    def add(self, errors: list[ErrorDetails]) -> None:
        branches: dict[Location, list[tuple[Location, ErrorDetails]]] = {}
        for error in errors:
            found, node = locate(self._root, error["loc"])
            if error["type"] == "extra_forbidden":
                self._unknown_key(found)
            elif error["type"] == "missing":
                self._missing_key(found, node, str(error["loc"][-1]))
            elif error["loc"][-1:] == (_KEY,):
                text = explain([error], node, secret=False)
                self._add(self._key_position(found), found, text)
            elif not (isinstance(node, Scalar) and node.broken):
                branches.setdefault(_certain(found, error["loc"]), []).append((found, error))
        for members in branches.values():
            self._refused(members)

    def _refused(self, members: list[tuple[Location, ErrorDetails]]) -> None:
        # For a union, report the branch that was validated furthest.
        deepest = max((found for found, _ in members), key=len)
        _, node = locate(self._root, deepest)
        errors = [error for found, error in members if found == deepest]
        text = explain(errors, node, secret=is_secret(self._model, deepest))
        self._add(node.position, deepest, text)

    def _unknown_key(self, found: Location) -> None:
        known = [key for model in models_at(self._model, found[:-1]) for key in keys(model)]
        hint = near_miss(str(found[-1]), known) or f"allowed here: {', '.join(known)}"
        self._add(self._key_position(found), found, f"unknown key; {hint}")

    def _missing_key(self, found: Location, node: Node, key: str) -> None:
        name, meaning = f"`{key}`", ""
        for model in models_at(self._model, found):
            if key in twins(model).values():
                name = listing([name, f"`{key}_file`"])
            info = fields(model).get(key)
            meaning = f": {info.description}" if info and info.description else ""
        self._add(node.position, found, f"the key {name} is missing{' '.join(meaning.split(chr(10)))}")

    def _key_position(self, found: Location) -> Position:
        _, parent = locate(self._root, found[:-1])
        if isinstance(parent, Mapping) and found[-1] in parent.entries:
            return parent.entries[str(found[-1])].key_position
        return parent.position

    def _add(self, position: Position, found: Location, text: str) -> None:
        self._problems.add(position, (*self._location, *found), text)


def _certain(found: Location, location: tuple[int | str, ...]) -> Location:
    """Return the part of a location before pydantic's own steps."""
    count = next(
        (index for index, (a, b) in enumerate(zip(found, location, strict=False)) if a != b), len(found)
    )
    return found[:count]

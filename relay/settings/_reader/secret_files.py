"""`X_file`: a secret in a file of its own.

For every field that holds a `Secret`, in any model at any depth, the file may name a path instead.
It is read here, before validation, so that no adapter has to know.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel

from relay.settings._reader.model_info import Reach, fields, nested, secret_kind, twins
from relay.settings._reader.nodes import Entry, Location, Mapping, Node, Problems, Scalar, Sequence
from relay.settings.secret_text import is_nothing, read_secret
from relay.settings.snapshot import SecretFiles


def read_secret_files(
    model: type[BaseModel],
    node: Node,
    location: Location,
    folder: Path,
    problems: Problems,
    files: SecretFiles,
) -> None:
    """Replace each `X_file` below `node` by the content of that file. Relative paths begin at `folder`."""
    _Reader(folder, problems, files).visit(model, node, location)


class _Reader:
    def __init__(self, folder: Path, problems: Problems, files: SecretFiles) -> None:
        self._folder = folder
        self._problems = problems
        self._files = files

    def visit(self, model: type[BaseModel], node: Node, location: Location) -> None:
        """Replace the keys `X_file` of this mapping and of everything below it."""
        if not isinstance(node, Mapping):
            return
        for twin, name in twins(model).items():
            self._check_filled(node, (*location, name), name)
            if twin in node.entries:
                self._replace(model, node, location, twin, name)
        for name, models in nested(model).items():
            if name in node.entries:
                for reach, inner in models:
                    for step, part in _parts(node.entries[name].node, reach):
                        self.visit(inner, part, (*location, name, *step))

    def _check_filled(self, node: Mapping, location: Location, name: str) -> None:
        """Refuse secrets such as `null`, which templates and scripts write for a missing value."""
        entry = node.entries.get(name)
        if entry is not None and isinstance(entry.node, Sequence):
            items = [self._filled(item, (*location, at)) for at, item in enumerate(entry.node.items)]
            node.entries[name] = Entry(entry.key_position, replace(entry.node, items=items))
        elif entry is not None:
            node.entries[name] = Entry(entry.key_position, self._filled(entry.node, location))

    def _filled(self, value: Node, location: Location) -> Node:
        if not (isinstance(value, Scalar) and value.filled and is_nothing(value.text)):
            return value
        problem = "is a placeholder and no secret; unset the variable, or set it to a generated one"
        self._problems.add(value.position, location, problem)
        return replace(value, value=None, broken=True)

    def _replace(
        self, model: type[BaseModel], node: Mapping, location: Location, twin: str, name: str
    ) -> None:
        entry = node.entries.pop(twin)
        if _is_empty(entry.node):
            return  # `secret_file: ${SECRET_FILE:-}` without that variable
        if name in node.entries and not _is_empty(node.entries[name].node):
            text = f"`{name}` and `{twin}` are both set; keep one"
            self._problems.add(entry.key_position, (*location, twin), text)
            return
        if isinstance(entry.node, Scalar) and not entry.node.broken:
            self._files.paths[(*location, name)] = self._folder / entry.node.text
        many = secret_kind(fields(model)[name].annotation) == "many"
        node.entries[name] = Entry(entry.key_position, self._content(entry.node, (*location, twin), many))

    def _content(self, value: Node, location: Location, many: bool) -> Node:
        position = value.position
        broken = Scalar(position, None, "", broken=True)
        if isinstance(value, Scalar) and value.broken:
            return broken
        try:
            if not isinstance(value, Scalar):
                raise ValueError("expected the path of a file that holds the secret")
            text = read_secret(self._folder / value.text, self._files)
        except ValueError as error:
            self._problems.add(position, location, str(error))
            return broken
        if not many:
            return Scalar(position, text, text, plain=False)
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return Sequence(position, [Scalar(position, line, line, plain=False) for line in lines])


def _parts(node: Node, reach: Reach) -> Iterator[tuple[Location, Node]]:
    """Yield the nodes of a field's model, each with its path."""
    match node, reach:
        case _, "itself":
            yield (), node
        case Sequence(), "each item":
            yield from (((index,), item) for index, item in enumerate(node.items))
        case Mapping(), "each value":
            yield from (((key,), entry.node) for key, entry in node.entries.items())


def _is_empty(node: Node) -> bool:
    match node:
        case Scalar():
            return node.value in (None, "") and not node.broken
        case Sequence():
            return not node.items
        case _:
            return False

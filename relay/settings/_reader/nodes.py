"""Parsed YAML with the position of each part, and the problems in it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from relay.text import quote

Location = tuple[str | int, ...]
"""The keys and indices that lead from the root to a node."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A position in the file. Lines and columns count from 1."""

    line: int
    column: int


@dataclass(slots=True)
class Scalar:
    """A value. `text` is the text in the file after substitution.

    `plain`: it is written without quotes. `broken`: a problem with it is known already, so its consequences
    are not reported. `template` is the text as a template of messages, if it differs, and `references` the
    fields that it names. `filled`: a part of it came from the environment.
    """

    position: Position
    value: str | int | float | bool | None
    text: str
    plain: bool = True
    broken: bool = False
    template: str | None = None
    references: tuple[str, ...] = ()
    filled: bool = False


@dataclass(slots=True)
class Entry:
    """One key of a mapping, with its value."""

    key_position: Position
    node: Node


@dataclass(slots=True)
class Mapping:
    """A mapping; every key is text."""

    position: Position
    entries: dict[str, Entry] = field(default_factory=dict)


@dataclass(slots=True)
class Sequence:
    """A list."""

    position: Position
    items: list[Node] = field(default_factory=list)


Node = Scalar | Mapping | Sequence


def to_data(node: Node) -> object:
    """Return the node as dicts, lists and scalars."""
    match node:
        case Scalar():
            return node.value
        case Sequence():
            return [to_data(item) for item in node.items]
        case Mapping():
            return {key: to_data(entry.node) for key, entry in node.entries.items()}


def child(node: Node, step: str | int) -> Node | None:
    """Return the part of a node at a key or an index, or None."""
    if isinstance(node, Mapping) and step in node.entries:
        return node.entries[str(step)].node
    if isinstance(node, Sequence) and isinstance(step, int) and 0 <= step < len(node.items):
        return node.items[step]
    return None


def locate(root: Node, location: Iterable[str | int]) -> tuple[Location, Node]:
    """Return the node of a pydantic location, with its own location.

    Pydantic puts steps of its own into a location (branches of a union, `[key]`); they name nothing
    in the file and are passed over.
    """
    found: list[str | int] = []
    node = root
    for step in location:
        inner = child(node, step)
        if inner is not None:
            found.append(step)
            node = inner
    return tuple(found), node


def render(location: Location) -> str:
    """Return a path such as `providers.pusher.rate[1]`."""
    text = ""
    for step in location:
        if isinstance(step, int):
            text += f"[{step}]"
        elif re.fullmatch(r"[\w+/-][\w.+/-]*", step):
            text += f".{step}" if text else step
        else:
            text += f"[{quote(step)}]"
    return text


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """A problem with its position."""

    position: Position
    location: str
    text: str


@dataclass(slots=True)
class Problems:
    """All problems of one file."""

    filename: str
    found: list[Problem] = field(default_factory=list)

    def add(self, position: Position, location: Location, text: str) -> None:
        """Add a problem. `text` is one line without the location."""
        self.found.append(Problem(position, render(location), text))

    def lines(self) -> list[str]:
        """Return lines `file:line:column: path: text` by position, without repetitions by aliases."""
        said: dict[tuple[Position, str], str] = {}
        for problem in sorted(self.found):
            where = f"{self.filename}:{problem.position.line}:{problem.position.column}: "
            path = f"{problem.location}: " if problem.location else ""
            said.setdefault((problem.position, problem.text), f"{where}{path}{problem.text}")
        return list(said.values())

"""Texts with references that each message fills: `${payload.user.name}`, `${message.id}`, `${provider.name}`.

An adapter declares a field as `Template`, or as a list, dict or tree of templates. The reader of the file
then keeps the references in it, and reports an invalid one with its position. The adapter decides how a value
is written into the text.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, get_args

from pydantic import BaseModel
from pydantic_core import CoreSchema, core_schema

from relay.settings._reader.model_info import fields
from relay.settings._reader.nodes import Location, Node, Problems, Scalar, Sequence
from relay.settings._reader.nodes import Mapping as TreeMapping
from relay.settings.formatting import listing, near_miss
from relay.settings.values import Secret
from relay.text import quote

KNOWN: Mapping[str, tuple[str, ...]] = types.MappingProxyType(
    {
        "payload": (),
        "message": (
            "id",
            "queue",
            "priority",
            "created_at",
            "expires_at",
            "ttl",
            "collapse_key",
            "ordering_key",
            "traceparent",
            "attempt",
        ),
        "provider": ("name", "secret"),
    }
)
"""The first parts of references, with their possible second parts. A payload may have any field."""

_PART = re.compile(r"\$\$\{|\$\{([A-Za-z0-9_.-]*)(?::-((?:[^{}\n]|\{\})*))?\}|\$\{")


@dataclass(frozen=True, slots=True)
class Reference:
    """`${payload.user.name:-default}`: `path` has its steps, `default` is None without one."""

    path: tuple[str, ...]
    default: str | None = None

    def __str__(self) -> str:
        return ".".join(self.path)


Part = str | Reference


class Template(Secret):
    """A text with references to each message; `$${` is a literal `${`. Never shown, like secrets."""

    _inner_schema: ClassVar[CoreSchema] = core_schema.str_schema()

    def __init__(self, text: str) -> None:
        """Raises ValueError if a reference names an unknown field."""
        super().__init__(text)
        self.parts = parse(text)

    def __repr__(self) -> str:
        return "Template('**********')"


def parse(text: str) -> tuple[Part, ...]:
    """Return literal texts and references in their order. Raises ValueError with one line."""
    parts: list[Part] = []
    literal, end = "", 0
    for match in _PART.finditer(text):
        literal += text[end : match.start()]
        end = match.end()
        if match[0] == "$${":
            literal += "${"
            continue
        if literal:
            parts.append(literal)
            literal = ""
        parts.append(_reference(match[0], match[1], match[2]))
    literal += text[end:]
    return (*parts, literal) if literal else tuple(parts)


def _reference(written: str, name: str | None, default: str | None) -> Reference:
    first, *rest = (name or "").split(".")
    shown = quote(written)[1:-1]
    if not rest or not all(rest):
        raise ValueError(f"{shown}: write ${{payload.FIELD}} for a field of the payload, or $${{ for ${{")
    if first not in KNOWN:
        hint = near_miss(first, KNOWN) or f"write {listing(f'{word}.…' for word in KNOWN)}"
        raise ValueError(f"{shown}: there is no {first!r}; {hint}")
    known = KNOWN[first]
    if known and (len(rest) > 1 or rest[0] not in known):
        hint = near_miss(rest[0], known) or f"there is {listing(known)}"
        raise ValueError(f"{shown}: {first} has no {'.'.join(rest)!r}; {hint}")
    return Reference((first, *rest), default)


def read_templates(model: type[BaseModel], node: TreeMapping, location: Location, problems: Problems) -> None:
    """Check the references to messages in a mapping of `model`, and set the texts of its templates.

    Each invalid reference, and each reference outside a template, becomes a problem and is marked as broken.
    """
    templates = _templates(model)
    for name, entry in node.entries.items():
        read = _read if name in templates else refuse_templates
        read(entry.node, (*location, name), problems)


@cache
def _templates(model: type[BaseModel]) -> frozenset[str]:
    """Return the keys whose values are templates."""
    return frozenset(key for key, info in fields(model).items() if _holds_templates(info.annotation))


def _holds_templates(annotation: Any) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, Template):
        return True
    return any(map(_holds_templates, get_args(annotation)))


def _read(node: Node, location: Location, problems: Problems) -> None:
    for place, scalar in _scalars(node, location):
        if isinstance(scalar.value, str):
            scalar.value = scalar.text = scalar.text if scalar.template is None else scalar.template
            try:
                parse(scalar.text)
            except ValueError as error:
                _mark(scalar, place, str(error), problems)


def refuse_templates(node: Node, location: Location, problems: Problems) -> None:
    """Report each reference to messages below a node, because templates are not allowed there."""
    for place, scalar in _scalars(node, location):
        if scalar.references:
            text = (
                f"{quote(scalar.references[0])[1:-1]}: only a template of messages can hold this "
                "(see docs/reference/providers/http.md); write $${ for ${"
            )
            _mark(scalar, place, text, problems)


def _mark(scalar: Scalar, location: Location, text: str, problems: Problems) -> None:
    problems.add(scalar.position, location, text)
    scalar.value, scalar.broken = None, True


def _scalars(node: Node, location: Location) -> Iterator[tuple[Location, Scalar]]:
    match node:
        case Scalar():
            if not node.broken:
                yield location, node
        case Sequence():
            for index, item in enumerate(node.items):
                yield from _scalars(item, (*location, index))
        case TreeMapping():
            for key, entry in node.entries.items():
                yield from _scalars(entry.node, (*location, key))

"""The refusals of a templated request that may be our fault, by the origin of its URL and credentials.

An answer such as 401 is about one message if the URL or the credentials came with that message.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from relay.provider.statuses import ADDRESS, CREDENTIALS, PROXY
from relay.settings.credentials import is_credential, names_a_secret
from relay.settings.template import Part, Reference, Template

from .filling import compile_json

_UNAUTHORISED = frozenset({401})
_Parts = tuple[Part, ...]


def refusals_of_ours(
    url: Template, headers: Mapping[str, Template], fields: Any, *, authenticated: bool
) -> frozenset[int]:
    """The statuses that may be our fault.

    `fields` is the tree of a body or form; `authenticated`: the connection presents a certificate, or
    requests carry an access token of ours.
    """
    ours = authenticated or any(map(_has_secret, [url.parts, *_parts_of(headers), *_all_parts(fields)]))
    theirs = False
    for name, template in headers.items():
        if is_credential(name, _literal(template.parts)):
            theirs |= _refers_to(template.parts, "payload")
            ours |= not _refers_to(template.parts, "payload", "message")
    if not ours:
        theirs |= any(names_a_secret(name) and _refers_to(parts, "payload") for name, parts in _named(fields))
    found = PROXY
    if _refers_to(url.parts, "payload", "message"):
        # Without credentials of ours, those of the request are in the message's part of the URL.
        return found | (_UNAUTHORISED if ours and not theirs else frozenset())
    return found | ADDRESS | (frozenset() if theirs else CREDENTIALS)


def _refers_to(parts: _Parts, *names: str) -> bool:
    return any(isinstance(part, Reference) and part.path[0] in names for part in parts)


def _has_secret(parts: _Parts) -> bool:
    return any(isinstance(part, Reference) and part.path == ("provider", "secret") for part in parts)


def _literal(parts: _Parts) -> str:
    return "".join(part for part in parts if isinstance(part, str)).lstrip(" \t")


def _parts_of(templates: Mapping[str, Template]) -> list[_Parts]:
    return [template.parts for template in templates.values()]


def _all_parts(fields: Any) -> list[_Parts]:
    return [parts for _, parts in _named(fields)]


def _named(tree: Any, name: str = "") -> Iterator[tuple[str, _Parts]]:
    """The texts of a tree, each with the name of the field that holds it."""
    match tree:
        case Template():
            yield name, tree.parts
        case str():
            yield name, compile_json(tree)
        case list():
            for entry in tree:
                yield from _named(entry, name)
        case dict():
            for key, entry in tree.items():
                yield from _named(entry, str(key))

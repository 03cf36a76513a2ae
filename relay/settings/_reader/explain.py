"""Errors of pydantic in plain words, without values of secrets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic_core import ErrorDetails

from relay.settings._reader.nodes import Node, Scalar, to_data
from relay.settings.formatting import describe, listing, near_miss
from relay.text import mask_url

_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "finite_number": "a finite number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
    "frozen_set": "a list",
    "iterable": "a list",
    "dict": "a mapping of `key: value`",
    "mapping": "a mapping of `key: value`",
    "model": "a mapping of `key: value`",
    "model_attributes": "a mapping of `key: value`",
    "dataclass": "a mapping of `key: value`",
    "none_required": "nothing",
    "path": "a path",
    "url": "a URL such as https://host/path",
    "ip_v4_address": "an IPv4 address",
    "ip_v6_address": "an IPv6 address",
    "ip_any_address": "an IP address",
    "ip_v4_network": "an IPv4 network such as 10.0.0.0/8",
    "ip_v6_network": "an IPv6 network such as fd00::/8",
    "ip_any_network": "a network such as 10.0.0.0/8",
}
_KINDS = re.compile(r"_(type|parsing|parsing_size|from_float|unicode|sub)$")
_BOUNDS = {"greater_than": "more than", "greater_than_equal": "at least", "less_than": "less than"}
_BOUNDS |= {"less_than_equal": "at most", "multiple_of": "a multiple of"}
_LENGTHS = {
    "too_short": "at least",
    "string_too_short": "at least",
    "too_long": "at most",
    "string_too_long": "at most",
}
_NUMBER_OR_SWITCH = re.compile(r"[-+]?[0-9.]+|true|false")
_SHORTEST_REDACTED = 4  # shorter secrets would also hide ordinary words


@dataclass(frozen=True, slots=True)
class _Complaint:
    """`text` is complete. `expectation` needs the actual value after it."""

    expectation: str = ""
    text: str = ""


def explain(errors: Sequence[ErrorDetails], node: Node, *, secret: bool) -> str:
    """Return one line for all errors of one node. Several errors are the branches of a union."""
    complaints = [_complaint(error, node) for error in errors]
    texts = dict.fromkeys(complaint.text for complaint in complaints if complaint.text)
    expectations = dict.fromkeys(complaint.expectation for complaint in complaints if complaint.expectation)
    if expectations and not texts:
        line = f"expected {', or '.join(expectations)}"
        found = to_data(node)
        if not secret or not isinstance(node, Scalar) or found is None:
            line += f", got {describe(found)}"
            line += _hint(errors, node)
    else:
        line = " or ".join([*texts, *(f"expected {expectation}" for expectation in expectations)])
    line = " ".join(mask_url(line).split()) if "://" in line else " ".join(line.split())
    return _redact(line, node) if secret else line


def _complaint(error: ErrorDetails, node: Node) -> _Complaint:
    kind, context = error["type"], error.get("ctx", {})
    expected = _EXPECTED.get(_KINDS.sub("", kind)) or _EXPECTED.get(kind)
    if kind in ("value_error", "assertion_error"):
        complaint = _Complaint(text=str(context["error"]) or "is not allowed")
    elif kind.startswith("string_") and isinstance(node, Scalar) and node.value == "":
        complaint = _Complaint(text="must not be empty")
    elif kind in ("literal_error", "enum"):
        complaint = _Complaint(listing(_choices(error)))
    elif kind in _BOUNDS:
        bound = next(context[name] for name in ("gt", "ge", "lt", "le", "multiple_of") if name in context)
        complaint = _Complaint(
            f"{_BOUNDS[kind]} {bound:g}" if isinstance(bound, float) else f"{_BOUNDS[kind]} {bound}"
        )
    elif kind in _LENGTHS:
        complaint = _length(kind, context)
    elif expected:
        complaint = _Complaint(expected)
    else:
        complaint = _other(error)
    return complaint


def _length(kind: str, context: dict[str, object]) -> _Complaint:
    bound = context.get("min_length", context.get("max_length"))
    if bound == 1 and kind.endswith("too_short"):
        return _Complaint(text="must not be empty")
    unit = "characters" if kind.startswith("string") else "entries"
    return _Complaint(text=f"must have {_LENGTHS[kind]} {bound} {unit}")


def _other(error: ErrorDetails) -> _Complaint:
    message = error["msg"]
    for opening in ("Input should be ", "Value should be ", "Input is "):
        if message.startswith(opening):
            return _Complaint(message.removeprefix(opening).replace("a valid ", "a "))
    return _Complaint(text=message[:1].lower() + message[1:])


def _choices(error: ErrorDetails) -> list[str]:
    expected = str(error.get("ctx", {}).get("expected", ""))
    return re.findall(r"'([^']*)'", expected) or [expected]


def _hint(errors: Sequence[ErrorDetails], node: Node) -> str:
    if not isinstance(node, Scalar):
        return ""
    choices = [
        choice for error in errors if error["type"] in ("literal_error", "enum") for choice in _choices(error)
    ]
    hint = near_miss(node.text, choices)
    if not hint and not node.plain and not choices and _NUMBER_OR_SWITCH.fullmatch(node.text):
        hint = "write it without quotes"
    return f"; {hint}" if hint else ""


def _redact(line: str, node: Node) -> str:
    match node:
        case Scalar() if len(node.text) >= _SHORTEST_REDACTED:
            return line.replace(node.text, "***")
        case _:
            return line

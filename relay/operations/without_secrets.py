"""Elements and payloads of applications as operators may see them: without secrets. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypedDict

from relay.settings.credentials import text_without_credentials, without_credentials
from relay.store.queue_head import HeadElement
from relay.text import Redactor, printable_json

LONGEST_ELEMENT = 2000
"""Characters of an element that are shown. Redis returns more, so that a secret at the end is whole."""

LONGEST_PAYLOAD = 100_000
"""Characters of a payload that a page shows."""


def element_text(element: HeadElement, redactor: Redactor) -> str:
    """Return the beginning of an element of a queue, on one line."""
    text = text_without_credentials(element.beginning.decode("utf-8", "backslashreplace"))
    shown = printable_json(redactor.text(text))
    return shown if len(shown) <= LONGEST_ELEMENT else f"{shown[: LONGEST_ELEMENT - 1]}…"


class ElementDocument(TypedDict):
    """One of the first elements of a queue, without secrets."""

    element: str
    bytes: int
    deferred: bool


def head_document(element: HeadElement, redactor: Redactor) -> ElementDocument:
    """Return one of the first elements of a queue."""
    return {
        "element": element_text(element, redactor),
        "bytes": element.size,
        "deferred": element.deferred,
    }


def payload_without_secrets(payload: Mapping[str, Any], redactor: Redactor) -> dict[str, Any]:
    """Return a payload without credentials, and without the secrets of the configuration."""
    shown = without_credentials(payload)
    return {redactor.text(name): _hidden(value, redactor) for name, value in shown.items()}


def payload_text(payload: Mapping[str, Any]) -> str:
    """Return a payload that has no secrets as indented JSON, which a page can show."""
    text = printable_json(json.dumps(payload, ensure_ascii=False, indent=2), keep="\n")
    return text if len(text) <= LONGEST_PAYLOAD else f"{text[: LONGEST_PAYLOAD - 1]}…"


def _hidden(value: Any, redactor: Redactor) -> Any:
    match value:
        case str():
            return redactor.text(value)
        case list():
            return [_hidden(entry, redactor) for entry in value]
        case dict():
            return {redactor.text(name): _hidden(entry, redactor) for name, entry in value.items()}
        case _:
            return value

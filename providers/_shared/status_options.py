"""The option `statuses`: meanings of statuses that differ from those of `relay.provider.statuses`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, WithJsonSchema, model_validator

from relay.provider.statuses import Meaning
from relay.settings.formatting import describe
from relay.settings.options import Options

_RANGE = re.compile(r"([1-5][0-9]{2}) ?- ?([1-5][0-9]{2})")


def _as_ranges(value: object) -> object:
    """Codes and ranges of them, such as 404 and 200-299. Raises ValueError."""
    entries = value if isinstance(value, list | tuple) else [value]
    return tuple(_range(entry) for entry in entries)


def _range(entry: object) -> range:
    if isinstance(entry, range):
        return entry
    if isinstance(entry, int) and not isinstance(entry, bool) and 100 <= entry <= 599:
        return range(entry, entry + 1)
    found = _RANGE.fullmatch(entry.strip()) if isinstance(entry, str) else None
    if found is None or found[1] > found[2]:
        raise ValueError(
            f"{describe(entry)} is not a status; write a code such as 404 or a range such as 200-299"
        )
    return range(int(found[1]), int(found[2]) + 1)


Statuses = Annotated[
    tuple[Any, ...],
    BeforeValidator(_as_ranges),
    WithJsonSchema(
        {
            "type": "array",
            "items": {
                "anyOf": [
                    {"type": "integer", "minimum": 100, "maximum": 599},
                    {"type": "string", "pattern": _RANGE.pattern},
                ]
            },
            "examples": [[404, "460-499"]],
        }
    ),
]
"""Ranges of HTTP statuses."""


class StatusOptions(Options):
    """Statuses whose meaning differs from the table of answers on the provider's page."""

    success: Statuses = ()
    """Delivered, besides 200-299."""
    retry: Statuses = ()
    """Retried, besides 408, 409, 423, 425 and 500-599."""
    reject: Statuses = ()
    """Rejected: a dead letter immediately, besides all statuses without another meaning."""
    throttled: Statuses = ()
    """Throttled: hold the lane until Retry-After is over, besides 429 and 503 with Retry-After."""
    unauthorised: Statuses = ()
    """Unauthorised: try other messages, and hold the lane if they fail too."""
    unregistered: Statuses = ()
    """Unregistered: report the target to the feedback stream."""

    @model_validator(mode="after")
    def _are_apart(self) -> Self:
        found: dict[int, str] = {}
        for kind in type(self).model_fields:
            for status in self._listed(kind):
                if found.setdefault(status, kind) != kind:
                    raise ValueError(f"{status} is in both `{found[status]}` and `{kind}`; keep one")
        return self

    def meanings(self) -> dict[int, Meaning]:
        """The meaning of each status that is listed."""
        return {status: kind for kind in Meaning for status in self._listed(kind)}

    def _listed(self, kind: str) -> list[int]:
        return [status for statuses in getattr(self, kind) for status in statuses]

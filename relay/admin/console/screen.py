"""A screen: a page that is rendered by the server, and the parts of it that stay live."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from relay.admin.console.call import Call
from relay.admin.console.sampler import Sample

Values = Mapping[str, Any]
"""The variables of a template."""


class NotFound(Exception):
    """A page about something that does not exist, with a line of advice."""


@dataclass(frozen=True, slots=True)
class Screen:
    """One screen.

    `values` returns the variables of the template. Blocks within `{% call live(NAME) %}` stay live.
    """

    name: str
    path: str
    template: str
    values: Callable[[Call, Sample], Awaitable[Values]]
    label: str = ""
    """The word in the navigation; empty for a page that is not in it."""
    every: int = 1
    """Render the live blocks for every nth sample, if their data are expensive. 0: never."""

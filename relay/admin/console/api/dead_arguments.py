"""The filter of dead letters, as a page's URL or the body of a request has it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from relay.admin.console.api.route import Arguments
from relay.operations.dead_filter import OPTIONS, parse_filter
from relay.operations.dead_selection import DeadSelection

Text = Annotated[str, Meta(max_length=1000)]


class DeadArguments(Arguments, frozen=True, kw_only=True):
    """The filter of `relay dead`."""

    provider: Annotated[str | None, Meta(description="A provider or a queue. Default: all.")] = None
    id: Annotated[Text | None, Meta(description="Id of a letter or of its message.")] = None
    reason: Annotated[Text | None, Meta(description="Part of the reason.")] = None
    text: Annotated[Text | None, Meta(description="Part of the message, the reason or the answer.")] = None
    status: Annotated[str | None, Meta(description="`413`, or `5xx` for 500 to 599.")] = None
    group: Annotated[Text | None, Meta(description="Group of the message.")] = None
    queue: Annotated[Text | None, Meta(description="Queue of the message.")] = None
    since: Annotated[str | None, Meta(description="RFC 3339, Unix seconds, or `2h` ago.")] = None
    until: Annotated[str | None, Meta(description="RFC 3339, Unix seconds, or `2h` ago.")] = None

    def selection(self, limit: int | None = None) -> DeadSelection:
        """Return the selection. Raises UsageError if an option is wrong."""
        where = parse_filter({name: getattr(self, name) or None for name in OPTIONS})
        return DeadSelection(self.provider or None, where, limit)

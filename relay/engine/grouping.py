"""The group of a message: the tenant or destination with which it shares turns and limits."""

from __future__ import annotations

from collections.abc import Callable

from relay.message import Message
from relay.settings.options import ProviderOptions

NO_GROUP = "(none)"
"""The group of messages that name none."""

GroupOf = Callable[[Message], str]


def grouping(options: ProviderOptions, destination: GroupOf) -> GroupOf | None:
    """The function that names a message's group, or None if the lane has no groups.

    `destination` returns the host that a message goes to, or an empty text.
    """
    rules = options.group_rules
    if rules is None:
        return None
    if rules.by == "destination":
        return lambda message: destination(message) or NO_GROUP
    if options.brings_url:
        return lambda message: message.group or destination(message) or NO_GROUP
    return lambda message: message.group or NO_GROUP

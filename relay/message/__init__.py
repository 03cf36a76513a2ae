"""The message that an application pushes, as one typed value."""

from relay.message.envelope import (
    LARGE,
    MAX_CONTAINERS,
    MAX_DEPTH,
    MAX_VALUES,
    TARGETS_SIZE,
    Hints,
    Message,
    hints,
    parse_bare,
    parse_envelope,
    size_of_targets,
    uuid7,
)
from relay.message.fields import PRIORITIES

__all__ = [
    "LARGE",
    "MAX_CONTAINERS",
    "MAX_DEPTH",
    "MAX_VALUES",
    "PRIORITIES",
    "TARGETS_SIZE",
    "Hints",
    "Message",
    "hints",
    "parse_bare",
    "parse_envelope",
    "size_of_targets",
    "uuid7",
]

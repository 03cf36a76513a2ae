"""The message that an application pushes, as one typed value."""

from relay.message.envelope import parse_bare, parse_envelope
from relay.message.fields import PRIORITIES
from relay.message.hints import Hints, hints, size_of_targets
from relay.message.ids import uuid7
from relay.message.limits import LARGE, MAX_CONTAINERS, MAX_DEPTH, MAX_VALUES, TARGETS_SIZE
from relay.message.message import Message

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

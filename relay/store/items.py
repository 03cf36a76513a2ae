"""The items of a lane: messages, fan-outs, and elements that are no messages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from relay.message import Message
from relay.message.fan_out import FanOut
from relay.store.record import has_header, pack, pack_headerless


@dataclass(frozen=True, slots=True)
class Malformed:
    """An element that is no message: it is filed as a dead letter with its raw bytes.

    With an `id` and a `reply_to`, a receipt says so. `provider` is the one that the element names or gets.
    """

    raw: bytes
    reason: str
    queue: str
    id: str = ""
    reply_to: str = ""
    provider: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The receipt of an element that belongs to no provider; any lane posts it."""

    id: str
    reply_to: str
    reason: str
    provider: str


Item = Message | FanOut | Malformed | Refusal
"""One element of a queue, as its lane gets it."""


def is_ordered(item: Item) -> bool:
    """Return whether later items must not overtake this one."""
    message = item.message if isinstance(item, FanOut) else item
    return isinstance(message, Message) and bool(message.ordering_key or message.collapse_key)


@dataclass(frozen=True, slots=True)
class Enqueued:
    """The effect of an enqueue, in numbers of messages."""

    in_turn: bool
    """Whether a claim that was sent later has seen the messages."""
    accepted: int = 0
    duplicates: int = 0
    collapsed: int = 0
    dropped: int = 0
    malformed: int = 0
    ready: int = 0
    """All messages of the lane that may go now, as far as rate and holds allow."""
    outbox: int = 0
    """Receipts to forward, if this enqueue wrote some."""
    left: int = 0
    """Elements left in the queue, if this one came directly from it."""


def encode_items(items: Iterable[Item]) -> list[str | bytes | int]:
    """Return the arguments of `enqueue.lua` for these items."""
    arguments: list[str | bytes | int] = []
    for item in items:
        if isinstance(item, Message):
            arguments += (item.priority, pack(item))
        elif isinstance(item, FanOut):
            arguments += ("f", pack(item.message), item.message.priority)
            arguments += (item.size, len(item.chunks), *item.chunks)
        elif isinstance(item, Refusal):
            arguments += ("n", item.reason, item.id, item.reply_to, item.provider)
        else:
            arguments += ("x", item.reason, item.queue, item.raw, item.id, item.reply_to)
    return arguments


def encode_headerless(items: Iterable[Item]) -> list[str | bytes | int] | None:
    """Return the arguments of `enqueue_plain.lua`: priority, record, … Returns None if not all items are
    messages without a header."""
    arguments: list[str | bytes | int] = []
    for item in items:
        if not isinstance(item, Message) or has_header(item):
            return None
        arguments += (item.priority, pack_headerless(item))
    return arguments

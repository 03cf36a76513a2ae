"""Large messages that this process has just enqueued: if it claims them too, it need not read them."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

from relay.message import Message
from relay.redis_client.client import Client

MOST_BYTES = 4 << 20
"""Payloads that are kept for all lanes together. A fetch has 1 MiB."""


class RecentMessages:
    """Messages by the key of their lane's bodies and their ticket, which never has another message."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._most = most
        self._size = 0
        self._messages: dict[tuple[str, bytes], Message] = {}

    def keep(self, bodies: str, tickets: Sequence[bytes], messages: Sequence[Message]) -> None:
        """Keep messages, instead of the oldest ones if there is no room. Their tickets need not be in use
        yet."""
        for ticket, message in zip(tickets, messages, strict=True):
            self._messages[bodies, ticket] = message
            self._size += len(message.payload_json)
        while self._size > self._most:
            oldest = self._messages.pop(next(iter(self._messages)))
            self._size -= len(oldest.payload_json)

    def take(self, bodies: str, ticket: bytes) -> Message | None:
        """Return a message, and forget it; None if it is not here."""
        message = self._messages.pop((bodies, ticket), None)
        if message is not None:
            self._size -= len(message.payload_json)
        return message


_by_client: WeakKeyDictionary[Client, RecentMessages] = WeakKeyDictionary()


def recent_messages(client: Client) -> RecentMessages:
    """Return those of all lanes of one Redis."""
    found = _by_client.get(client)
    if found is None:
        found = _by_client[client] = RecentMessages()
    return found

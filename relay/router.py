"""Decides which lane an element of a queue goes into, and as what."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import msgspec
import structlog

from relay.errors import MessageError
from relay.fan_out import FanOut, chunk_size, split
from relay.message import PRIORITIES, Message, parse_bare, parse_envelope, provider_named
from relay.provider import Provider
from relay.settings.models import QueueSettings, Settings
from relay.settings.provider import ProviderOptions
from relay.store.lane import Malformed

Item = Message | FanOut | Malformed

TARGETS_SIZE = 16 * 1024 * 1024
"""Bytes that the targets of one message may have."""

logger = structlog.get_logger()


class Router:
    """Decides where an element goes. Pure, but for the clock."""

    def __init__(
        self,
        queue: QueueSettings,
        settings: Settings,
        adapters: Mapping[str, Provider[ProviderOptions]] = MappingProxyType({}),
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`adapters` by provider: they know about targets and destinations."""
        self._queue = queue
        self._is_bare = queue.format == "bare"
        self._priority = PRIORITIES.index(queue.priority)
        self._rules = {
            name: _Rules(options, adapters.get(name)) for name, options in settings.providers.items()
        }
        self._prefix = f"{settings.redis.prefix}:"
        self._queues = frozenset(queue.name for queue in settings.queues)
        self._clock = clock

    def route(self, element: bytes) -> tuple[str | None, Message | FanOut | Malformed]:
        """The provider that the element is for (None: it has none) and what goes into its lane."""
        try:
            return self._message(element)
        except MessageError as error:
            named = None if self._is_bare else provider_named(element)
            provider = named or self._queue.provider
            known = provider if provider in self._rules else None
            return known, Malformed(element, str(error), self._queue.name)

    def sort(self, batch: Sequence[bytes]) -> tuple[dict[str, list[Item]], list[tuple[str, bytes]]]:
        """A batch by provider, and as (reason, raw bytes) those elements that belong to none."""
        by_lane: dict[str, list[Item]] = {}
        rejected: list[tuple[str, bytes]] = []
        for element in batch:
            provider, item = self.route(element)
            if isinstance(item, Malformed):
                logger.warning("dead letter", reason=item.reason, filed_under=provider or self._queue.name)
            if provider is not None:
                by_lane.setdefault(provider, []).append(item)
            elif isinstance(item, Malformed):
                rejected.append((item.reason, item.raw))
        return by_lane, rejected

    def _message(self, element: bytes) -> tuple[str, Message | FanOut]:
        queue, now = self._queue, self._clock()
        if len(element) > queue.max_size:
            # The targets of a fan-out do not count, but somewhere it has to end.
            self._check_size(len(element) - TARGETS_SIZE if b'"targets"' in element else len(element))
        named: str | None = None
        if self._is_bare:
            message = parse_bare(element, queue.name, now, self._priority)
        else:
            named, message = parse_envelope(element, queue.name, now, self._priority)
        provider = named or queue.provider
        if provider is None:
            raise MessageError(f"provider: missing, and the queue {queue.name!r} names none")
        rules = self._rules.get(provider)
        if rules is None:
            raise MessageError(
                f"provider: {provider!r} is not configured; there are {', '.join(self._rules)}"
            )
        if message.reply_to:
            self._check_reply_to(message.reply_to)
        if rules.ttl is not None and not message.expires_at:
            message = _with_expiry(message, rules.ttl)
        if rules.target_field:
            item = split(message, rules.target_field, rules.chunk_size)
            if isinstance(item, FanOut):
                self._check_size(len(item.message.payload_json))
                return provider, item
        self._check_size(len(element))
        if rules.destination is not None:
            message = msgspec.structs.replace(message, destination=rules.destination(message))
        return provider, message

    def _check_size(self, size: int) -> None:
        if size > self._queue.max_size:
            raise MessageError(
                f"{size} bytes; the queue {self._queue.name!r} takes at most {self._queue.max_size}"
            )

    def _check_reply_to(self, key: str) -> None:
        if key in self._queues:
            raise MessageError(f"reply_to: {key!r} is a queue; its receipts would be taken for messages")
        if key.startswith(self._prefix):
            raise MessageError(f"reply_to: keys that start with {self._prefix!r} are relay's own")


class _Rules:
    """What a provider's options and its adapter ask of messages."""

    __slots__ = ("chunk_size", "destination", "target_field", "ttl")

    def __init__(self, options: ProviderOptions, adapter: Provider[ProviderOptions] | None) -> None:
        self.ttl = options.ttl
        self.target_field = adapter.target_field if adapter else ""
        self.chunk_size = chunk_size(options)
        self.destination = adapter.destination if adapter and options.each_destination else None


def _with_expiry(message: Message, ttl: float) -> Message:
    return msgspec.structs.replace(message, expires_at=message.created_at + ttl)


def is_ordered(by_lane: Mapping[str, Sequence[Item]]) -> bool:
    """Whether any of these messages must not be overtaken by one that was pushed later."""
    for items in by_lane.values():
        for item in items:
            message = item.message if isinstance(item, FanOut) else item
            if isinstance(message, Message) and (message.ordering_key or message.collapse_key):
                return True
    return False

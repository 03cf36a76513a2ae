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
        self._providers = settings.providers
        self._priority = PRIORITIES.index(queue.priority)
        self._adapters = adapters
        self._each_destination = frozenset(
            name for name, options in settings.providers.items() if options.each_destination
        )
        self._prefix = f"{settings.redis.prefix}:"
        self._queues = frozenset(queue.name for queue in settings.queues)
        self._clock = clock

    def route(self, element: bytes) -> tuple[str | None, Message | FanOut | Malformed]:
        """The provider that the element is for (None: it has none) and what goes into its lane."""
        try:
            return self._message(element)
        except MessageError as error:
            named = provider_named(element) if self._queue.format == "envelope" else None
            provider = named or self._queue.provider
            known = provider if provider in self._providers else None
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
        if queue.format == "bare":
            message = parse_bare(element, queue.name, now, self._priority)
        else:
            named, message = parse_envelope(element, queue.name, now, self._priority)
        provider = named or queue.provider
        if provider is None:
            raise MessageError(f"provider: missing, and the queue {queue.name!r} names none")
        options = self._providers.get(provider)
        if options is None:
            raise MessageError(
                f"provider: {provider!r} is not configured; there are {', '.join(self._providers)}"
            )
        if options.ttl is not None and not message.expires_at:
            message = _with_expiry(message, options.ttl)
        if message.reply_to:
            self._check_reply_to(message.reply_to)
        adapter = self._adapters.get(provider)
        if adapter is not None and adapter.target_field:
            item = split(message, adapter.target_field, chunk_size(options))
            if isinstance(item, FanOut):
                self._check_size(len(item.message.payload_json))
                return provider, item
        self._check_size(len(element))
        if adapter is not None and provider in self._each_destination:
            message = msgspec.structs.replace(message, destination=adapter.destination(message))
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

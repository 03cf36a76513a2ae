"""Decides which lane an element of a queue belongs to, and makes a message of it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from fnmatch import translate
from types import MappingProxyType

import msgspec

from relay.engine.grouping import grouping
from relay.engine.repeats import thinned
from relay.errors import MessageError
from relay.message import (
    MAX_VALUES,
    PRIORITIES,
    TARGETS_SIZE,
    Hints,
    Message,
    hints,
    parse_bare,
    parse_envelope,
    size_of_targets,
)
from relay.message.fan_out import FanOut, chunk_size, split
from relay.names import is_reserved
from relay.provider import Provider
from relay.settings.durations import format_duration
from relay.settings.models import QueueSettings, Settings
from relay.settings.options import ProviderOptions
from relay.store.items import Item, Malformed, Refusal, is_ordered
from relay.store.queue import FETCH_BYTES, Ack, Fetch, Limits
from relay.text import LONGEST_QUOTE, LONGEST_REASON, enumerated, hide_signing_secrets, shortened


def limits(queue: QueueSettings) -> Limits:
    """Return the sizes above which no worker reads an element of a queue.

    Workers read elements up to the size of a fetch, so that dead letters keep the order of the queue.
    """
    longest = max(queue.max_size, FETCH_BYTES)
    return Limits(queue.max_size, longest, longest + TARGETS_SIZE, queue.provider)


class Router:
    """Routes the elements of one queue. Pure, except for the clock and a counter."""

    def __init__(
        self,
        queue: QueueSettings,
        settings: Settings,
        adapters: Mapping[str, Provider[ProviderOptions]] = MappingProxyType({}),
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`adapters` by provider define the field of a target and the destination of a message."""
        self._queue = queue
        # Each message needs these, and an attribute of a pydantic model takes five times as long.
        self._name = queue.name
        self._provider = queue.provider
        self._max_size = queue.max_size
        self._max_delay = queue.max_delay
        self._is_bare = queue.format == "bare"
        self._is_scoped = queue.scope == "queue"
        self._priority = PRIORITIES.index(queue.priority)
        self._rules = {
            name: _Rules(options, adapters.get(name)) for name, options in settings.providers.items()
        }
        self._prefix = settings.redis.prefix
        self._queues = frozenset(queue.name for queue in settings.queues)
        self._allowed = frozenset(name for name in settings.providers if queue.admits(name))
        self._is_reply_list = re.compile("|".join(map(translate, queue.reply_to)) or "(?!)").match
        # A receipt for an element without a provider needs an outbox, of any lane.
        self._any_provider = next(iter(settings.providers))
        self._clock = clock
        self.malformed = 0
        """The number of elements among those sorted that are no valid messages."""

    def route(self, element: bytes) -> tuple[str | None, Message | FanOut | Malformed]:
        """Return the provider of an element (None: it has none) and the item for its lane."""
        try:
            return self._message(element)
        except MessageError as error:
            return self._malformed(element, str(error))
        except Exception as error:  # one element must not block the elements behind it
            name = self._name
            thinned.log(
                "error",
                "cannot parse an element; this is a bug",
                name,
                repr(error),
                queue=name,
                exc_info=error,
            )
            return self._malformed(element, f"relay failed to read it: {type(error).__name__}: {error}")

    def sort(self, elements: Sequence[bytes]) -> tuple[dict[str, list[Item]], list[tuple[str, bytes]]]:
        """Return the items by provider, and elements that belong to no provider as (reason, raw bytes)."""
        by_lane: dict[str, list[Item]] = {}
        rejected: list[tuple[str, bytes]] = []
        for element in elements:
            provider, item = self.route(element)
            if isinstance(item, Malformed):
                self.malformed += 1
                filed = provider or self._name
                thinned.log("warning", "dead letter", filed, item.reason, filed_under=filed)
            if provider is not None:
                by_lane.setdefault(provider, []).append(item)
            elif isinstance(item, Malformed):
                rejected.append((item.reason, item.raw))
                if item.reply_to:
                    receipt = Refusal(item.id, item.reply_to, item.reason, item.provider)
                    by_lane.setdefault(self._any_provider, []).append(receipt)
        return by_lane, rejected

    def acknowledge(
        self,
        fetch: Fetch,
        by_lane: Iterable[str],
        rejected: Sequence[tuple[str, bytes]],
        *,
        refused: Collection[str],
    ) -> Ack:
        """Return the acknowledgement of a fetch that went into its lanes, except those that refused it."""
        accepted = [provider for provider in by_lane if provider not in refused]
        return Ack(fetch.sequence, accepted, rejected, self._select(fetch.elements, refused))

    def _select(self, elements: Sequence[bytes], providers: Collection[str]) -> list[tuple[str, bytes]]:
        """Return the elements for some of the providers, as (provider, raw bytes)."""
        if not providers:
            return []
        routed = ((self.route(element)[0], element) for element in elements)
        return [(provider, element) for provider, element in routed if provider and provider in providers]

    def _malformed(self, element: bytes, reason: str) -> tuple[str | None, Malformed]:
        reason = shortened(hide_signing_secrets(reason), LONGEST_REASON)
        readable = Hints()
        if len(element) <= self._max_size and not self._is_bare:
            readable = hints(element)
        provider = readable.provider or self._provider
        has_receipt = readable.id and readable.reply_to and not self._refusal_of_reply_to(readable.reply_to)
        malformed = Malformed(
            element,
            reason,
            self._name,
            id=readable.id if has_receipt else "",
            reply_to=readable.reply_to if has_receipt else "",
            provider=provider or "",
        )
        return provider if provider in self._allowed else None, malformed

    def _message(self, element: bytes) -> tuple[str, Message | FanOut]:
        now = self._clock()
        needs_fan_out = len(element) > self._max_size and self._fits_as_fan_out(element)
        named: str | None = None
        if self._is_bare:
            message = parse_bare(element, self._name, now, self._priority)
        else:
            named, message = parse_envelope(element, self._name, now, self._priority)
        provider = named or self._provider
        if provider is None:
            raise MessageError(f"provider: missing, and the queue {self._name!r} names none")
        rules = self._rules.get(provider)
        if rules is None:
            raise MessageError(
                f"provider: {_short(provider)} is not configured; known: {enumerated(self._rules)}"
            )
        if provider not in self._allowed or message.reply_to or message.deliver_at:
            self._check(provider, message, now)
        if self._is_scoped and (message.named or message.collapse_key or message.ordering_key):
            message = msgspec.structs.replace(message, scope=self._name)
        if rules.ttl is not None and not message.expires_at:
            message = _with_expiry(message, rules.ttl)
        if message.group and rules.group is None:
            message = msgspec.structs.replace(message, group="")
        if rules.target_field:
            item = split(message, rules.target_field, rules.chunk_size)
            if isinstance(item, FanOut):
                return provider, item
        if needs_fan_out:
            raise self._too_large(len(element))
        if rules.group is not None and (group := rules.group(message)) != message.group:
            message = msgspec.structs.replace(message, group=group)
        return provider, message

    def _check(self, provider: str, message: Message, now: float) -> None:
        """Raise MessageError if the queue does not allow the provider, the receipt or the delay."""
        if provider not in self._allowed:
            raise MessageError(
                f"provider: the queue {self._name!r} does not admit {provider!r}, only "
                f"{', '.join(sorted(self._allowed))} (`providers` of the queue)"
            )
        if message.reply_to and (refusal := self._refusal_of_reply_to(message.reply_to)):
            raise MessageError(refusal)
        if message.deliver_at > now + self._max_delay:
            days = (message.deliver_at - now) / 86400
            raise MessageError(
                f"deliver_at: {days:.1f} days ahead; the queue {self._name!r} allows "
                f"{format_duration(self._max_delay)} (`max_delay` of the queue)"
            )

    def _fits_as_fan_out(self, element: bytes) -> bool:
        """Return True for an element above `max_size` that may be a fan-out, whose targets do not count.
        Nothing of it is decoded. Raises MessageError for any other."""
        size, most = len(element), self._max_size
        targets = size_of_targets(element, bare=self._is_bare) if size <= most + TARGETS_SIZE else 0
        if size - targets > most:
            raise self._too_large(size - targets)
        values = element.count(b",") + element.count(b"[") + element.count(b"{")
        if values > MAX_VALUES:
            raise MessageError(f"payload.targets: {values} values or more; there may be {MAX_VALUES}")
        return True

    def _too_large(self, size: int) -> MessageError:
        return MessageError(f"{size} bytes; the queue {self._name!r} takes at most {self._max_size}")

    def _refusal_of_reply_to(self, key: str) -> str:
        """Return why no receipt may go to a list, or an empty text if one may."""
        if key in self._queues:
            return f"reply_to: {_short(key)} is a queue; its receipts would be taken for messages"
        if is_reserved(self._prefix, key):
            return f"reply_to: keys that start with '{self._prefix}:' are relay's own"
        if not self._is_reply_list(key):
            allowed = ", ".join(self._queue.reply_to) or "none"
            return (
                f"reply_to: {_short(key)} is not among the lists that the queue {self._name!r} allows: "
                f"{allowed} (`reply_to` of the queue)"
            )
        return ""


class _Rules:
    """Rules for the messages of one provider, from its options and its adapter."""

    __slots__ = ("chunk_size", "group", "target_field", "ttl")

    def __init__(self, options: ProviderOptions, adapter: Provider[ProviderOptions] | None) -> None:
        self.ttl = options.ttl
        self.target_field = adapter.target_field if adapter else ""
        self.chunk_size = chunk_size(options)
        self.group = grouping(options, adapter.destination) if adapter else None


def _short(name: str) -> str:
    return f"'{shortened(name, LONGEST_QUOTE)}'"


def _with_expiry(message: Message, ttl: float) -> Message:
    return msgspec.structs.replace(message, expires_at=message.created_at + ttl)


def is_any_ordered(by_lane: Mapping[str, Sequence[Item]]) -> bool:
    """Return whether any of these items must stay ahead of those pushed later."""
    return any(is_ordered(item) for items in by_lane.values() for item in items)

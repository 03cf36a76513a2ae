"""Checks, parses and enqueues messages for operators, as a worker does: an `operations.dead_work.Intake`.

The router and the adapters take 15 MiB, so processes import this module when the first message needs it.
"""

from __future__ import annotations

import time

import msgspec

from relay.engine.element_check import refusal
from relay.engine.grouping import grouping
from relay.engine.router import Router
from relay.errors import MessageError
from relay.message import Message, parse_bare
from relay.provider.configured import configured, refused
from relay.redis_client.client import Client
from relay.settings.models import QueueSettings, Settings
from relay.settings.options import ProviderOptions
from relay.store.dead import DeadLetter
from relay.store.items import Item, Malformed
from relay.store.lane import Lane


class ConfiguredIntake:
    """The routers and lanes of one configuration."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._providers = configured(settings)
        self._routers: dict[str, Router] = {}

    def route(self, queue: str, element: bytes) -> tuple[str, Item] | None:
        """Return the provider and the item of an element of this queue. None: the element is malformed."""
        provider, item = self._router_of(queue).route(element)
        return None if provider is None or isinstance(item, Malformed) else (provider, item)

    def check(self, queue: str, element: bytes) -> str:
        """Return why a worker or the provider would refuse the element; empty if it would be sent."""
        return refusal(self._router_of(queue), self._providers, element)

    def revise(self, letter: DeadLetter, text: bytes) -> tuple[str, Item]:
        """Return the provider and the item of an edited letter: `text` is the payload, or the whole of a
        malformed element. Raises MessageError if a worker or the provider would refuse it."""
        if letter.message is None:
            provider, item = self._router_of(letter.queue).route(text)
            if isinstance(item, Malformed):
                raise MessageError(item.reason)
            assert provider is not None, "an element without a provider is malformed"
        else:
            provider, item = letter.provider, self._revised(letter.message, letter.provider, text)
        adapter = self._providers.get(provider)
        if adapter is not None and (reason := refused(adapter, item)):
            raise MessageError(reason)
        return provider, item

    def _revised(self, message: Message, provider: str, text: bytes) -> Message:
        most = next((queue.max_size for queue in self._settings.queues if queue.name == message.queue), None)
        if most is not None and len(text) > most:
            raise MessageError(f"{len(text)} bytes; the queue takes at most {most}")
        payload = parse_bare(text, message.queue, time.time()).payload_json
        # A part of a fan-out stands for itself: the fan-out has had its receipt.
        revised = msgspec.structs.replace(message, payload_json=payload, targets=0, part_of="")
        adapter = self._providers.get(provider)
        if adapter is not None and (group := grouping(adapter.options, adapter.destination)):
            revised = msgspec.structs.replace(revised, group=group(revised))
        return revised

    def lane(self, provider: str) -> Lane:
        """Return the lane of a provider."""
        options = self._settings.providers.get(provider) or ProviderOptions(type="")
        return Lane(self._client, self._settings.redis.prefix, provider, options, worker="operator")

    def _router_of(self, queue: str) -> Router:
        if queue not in self._routers:
            self._routers[queue] = self._router(queue)
        return self._routers[queue]

    def _router(self, name: str) -> Router:
        named = (queue for queue in self._settings.queues if queue.name == name)
        return Router(next(named, None) or QueueSettings(name=name), self._settings, self._providers)

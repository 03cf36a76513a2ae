"""Parses and enqueues malformed dead letters again, with the whole configuration.

Only a malformed letter imports this module: pydantic, the router and the adapters take 15 MiB.
"""

from __future__ import annotations

from relay.cli import common
from relay.engine.router import Router
from relay.provider import AdapterOptions, discover
from relay.redis_client.client import Client
from relay.settings.load import restore
from relay.settings.models import QueueSettings
from relay.settings.options import ProviderOptions
from relay.settings.snapshot import Snapshot
from relay.store.items import Item, Malformed
from relay.store.lane import Lane


class ConfiguredIntake:
    """The routers and lanes of one configuration."""

    def __init__(self, client: Client, snapshot: Snapshot) -> None:
        self._client = client
        self._settings = restore(snapshot, AdapterOptions(discover()))
        self._providers = common.providers(self._settings)
        self._routers: dict[str, Router] = {}

    def route(self, queue: str, element: bytes) -> tuple[str, Item] | None:
        """Return the provider and the item of an element of this queue. None: the element is malformed."""
        if queue not in self._routers:
            self._routers[queue] = self._router(queue)
        provider, item = self._routers[queue].route(element)
        return None if provider is None or isinstance(item, Malformed) else (provider, item)

    def lane(self, provider: str) -> Lane:
        """Return the lane of a provider."""
        options = self._settings.providers.get(provider) or ProviderOptions(type="")
        return Lane(self._client, self._settings.redis.prefix, provider, options, worker="operator")

    def _router(self, name: str) -> Router:
        named = (queue for queue in self._settings.queues if queue.name == name)
        return Router(next(named, None) or QueueSettings(name=name), self._settings, self._providers)

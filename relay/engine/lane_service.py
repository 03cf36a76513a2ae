"""Starts the adapter of each lane, and serves the lane from then on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack

from relay import tasks
from relay.engine.dispatcher import Dispatcher
from relay.errors import UsageError
from relay.http import Transport, open_transport
from relay.provider import Provider
from relay.provider.redis import RedisProvider
from relay.redis_client.client import Client
from relay.redis_client.pipelines import linked
from relay.settings.options import ProviderOptions

START_TIMEOUT = 30.0
"""Seconds for an adapter to start."""


class LaneService:
    """The lanes of one worker. A lane whose adapter fails to start is tried again; the others do not wait."""

    def __init__(
        self,
        client: Client,
        adapters: Mapping[str, Provider[ProviderOptions]],
        dispatchers: Mapping[str, Dispatcher],
    ) -> None:
        """`adapters` and `dispatchers` are by provider."""
        self._client = client
        self._adapters = adapters
        self._dispatchers = dispatchers
        self._untried = set(adapters)
        self._all_tried = asyncio.Event()
        self._refusal: UsageError | None = None
        """An adapter found at its first start that its options are wrong."""

    async def serve(self, provider: str) -> None:
        """Start an adapter and serve its lane until cancelled."""
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(START_TIMEOUT):
                    await self._start(self._adapters[provider], stack)
            except UsageError as error:
                if provider not in self._untried:
                    raise
                self._refusal = error
                self._all_tried.set()
                return
            finally:
                self._untried.discard(provider)
                if not self._untried:
                    self._all_tried.set()
            await self._dispatchers[provider].run()

    async def wait_until_tried(self, stop: asyncio.Event) -> None:
        """Return once each adapter has started or failed. Raises UsageError if one has wrong options."""
        if self._untried:
            await tasks.run_until(stop, self._all_tried.wait())
        if self._refusal is not None:
            raise self._refusal

    async def _start(self, adapter: Provider[ProviderOptions], stack: AsyncExitStack) -> None:
        if isinstance(adapter, RedisProvider):
            adapter.bind(await stack.enter_async_context(linked(adapter, self._client)))
        transport = transport_of(adapter)
        stack.push_async_callback(transport.close)
        await adapter.start(transport)
        stack.push_async_callback(adapter.close)


def transport_of(adapter: Provider[ProviderOptions]) -> Transport:
    """Open the connections of one provider, within its own limits."""
    return open_transport(
        adapter.options,
        allowed=adapter.allowed_networks,
        prefers_http2=adapter.prefers_http2,
        http2=adapter.http2,
    )

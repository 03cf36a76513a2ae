"""A console in the process of a test, without a worker, over a Redis that the test fills."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from relay.admin.console.sampler import SamplerTuning
from relay.admin.host import Host
from relay.admin.server import Admin
from relay.engine.configured_intake import ConfiguredIntake
from relay.provider import AdapterOptions, discover
from relay.redis_client.client import Client
from relay.settings.load import loads
from relay.settings.models import Settings
from relay.store.deployment import Deployment
from testing.ports import free_port

PORT = "PORT"
"""In the text of a file: the port of the console."""


def console_settings(text: str) -> Settings:
    """Return the settings in the text of a file, with a free port."""
    return loads(text.replace(PORT, str(free_port())), Path("relay.yaml"), AdapterOptions(discover()))


@asynccontextmanager
async def console_server(
    settings: Settings,
    client: Callable[[], Awaitable[Client]],
    sampling: SamplerTuning | None = None,
) -> AsyncIterator[str]:
    """Prepare the console as `relay console` does, and serve it. Yields its URL without a last slash."""
    intake = partial(ConfiguredIntake, settings=settings)
    admin = Admin(settings, client, lambda: Host(Deployment(), ()), intake, sampling=sampling)
    assert admin.open()
    url = admin.url.rstrip("/")
    await admin.prepare()
    serving = asyncio.create_task(admin.run())
    try:
        yield url
    finally:
        serving.cancel()
        await asyncio.wait({serving})

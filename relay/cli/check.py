"""`relay check`: is the file right, and does the world answer?"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Annotated

import typer

from relay.cli import common
from relay.errors import RelayError
from relay.provider import Provider, discover
from relay.redis_provider import RedisProvider
from relay.settings.models import Settings
from relay.settings.provider import ProviderOptions
from relay.store.scripting import Client
from relay.store.transactions import linked

AT_ONCE = 16
"""Providers that are tried at a time."""


def check(
    context: typer.Context,
    config: common.ConfigOption = None,
    connect: Annotated[
        bool,
        typer.Option(
            "--connect", help="Also reach Redis and authenticate with each provider, sending no notification."
        ),
    ] = False,
) -> None:
    """Validate the configuration; report every mistake at once.

    Example: `relay check -c relay.yaml --connect`
    """
    settings = common.load_settings(context, config)
    queues, providers = len(settings.queues), len(settings.providers)
    common.data.print(f"{settings.path}: ok ({queues} queues, {providers} providers)", highlight=False)
    for name, provider in settings.providers.items():
        for warning in provider.warnings():
            common.notes.print(f"warning: {name}: {warning}", markup=False, highlight=False)
    if connect and not common.run(_reach(settings)):
        raise typer.Exit(1)


async def _reach(settings: Settings) -> bool:
    """Try everything, say how each went; whether all went well."""
    well = True
    async with AsyncExitStack() as stack:
        client = None
        try:
            client = await stack.enter_async_context(common.redis(settings))
            info = await client.info("server")
            _say(
                "redis",
                True,
                f"{settings.redis.safe_url} answers, version {info.get('redis_version', 'cluster')}",
            )
        except RelayError as error:
            well = _say("redis", False, str(error))
        adapters = discover()
        at_once = asyncio.Semaphore(AT_ONCE)

        async def verify(name: str, options: ProviderOptions) -> str | RelayError:
            async with at_once:
                try:
                    return await _verify(adapters[options.type](name, options), client)
                except RelayError as error:
                    return error

        async with asyncio.TaskGroup() as group:
            providers = settings.providers.items()
            tasks = {name: group.create_task(verify(name, options)) for name, options in providers}
            for name, task in tasks.items():
                result = await task
                well = _say(name, not isinstance(result, RelayError), str(result)) and well
    return well


async def _verify(adapter: Provider[ProviderOptions], client: Client | None) -> str:
    # The engine is heavy: only this way of checking loads it.
    from relay.worker import transport_of

    transport = transport_of(adapter)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(transport.close)
        stack.push_async_callback(adapter.close)
        if isinstance(adapter, RedisProvider):
            adapter.bind(await stack.enter_async_context(linked(adapter, client)))
        await adapter.start(transport)
        return await adapter.verify()


def _say(name: str, good: bool, text: str) -> bool:
    mark = "[green]ok[/]" if good else "[red]FAILED[/]"
    common.data.print(f"{mark:<8} [bold]{name}[/]: ", end="")
    common.data.print(text, markup=False, highlight=False)
    return good

"""`relay check`: validates the file, and with `--connect` tries Redis and each provider."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Annotated

import typer
from rich.text import Text

from relay.cli import common
from relay.cli.advice import local_findings
from relay.errors import RelayError
from relay.operations.alerts import refusal
from relay.provider import Provider, discover
from relay.provider.redis import RedisProvider
from relay.redis_client.client import Client
from relay.redis_client.pipelines import linked
from relay.settings.models import Settings
from relay.settings.options import ProviderOptions
from relay.store.findings import Finding, Level
from relay.store.preflight import examine
from relay.text import printable

AT_ONCE = 16
"""Maximum number of providers that are tried at the same time."""

_COLOURS = {Level.OK: "green", Level.UNKNOWN: "cyan", Level.WARNING: "yellow", Level.FAILED: "red"}


def check(
    context: typer.Context,
    config: common.ConfigOption = None,
    connect: Annotated[
        bool,
        typer.Option(
            "--connect",
            help="Also connect to Redis and authenticate with each provider, without sending anything.",
        ),
    ] = False,
    against_live: Annotated[
        bool,
        typer.Option(
            "--against-live",
            help="Also show the changes that a reload of the running fleet with this file would make.",
        ),
    ] = False,
) -> None:
    """Validate the configuration and report all mistakes at once.

    Example: `relay check -c relay.yaml --connect`
    """
    settings = common.load_settings(context, config)
    queues, providers = len(settings.queues), len(settings.providers)
    summary = f"{_count(queues, 'queue')}, {_count(providers, 'provider')}"
    common.data.print(f"{settings.path}: ok ({summary})", highlight=False)
    for finding in (*local_findings(settings), *_alert_findings(settings)):
        print_finding(finding)
    if connect and not common.run(_reach(settings), common.fastest_loop()):
        raise typer.Exit(1)
    if against_live:
        for finding in common.run(_compare(settings)):
            print_finding(finding)


async def _compare(settings: Settings) -> list[Finding]:
    from relay.operations.changes import changes
    from relay.store import lane_settings
    from relay.store.overview import read_overview

    async with common.redis(settings) as client:
        overview = await read_overview(client, settings)
        published = await lane_settings.read(client, settings.redis.prefix)
    return changes(overview, published.in_force(overview.digests), settings)


def _alert_findings(settings: Settings) -> Iterator[Finding]:
    name = settings.alerts.provider
    if name is not None and (problem := refusal(common.providers(settings)[name])):
        hint = "use a provider of type http, webhook or apprise"
        yield Finding(Level.WARNING, "alerts", f"{problem}; {hint}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


async def _reach(settings: Settings) -> bool:
    """Try everything and print each result. Returns True if all succeeded."""
    all_ok = True
    async with AsyncExitStack() as stack:
        client = None
        try:
            client = await stack.enter_async_context(common.redis(settings))
            print_finding(Finding(Level.OK, "redis", f"{settings.redis.safe_url} answers"))
            for finding in await examine(client, settings):
                all_ok = print_finding(finding) and all_ok
        except RelayError as error:
            all_ok = print_finding(Finding(Level.FAILED, "redis", str(error)))
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
                level = Level.FAILED if isinstance(result, RelayError) else Level.OK
                all_ok = print_finding(Finding(level, name, str(result))) and all_ok
    return all_ok


async def _verify(adapter: Provider[ProviderOptions], client: Client | None) -> str:
    # The engine is slow to import, and only `--connect` needs it.
    from relay.engine.lane_service import transport_of

    transport = transport_of(adapter)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(transport.close)
        stack.push_async_callback(adapter.close)
        if isinstance(adapter, RedisProvider):
            adapter.bind(await stack.enter_async_context(linked(adapter, client)))
        await adapter.start(transport)
        return await adapter.verify()


def print_finding(finding: Finding) -> bool:
    """Print one line. Returns False if the finding prevents relay from working."""
    colour = _COLOURS[finding.level]
    common.data.print(f"[{colour}]{finding.level.value}[/]", Text(finding.subject, "bold"), end=": ")
    common.data.print(printable(finding.text), markup=False, highlight=False)
    return finding.level is not Level.FAILED

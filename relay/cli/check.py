"""`relay check`: is the file right, and does the world answer?"""

from __future__ import annotations

from typing import Annotated

import typer

from relay.cli import common
from relay.errors import RelayError
from relay.provider import discover
from relay.settings.models import Settings


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
    if connect and not common.run(_reach(settings)):
        raise typer.Exit(1)


async def _reach(settings: Settings) -> bool:
    """Try everything, say how each went; whether all went well."""
    well = True
    try:
        async with common.redis(settings) as client:
            info = await client.info("server")
        _say(
            "redis",
            True,
            f"{settings.redis.safe_url} answers, version {info.get('redis_version', 'cluster')}",
        )
    except RelayError as error:
        well = _say("redis", False, str(error))
    # The engine is heavy: only this way of checking loads it.
    from relay.worker import transport_of

    adapters = discover()
    for name, options in settings.providers.items():
        adapter = adapters[options.type](name, options)
        transport = transport_of(adapter)
        try:
            await adapter.start(transport)
            proved = await adapter.verify()
            _say(name, True, proved)
        except RelayError as error:
            well = _say(name, False, str(error))
        finally:
            await adapter.close()
            await transport.close()
    return well


def _say(name: str, good: bool, text: str) -> bool:
    mark = "[green]ok[/]" if good else "[red]FAILED[/]"
    common.data.print(f"{mark:<8} [bold]{name}[/]: ", end="")
    common.data.print(text, markup=False, highlight=False)
    return good

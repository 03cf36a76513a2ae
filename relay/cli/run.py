"""`relay run`: the worker."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from relay import logs
from relay.cli import common
from relay.provider import discover
from relay.settings.models import Settings
from relay.worker import Worker, stop_on_signals


def run(
    context: typer.Context,
    config: common.ConfigOption = None,
    until_empty: Annotated[
        bool, typer.Option("--until-empty", help="Exit once every queue and every lane is empty.")
    ] = False,
) -> None:
    """Drain the queues into the providers.

    SIGTERM or Ctrl-C: claim no more, finish what is in flight within `shutdown_timeout`, hand back the
    rest, exit 0. A second signal ends it at once, still losing nothing.

    Example: `relay run -c relay.yaml`
    """
    settings = common.load_settings(context, config)
    logs.configure(settings.log.level, settings.log.format)
    common.run(_work(settings, until_empty=until_empty))


async def _work(settings: Settings, *, until_empty: bool) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    async with common.redis(settings) as client:
        await Worker(settings, discover(), client).run(stop, until_empty=until_empty)

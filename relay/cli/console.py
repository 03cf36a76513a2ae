"""`relay console`: the operator's console without a worker."""

from __future__ import annotations

import asyncio
import gc
import signal
from contextlib import suppress
from functools import partial
from typing import Annotated

import typer

from relay import logs
from relay.cli import common
from relay.errors import UsageError
from relay.redis_client.client import Client
from relay.settings.models import AdminSettings, Settings, is_loopback
from relay.settings.redaction import secrets_in

DEFAULT_LISTEN = "127.0.0.1:9464"


def console(
    context: typer.Context,
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Address to serve the console at; port 0 takes a free one. Default: `admin.listen`.",
        ),
    ] = None,
    config: common.ConfigOption = None,
) -> None:
    """Serve the operator's console, without a worker.

    `relay run` serves the same console; this one also works if no worker runs.

    Example: `relay console --listen 127.0.0.1:9465`
    """
    settings = common.load_settings(context, config)
    logs.configure("warning", settings.log.format, secrets_in(settings))
    common.run(_serve(_listening_at(settings, listen)), common.fastest_loop())


def _listening_at(settings: Settings, listen: str | None) -> Settings:
    """Return the settings with the address of the console. Raises UsageError if it is not possible."""
    address = listen or settings.admin.listen or DEFAULT_LISTEN
    try:
        admin = AdminSettings.model_validate({**dict(settings.admin), "listen": address})
    except ValueError:
        raise UsageError(
            f"--listen: {address} is not HOST:PORT; write for example {DEFAULT_LISTEN}"
        ) from None
    if admin.token is None and not is_loopback(address):
        raise UsageError(
            f"--listen: {address} can be reached from other hosts: set `admin.token`, or 127.0.0.1"
        )
    return settings.model_copy(update={"admin": admin})


async def _serve(settings: Settings) -> None:
    # A web server takes long to import, so only this command does it.
    from relay.admin.host import Host
    from relay.admin.server import Admin
    from relay.engine.configured_intake import ConfiguredIntake
    from relay.store.deployment import Deployment

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with common.redis(settings) as client:

        async def connected() -> Client:
            return client

        open_intake = partial(ConfiguredIntake, settings=settings)
        admin = Admin(settings, connected, lambda: Host(Deployment(), ()), open_intake)
        if not admin.open():
            raise UsageError(
                f"cannot listen on {settings.admin.listen}: `relay run` on this host may serve the console "
                "there already; --listen takes another address"
            )
        await admin.prepare()
        # The settings and templates stay, and the garbage of a reading has no cycles: collect rarely.
        gc.freeze()
        gc.set_threshold(10_000)
        common.note(f"console at {admin.url}; Ctrl-C ends it")
        serving = asyncio.create_task(admin.run())
        await stop.wait()
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving

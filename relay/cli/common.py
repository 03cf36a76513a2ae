"""Shared by all commands: the configuration file, the event loop, the consoles.

Every command imports this module, so slow modules are imported in the functions that need them.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Concatenate, ParamSpec, TypeAlias, TypeVar

import typer

from relay.cli import terminal
from relay.cli.terminal import as_json, note, redis_at, run
from relay.errors import UsageError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from rich.console import Console

    from relay.provider import Provider
    from relay.redis_client.client import Client
    from relay.settings.models import Settings
    from relay.settings.options import ProviderOptions
    from relay.settings.outline import Outline

    data: Console
    """Standard output: data."""

    notes: Console
    """Standard error: text for people."""

__all__ = ["as_json", "note", "redis_at", "run"]

ENVIRONMENT = "RELAY_CONFIG"

DEFAULT_FILE = Path("relay.yaml")

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="Configuration file. Default: `$RELAY_CONFIG`, otherwise `./relay.yaml`."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

Loader: TypeAlias = "Callable[[], Settings]"

ResultT = TypeVar("ResultT")
ArgumentsP = ParamSpec("ArgumentsP")


def __getattr__(name: str) -> object:
    """Return a console of `terminal`, created at its first use."""
    return getattr(terminal, name)


def remember_config(context: typer.Context, config: ConfigOption = None) -> None:
    """Accept `-c` before a subcommand."""
    if config is not None:
        context.obj = config


def config_path(context: typer.Context, config: Path | None) -> Path:
    """Return the path of the configuration file. Raises UsageError if there is none."""
    named = named_path(context, config)
    if named is None and not DEFAULT_FILE.exists():
        raise UsageError(
            f"no configuration: pass -c FILE, set {ENVIRONMENT}, or write ./{DEFAULT_FILE} "
            "(`relay init` writes one). `relay demo` shows relay at work without any."
        )
    return named or DEFAULT_FILE


def named_path(context: typer.Context, config: Path | None) -> Path | None:
    """Return the path that `-c` or the environment names."""
    if config is None:
        config = context.find_object(Path)
    if config is None and os.environ.get(ENVIRONMENT):
        config = Path(os.environ[ENVIRONMENT])
    return config


def load_settings(context: typer.Context, config: Path | None) -> Settings:
    """Load the configuration file. Raises ConfigError with all of its mistakes."""
    from relay.provider import AdapterOptions, discover
    from relay.settings.load import load

    return load(config_path(context, config), AdapterOptions(discover()))


def load_outline(context: typer.Context, config: Path | None) -> Outline:
    """Load the outline of the configuration file. Raises ConfigError with all of its mistakes."""
    from relay.provider import AdapterOptions, discover
    from relay.settings.load import load_with_snapshot
    from relay.settings.outline import Outline

    return Outline.of(*load_with_snapshot(config_path(context, config), AdapterOptions(discover())))


def providers(settings: Settings) -> dict[str, Provider[ProviderOptions]]:
    """Return the configured providers by name, not started."""
    from relay.provider.configured import configured

    return configured(settings)


@asynccontextmanager
async def redis(settings: Settings, read_url: Callable[[], str] | None = None) -> AsyncIterator[Client]:
    """Yield a client for the Redis of the settings. Raises StoreError if it cannot be reached.

    `read_url` returns the URL whose password new connections use. Default: that of the settings.
    """
    url = settings.redis.url.get_secret_value()
    async with redis_at(url, read_url or settings.redis.read_url, settings.path) as client:
        yield client


def act(
    settings: Settings,
    action: Callable[Concatenate[Client, Settings, ArgumentsP], Awaitable[ResultT]],
    *arguments: ArgumentsP.args,
    **options: ArgumentsP.kwargs,
) -> ResultT:
    """Run one action of `relay.operations` on the Redis of the settings. Raises StoreError."""

    async def connected() -> ResultT:
        async with redis(settings) as client:
            return await action(client, settings, *arguments, **options)

    return run(connected())


def fastest_loop() -> Callable[[], AbstractEventLoop]:
    """Return the factory of the fastest installed event loop, for commands that move many messages."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        from asyncio import new_event_loop as standard

        return standard
    return new_event_loop

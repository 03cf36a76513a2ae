"""What all commands share: the configuration file, the event loop, the consoles."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

from relay.errors import StoreError, UsageError
from relay.provider import Provider, discover
from relay.redis_provider import keep_out
from relay.settings.load import load
from relay.settings.models import Settings
from relay.settings.provider import ProviderOptions
from relay.store.connect import connect
from relay.store.scripting import Client

ENVIRONMENT = "RELAY_CONFIG"

WIDTH = 160
"""Columns of a table that goes into a file or a pipe: nothing in it is cut off."""

DEFAULT_FILE = Path("relay.yaml")

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="The configuration file. Default: $RELAY_CONFIG, else ./relay.yaml."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]

Loader = Callable[[], Settings]

ResultT = TypeVar("ResultT")

data = Console(soft_wrap=True, width=None if sys.stdout.isatty() else WIDTH)
"""Standard output: data."""

notes = Console(stderr=True, soft_wrap=True)
"""Standard error: words for people."""


def as_json(document: object, indent: int | None = 2) -> str:
    """JSON that people can read, in which nothing is left that a terminal would obey."""
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    return "".join(
        character if character.isprintable() or character == "\n" else json.dumps(character)[1:-1]
        for character in text
    )


def remember_config(context: typer.Context, config: ConfigOption = None) -> None:
    """Take `-c` where it stands before a subcommand."""
    if config is not None:
        context.obj = config


def config_path(context: typer.Context, config: Path | None) -> Path:
    """The file to read. Raises UsageError where there is none."""
    if config is None:
        config = context.find_object(Path)
    if config is None and os.environ.get(ENVIRONMENT):
        config = Path(os.environ[ENVIRONMENT])
    if config is None:
        if not DEFAULT_FILE.exists():
            raise UsageError(
                f"no configuration: pass -c FILE, set {ENVIRONMENT}, or write ./{DEFAULT_FILE} "
                "(start from config.example.yaml). `relay demo` shows relay at work without any."
            )
        config = DEFAULT_FILE
    return config


def load_settings(context: typer.Context, config: Path | None) -> Settings:
    """The settings of the file that applies. Raises ConfigError with all that is wrong."""
    adapters = {name: adapter.Options for name, adapter in discover().items()}
    return load(config_path(context, config), adapters)


def providers(settings: Settings) -> dict[str, Provider[ProviderOptions]]:
    """The providers of the file by name, not started."""
    adapters = discover()
    found = {name: adapters[options.type](name, options) for name, options in settings.providers.items()}
    keep_out(found.values(), settings.own_names)
    return found


@asynccontextmanager
async def redis(settings: Settings) -> AsyncIterator[Client]:
    """A client for the Redis of the settings. Raises StoreError where it cannot be reached."""
    async with AsyncExitStack() as stack:
        try:
            client = await stack.enter_async_context(
                connect(settings.redis.url.get_secret_value(), settings.redis.read_url)
            )
        except StoreError as error:
            hint = f"is it running, and is `redis.url` in {settings.path} right?"
            raise StoreError(f"{str(error).rstrip('.')}; {hint}") from error
        yield client


def run(main: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Run a coroutine on the fastest event loop that is installed. Ctrl-C cancels it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        from uvloop import new_event_loop
    except ImportError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main)


def require_provider(settings: Settings, name: str) -> None:
    """Raise UsageError unless the file names this provider."""
    if name not in settings.providers:
        raise UsageError(
            f"no provider {name!r} in {settings.path}; there are {', '.join(settings.providers)}"
        )

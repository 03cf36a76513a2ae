"""Shared by all commands: the configuration file, the event loop, the consoles.

Every command imports this module, so slow modules are imported in the functions that need them.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

import typer

from relay.errors import StoreError, UsageError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from rich.console import Console

    from relay.provider import Provider
    from relay.redis_client.client import Client
    from relay.settings.models import Settings
    from relay.settings.options import ProviderOptions

    data: Console
    """Standard output: data."""

    notes: Console
    """Standard error: text for people."""

ENVIRONMENT = "RELAY_CONFIG"

WIDTH = 160
"""Columns of a table in a file or a pipe, wide enough that nothing is cut off."""

DEFAULT_FILE = Path("relay.yaml")

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="The configuration file. Default: $RELAY_CONFIG, otherwise ./relay.yaml."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]

Loader: TypeAlias = "Callable[[], Settings]"

ResultT = TypeVar("ResultT")


def __getattr__(name: str) -> object:
    """Create a console at its first use. Raises AttributeError for any other name."""
    if name not in ("data", "notes"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rich.console import Console

    if name == "notes":
        console = Console(stderr=True, soft_wrap=True)
    else:
        console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else WIDTH)
    globals()[name] = console
    return console


def say(text: str) -> None:
    """Write a line for people to standard error without importing rich, which `notes` needs."""
    from relay.text import printable

    typer.echo(printable(text), err=True)


def as_json(document: object, indent: int | None = 2) -> str:
    """Readable JSON without control characters, so that it cannot control a terminal."""
    import json

    text = json.dumps(document, indent=indent, ensure_ascii=False)
    return "".join(
        character if character.isprintable() or character == "\n" else json.dumps(character)[1:-1]
        for character in text
    )


def remember_config(context: typer.Context, config: ConfigOption = None) -> None:
    """Accept `-c` before a subcommand."""
    if config is not None:
        context.obj = config


def config_path(context: typer.Context, config: Path | None) -> Path:
    """The path of the configuration file. Raises UsageError if there is none."""
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
    """Load the configuration file. Raises ConfigError with all of its mistakes."""
    from relay.provider import AdapterOptions, discover
    from relay.settings.load import load

    return load(config_path(context, config), AdapterOptions(discover()))


def providers(settings: Settings) -> dict[str, Provider[ProviderOptions]]:
    """The configured providers by name, not started."""
    from relay.provider import discover
    from relay.provider.redis import keep_out

    adapters = discover()
    found = {name: adapters[options.type](name, options) for name, options in settings.providers.items()}
    keep_out(found.values(), settings.own_names)
    return found


@asynccontextmanager
async def redis(settings: Settings, read_url: Callable[[], str] | None = None) -> AsyncIterator[Client]:
    """A client for the Redis of the settings. Raises StoreError if it cannot be reached.

    `read_url` returns the URL whose password new connections use. Default: that of the settings.
    """
    from relay.redis_client.connect import connect

    read_url = read_url or settings.redis.read_url
    async with AsyncExitStack() as stack:
        try:
            client = await stack.enter_async_context(connect(settings.redis.url.get_secret_value(), read_url))
        except StoreError as error:
            hint = f"is it running, and is `redis.url` in {settings.path} right?"
            raise StoreError(f"{str(error).rstrip('.')}; {hint}") from error
        yield client


def run(
    main: Coroutine[Any, Any, ResultT], loop_factory: Callable[[], AbstractEventLoop] | None = None
) -> ResultT:
    """Run a coroutine on asyncio's own event loop, or on one from `loop_factory`. Ctrl-C cancels it.

    asyncio's own loop is enough for a command that waits for Redis most of the time, and uses 2 MiB less than
    the fastest one.
    """
    import asyncio

    # Imported modules stay forever. Collect garbage from here on only.
    gc.freeze()
    gc.enable()
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(main)


def fastest_loop() -> Callable[[], AbstractEventLoop]:
    """The factory of the fastest event loop that is installed, for commands that move many messages."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        from asyncio import new_event_loop as standard

        return standard
    return new_event_loop


def require_provider(settings: Settings, name: str) -> None:
    """Raise UsageError unless the file names this provider."""
    if name not in settings.providers:
        raise UsageError(
            f"no provider {name!r} in {settings.path}; there are {', '.join(settings.providers)}"
        )

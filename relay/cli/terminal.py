"""Shared by all commands, including those without typer: consoles, JSON, Redis, the event loop."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from relay.errors import StoreError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from rich.console import Console

    from relay.redis_client.client import Client

    data: Console
    """Standard output: data."""

    notes: Console
    """Standard error: text for people."""

WIDTH = 160
"""Columns of a table in a file or a pipe, wide enough that nothing is cut off."""

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


def note(text: str) -> None:
    """Write a line for people to standard error without importing rich, which `notes` needs."""
    from relay.text import hide_signing_secrets, printable

    print(printable(hide_signing_secrets(text)), file=sys.stderr, flush=True)


def as_json(document: object, indent: int | None = 2) -> str:
    """Readable JSON without signing secrets and control characters, so that it cannot control a terminal."""
    import json

    from relay.text import hide_signing_secrets, printable_json

    text = json.dumps(document, indent=indent, ensure_ascii=False)
    return printable_json(hide_signing_secrets(text), keep="\n")


@asynccontextmanager
async def redis_at(url: str, read_url: Callable[[], str], file: object) -> AsyncIterator[Client]:
    """Yield a client for the URL in a configuration file. Raises StoreError if Redis cannot be reached.

    `read_url` returns the URL whose password new connections use.
    """
    from relay.redis_client.connect import connect

    async with AsyncExitStack() as stack:
        try:
            client = await stack.enter_async_context(connect(url, read_url))
        except StoreError as error:
            hint = f"is it running, and is `redis.url` in {file} right?"
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

    # Imported modules stay in memory. Collect garbage only from here on.
    gc.freeze()
    gc.enable()
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(main)

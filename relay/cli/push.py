"""`relay push`: pushes messages from the shell, as an application would."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from relay.cli import common
from relay.engine.element_check import refusal
from relay.engine.router import Router
from relay.errors import UsageError
from relay.operations.push import queue_named
from relay.settings.models import Settings
from relay.store.queue import push_all

_TOGETHER = 500


def push(
    context: typer.Context,
    queue: Annotated[str, typer.Argument(metavar="QUEUE", help="Redis list to push to.")],
    message: Annotated[
        str | None,
        typer.Argument(
            metavar="JSON", help="The message. Default: one per line of standard input, as with `-`."
        ),
    ] = None,
    config: common.ConfigOption = None,
    force: Annotated[bool, typer.Option("--force", help="Push without validating.")] = False,
) -> None:
    """Push one message, or one per line of standard input.

    Messages are validated as in a worker, with the checks of the provider's adapter. The first invalid
    message ends the command with exit code 2.

    Example: `relay push notifications '{"payload": {"channel": "site-1", "event": "hit", "data": {}}}'`
    """
    settings = common.load_settings(context, config)
    if message is None and sys.stdin.isatty():
        raise UsageError("nothing to push: give the JSON as an argument, or lines on standard input")
    lines = _lines() if message in (None, "-") else [message.encode("utf-8", "surrogateescape")]
    common.run(_push(settings, queue, lines, force=force), common.fastest_loop())


def _lines() -> Iterator[bytes]:
    for line in sys.stdin.buffer:
        if stripped := line.strip():
            yield stripped


def _checked(settings: Settings, queue: str, lines: Iterable[bytes]) -> Iterator[bytes]:
    try:
        found = queue_named(settings, queue)
    except UsageError as error:
        raise UsageError(f"{error} (--force pushes anyway)") from None
    providers = common.providers(settings)
    router = Router(found, settings, providers)
    for number, line in enumerate(lines, 1):
        if reason := refusal(router, providers, line):
            raise UsageError(f"message {number}: {reason} (--force pushes anyway)")
        yield line


async def _push(settings: Settings, queue: str, lines: Iterable[bytes], *, force: bool) -> None:
    elements = lines if force else _checked(settings, queue, lines)
    pushed, size = 0, _size_of_input()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=common.notes, transient=True, disable=not common.notes.is_terminal)
    async with common.redis(settings) as client:
        with progress:
            task = progress.add_task(f"pushing to {queue}", total=size)
            elements = iter(elements)
            try:
                while batch := list(islice(elements, _TOGETHER)):
                    await push_all(client, queue, batch)
                    pushed += len(batch)
                    progress.update(task, advance=sum(len(line) + 1 for line in batch))
            except UsageError as error:
                if pushed:
                    raise UsageError(f"{error}; {pushed} earlier messages were pushed") from None
                raise
    common.notes.print(f"pushed {pushed} message{'s' if pushed != 1 else ''} to {queue}", highlight=False)


def _size_of_input() -> int | None:
    """Return the size of standard input if it is a file, for the progress bar."""
    try:
        path = Path(f"/proc/self/fd/{sys.stdin.fileno()}")
        return path.stat().st_size or None if path.is_file() else None
    except (OSError, ValueError):
        return None

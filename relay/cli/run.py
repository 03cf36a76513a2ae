"""`relay run`: the worker, or as many of them as `processes` says."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import structlog
import typer

from relay import logs, tasks
from relay.cli import common
from relay.errors import ConfigError, UsageError
from relay.provider import discover
from relay.settings.models import Settings
from relay.settings.redaction import secrets_in
from relay.store.connect import embedded
from relay.supervisor import SUPERVISED, Supervisor, ends_without_supervisor

logger = structlog.get_logger()

EXIT_TIMEOUT = 5.0
"""Seconds after the work is over within which the process ends, whatever threads of libraries still do."""

HANGUP = frozenset({signal.SIGHUP})


def run(
    context: typer.Context,
    config: common.ConfigOption = None,
    processes: Annotated[
        int | None,
        typer.Option("--processes", "-p", min=1, help="Worker processes. Default: `processes` of the file."),
    ] = None,
    until_empty: Annotated[
        bool, typer.Option("--until-empty", help="Exit once every queue and every lane is empty.")
    ] = False,
) -> None:
    """Drain the queues into the providers.

    SIGTERM or Ctrl-C: claim no more, finish what is in flight within `shutdown_timeout`, hand back the
    rest, exit 0. A second one ends it at once, still losing nothing. SIGHUP reads the file again; a bad
    file keeps the old configuration.

    Example: `relay run -c relay.yaml`
    """
    # Without a handler it would end the process: it waits until there is one.
    signal.pthread_sigmask(signal.SIG_BLOCK, HANGUP)
    settings = common.load_settings(context, config)
    logs.configure(
        settings.log.level, settings.log.format, secrets_in(settings), writer=logs.background_writer()
    )
    wanted = processes or settings.processes
    number = (
        (len(os.sched_getaffinity(0)) if wanted == "auto" else wanted) if SUPERVISED not in os.environ else 1
    )
    if number == 1:
        common.run(_work(settings, lambda: common.load_settings(context, config), until_empty=until_empty))
    else:
        path = common.config_path(context, config)
        raise typer.Exit(common.run(_supervise(settings, path, number, until_empty=until_empty)))


async def _work(settings: Settings, reload: common.Loader, *, until_empty: bool) -> None:
    """Serve until told to stop; each SIGHUP starts over with what the file says then."""
    # The engine is heavy: the other commands, and a supervisor, do without it.
    from relay import stall
    from relay.worker import Worker

    # What is imported stays: the collector need not look at it again and again.
    gc.freeze()
    # What a message leaves behind goes by its count of references.
    gc.set_threshold(10_000)
    stop, changed, over = asyncio.Event(), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_stop(number: signal.Signals) -> None:
        if stop.is_set():
            # What this process holds is on its own lists in Redis, and is recovered from there.
            logs.flush()
            os._exit(128 + number)
        stop.set()
        over.set()

    def on_hangup() -> None:
        changed.set()
        over.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_stop, number)
    loop.add_signal_handler(signal.SIGHUP, on_hangup)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANGUP)
    async with AsyncExitStack() as stack:
        client = await tasks.unless(stop, stack.enter_async_context(common.redis(settings)))
        if client is None:
            return
        orphaned = asyncio.create_task(ends_without_supervisor(over))
        stack.callback(orphaned.cancel)
        watch = stall.StallWatch(stall.TUNING)
        watch.start()
        before: Settings | None = None
        code = 1
        try:
            while True:
                try:
                    worker = Worker(settings, discover(), client, on_turn=watch.turned)
                    await worker.run(over, until_empty=until_empty)
                except UsageError as error:
                    if before is None:
                        raise
                    logger.error("the new file cannot be served: the old one stays", error=str(error))
                    settings, before = before, None
                    continue
                if stop.is_set() or not changed.is_set():
                    break
                over.clear()
                changed.clear()
                settings, before = _reloaded(settings, reload), settings
            code = 0
        finally:
            watch.expect_exit(EXIT_TIMEOUT, code)


def _reloaded(old: Settings, reload: common.Loader) -> Settings:
    try:
        new = reload()
    except ConfigError as error:
        logger.error("the file is wrong: the old configuration stays", problems=error.problems)
        return old
    if new.redis != old.redis or new.processes != old.processes:
        logger.warning("a change of `redis` or `processes` needs a restart")
    # What the old file held may still be told.
    logs.hide([*secrets_in(old), *secrets_in(new)])
    logger.info("the file was read again")
    return new


async def _supervise(settings: Settings, path: Path, processes: int, *, until_empty: bool) -> int:
    command = [sys.executable, "-m", "relay", "run", "-c", str(path)]
    supervisor = Supervisor(
        [*command, *(["--until-empty"] if until_empty else [])], processes, settings.shutdown_timeout
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, supervisor.forward, number)
    # Before any child is there that would inherit the mask.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANGUP)
    async with embedded(settings.redis.url.get_secret_value()):
        # What no worker could reach is said once, not by each of them again and again.
        async with common.redis(settings):
            pass
        logger.info("supervising", processes=processes)
        return await supervisor.run()

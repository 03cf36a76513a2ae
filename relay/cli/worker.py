"""`relay worker`: drains single workers, lets them work again, and dismisses those that are gone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer

from relay.cli import common
from relay.cli.lanes import BecauseOption
from relay.operations import workers
from relay.operations.who import operator
from relay.store.fleet import Member
from relay.text import printable

app = typer.Typer(
    help="Drain a worker, let it work again, or dismiss one that is gone.",
    epilog="Example: `relay worker drain web-1-4711`",
    rich_markup_mode="markdown",
    no_args_is_help=True,
    callback=common.remember_config,
)

WorkerArgument = Annotated[
    str,
    typer.Argument(
        metavar="WORKER",
        help="Name of the worker, or its beginning, such as HOST-PID. `relay status --json` lists them.",
    ),
]


@app.command("drain")
def drain(
    context: typer.Context,
    worker: WorkerArgument,
    because: BecauseOption = "",
    config: common.ConfigOption = None,
) -> None:
    """Let a worker finish its messages and take no others.

    It stays in the fleet and does nothing until `relay worker resume`, or until its process ends.

    Example: `relay worker drain web-1-4711 --because "new kernel"`
    """
    name = _run(context, config, workers.drain_worker, worker, because)
    common.note(f"{name} takes no more messages from its next heartbeat on")


@app.command("resume")
def resume(
    context: typer.Context,
    worker: WorkerArgument,
    because: BecauseOption = "",
    config: common.ConfigOption = None,
) -> None:
    """Let a drained worker take messages again.

    Example: `relay worker resume web-1-4711`
    """
    common.note(f"{_run(context, config, workers.resume_worker, worker, because)} works again")


@app.command("dismiss")
def dismiss(
    context: typer.Context,
    worker: WorkerArgument,
    because: BecauseOption = "",
    config: common.ConfigOption = None,
) -> None:
    """Hide a worker that is silent or has died, and that holds no messages.

    Example: `relay worker dismiss web-1-4711`
    """
    common.note(f"{_run(context, config, workers.dismiss_worker, worker, because)} is dismissed")


def _run(
    context: typer.Context,
    config: Path | None,
    action: Callable[..., Awaitable[Member]],
    worker: str,
    because: str,
) -> str:
    """Run an action on a worker. Returns the name of the worker."""
    settings = common.load_settings(context, config)
    member = common.act(settings, action, worker, because=because, who=operator())
    return printable(member.info.worker)

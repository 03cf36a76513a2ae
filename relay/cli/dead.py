"""`relay dead`: list, show, retry and purge dead letters.

This module reads the command line and the configuration. `dead_work` does the work in a process that has
loaded neither: `relay.cli.lean` explains why.
"""

from __future__ import annotations

from typing import Annotated

import typer

from relay.cli import common
from relay.cli.lean import Job, hand_over

app = typer.Typer(
    help="List, retry and delete dead letters.",
    epilog="Example: `relay dead list pusher --reason 413`",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    callback=common.remember_config,
)

NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="PROVIDER", help="A provider, or a queue for its elements that belong to no provider."
    ),
]
IdOption = Annotated[
    str | None,
    typer.Option("--id", help="Only the dead letter with this id, its own or that of its message."),
]
ReasonOption = Annotated[
    str | None, typer.Option("--reason", help="Only dead letters whose reason contains this text.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only count the letters; change nothing.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do it without confirmation.")]
LimitOption = Annotated[
    int | None, typer.Option("--limit", min=1, help="Maximum number of dead letters, oldest first.")
]


@app.command("list")
def list_letters(
    context: typer.Context,
    name: NameArgument,
    message_id: IdOption = None,
    reason: ReasonOption = None,
    limit: LimitOption = 50,
    as_json: common.JsonOption = False,
    config: common.ConfigOption = None,
) -> None:
    """List dead letters, one per line.

    Example: `relay dead list pusher --limit 10`
    """
    outline = common.load_outline(context, config)
    hand_over(Job("list", outline, name, message_id, reason, limit, as_json))


@app.command()
def show(
    context: typer.Context,
    name: NameArgument,
    message_id: IdOption = None,
    reason: ReasonOption = None,
    limit: LimitOption = 1,
    as_json: common.JsonOption = False,
    config: common.ConfigOption = None,
) -> None:
    """Show a dead letter: the message, the attempts, the provider's answer.

    Example: `relay dead show pusher --id order-17`
    """
    outline = common.load_outline(context, config)
    hand_over(Job("show", outline, name, message_id, reason, limit, as_json))


@app.command()
def retry(
    context: typer.Context,
    name: NameArgument,
    message_id: IdOption = None,
    reason: ReasonOption = None,
    limit: LimitOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    as_json: common.JsonOption = False,
    config: common.ConfigOption = None,
) -> None:
    """Send dead letters again, with a new set of attempts and at the configured rate.

    A malformed element is parsed again, and succeeds if the configuration now allows it.

    Ctrl-C stops after the current page. `--limit` counts dead letters that are sent again.

    Example: `relay dead retry pusher --reason "gave up"`
    """
    outline = common.load_outline(context, config)
    hand_over(Job("retry", outline, name, message_id, reason, limit, as_json, dry_run, yes))


@app.command()
def purge(
    context: typer.Context,
    name: NameArgument,
    message_id: IdOption = None,
    reason: ReasonOption = None,
    limit: LimitOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    as_json: common.JsonOption = False,
    config: common.ConfigOption = None,
) -> None:
    """Delete dead letters permanently. Asks for confirmation on a terminal.

    Example: `relay dead purge pusher --reason 413 --yes`
    """
    outline = common.load_outline(context, config)
    hand_over(Job("purge", outline, name, message_id, reason, limit, as_json, dry_run, yes))

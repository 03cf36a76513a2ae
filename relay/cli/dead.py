"""`relay dead`: list, show, retry, edit, export and purge dead letters.

This module reads the command line and the configuration. `dead_work` does the work in a process that has
loaded neither: `relay.cli.lean` explains why.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from relay.cli import common
from relay.cli.dead_options import takes_filter
from relay.cli.lean import Job, hand_over
from relay.errors import UsageError
from relay.operations.dead_filter import parse_filter
from relay.operations.dead_selection import DeadSelection, parse_cursor
from relay.store.dead_filter import DeadFilter

app = typer.Typer(
    help="List, retry, edit, export and delete dead letters.",
    epilog="Example: `relay dead list --by-reason`, then `relay dead retry pusher --status 413`",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    callback=common.remember_config,
)

NameArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[PROVIDER]",
        help="A provider, or a queue for its elements that belong to no provider. Default: all of them.",
        show_default=False,
    ),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only count the letters; change nothing.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do it without confirmation.")]
LimitOption = Annotated[
    int | None, typer.Option("--limit", min=1, help="Maximum number of dead letters, oldest first.")
]
BecauseOption = Annotated[str, typer.Option("--because", metavar="TEXT", help="Reason for the audit log.")]

LISTED = 50
"""The letters of a list without `--limit`."""


@app.command("list")
@takes_filter
def list_letters(
    context: typer.Context,
    *,
    name: NameArgument = None,
    by_reason: Annotated[
        bool, typer.Option("--by-reason", help="Count them by reason and status instead.")
    ] = False,
    where: DeadFilter,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", min=1, help=f"Maximum number of dead letters, oldest first. Default: {LISTED}."
        ),
    ] = None,
    newest: Annotated[bool, typer.Option("--newest", help="The newest first.")] = False,
    after: Annotated[
        str | None,
        typer.Option(
            "--after", metavar="CURSOR", help="Only those after this one: its `cursor` in `--json`."
        ),
    ] = None,
    as_json: common.JsonOption = False,
    config: common.ConfigOption = None,
) -> None:
    """List dead letters, one per line, or count them by reason.

    Example: `relay dead list --by-reason --since 24h`
    """
    selection = DeadSelection(name, where, limit if by_reason or limit else LISTED)
    if by_reason and (newest or after):
        raise UsageError("--by-reason has no order: leave --newest and --after out")
    if after:
        selection = replace(selection, after=parse_cursor(after))
    outline = common.load_outline(context, config)
    if by_reason:
        hand_over(Job(action="by-reason", outline=outline, selection=selection, as_json=as_json))
    hand_over(Job(action="list", outline=outline, selection=selection, as_json=as_json, newest=newest))


@app.command()
@takes_filter
def show(
    context: typer.Context,
    *,
    name: NameArgument = None,
    where: DeadFilter,
    limit: LimitOption = 1,
    as_json: common.JsonOption = False,
    config: common.ConfigOption = None,
) -> None:
    """Show a dead letter: the message, the attempts, the provider's answer.

    Example: `relay dead show pusher --id order-17`
    """
    selection = DeadSelection(name, where, limit)
    outline = common.load_outline(context, config)
    hand_over(Job(action="show", outline=outline, selection=selection, as_json=as_json))


@app.command()
@takes_filter
def retry(
    context: typer.Context,
    *,
    name: NameArgument = None,
    where: DeadFilter,
    limit: LimitOption = None,
    low: Annotated[
        bool, typer.Option("--low", help="Send them behind fresh traffic, with low priority.")
    ] = False,
    rate: Annotated[
        str | None,
        typer.Option(
            "--rate",
            metavar="RATE",
            help="Limit for these letters, such as `50/s`, in addition to the provider's.",
        ),
    ] = None,
    because: BecauseOption = "",
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    as_json: common.JsonOption = False,
    config: common.ConfigOption = None,
) -> None:
    """Send dead letters again, with a new set of attempts and at the configured rate.

    A malformed element is parsed again, and succeeds if the configuration now allows it.

    Ctrl-C stops after the current page. `--limit` counts dead letters that are sent again.

    Example: `relay dead retry pusher --status 5xx --low --rate 50/s`
    """
    selection = DeadSelection(name, where, limit)
    per_second = _rate(rate)
    outline = common.load_outline(context, config)
    job = Job(
        action="retry",
        outline=outline,
        selection=selection,
        as_json=as_json,
        dry_run=dry_run,
        yes=yes,
        because=because,
        low=low,
        rate=per_second,
    )
    hand_over(job)


@app.command()
@takes_filter
def purge(
    context: typer.Context,
    *,
    name: NameArgument = None,
    where: DeadFilter,
    limit: LimitOption = None,
    because: BecauseOption = "",
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    as_json: common.JsonOption = False,
    config: common.ConfigOption = None,
) -> None:
    """Delete dead letters permanently. Asks for confirmation on a terminal.

    Example: `relay dead purge pusher --reason 413 --until 7d --yes`
    """
    selection = DeadSelection(name, where, limit)
    outline = common.load_outline(context, config)
    job = Job(
        action="purge",
        outline=outline,
        selection=selection,
        as_json=as_json,
        dry_run=dry_run,
        yes=yes,
        because=because,
    )
    hand_over(job)


@app.command()
def edit(
    context: typer.Context,
    message_id: Annotated[str, typer.Option("--id", help="Id of the dead letter, or of its message.")],
    name: NameArgument = None,
    because: BecauseOption = "",
    as_json: common.JsonOption = False,
    config: common.ConfigOption = None,
) -> None:
    """Change the payload of a dead letter in $VISUAL or $EDITOR, and send it again.

    The text is validated as by `relay push`. The letter stays if the text is unchanged or not valid, or if
    its id is pending. Of a malformed element, you edit the whole element.

    Example: `relay dead edit pusher --id order-17`
    """
    selection = DeadSelection(name, parse_filter({"id": message_id}), None)
    outline = common.load_outline(context, config)
    hand_over(Job(action="edit", outline=outline, selection=selection, as_json=as_json, because=because))


@app.command()
@takes_filter
def export(
    context: typer.Context,
    *,
    name: NameArgument = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write to this file. Default: standard output."),
    ] = None,
    messages: Annotated[
        bool, typer.Option("--messages", help="Write only the messages, one per line, for `relay push`.")
    ] = False,
    where: DeadFilter,
    limit: LimitOption = None,
    config: common.ConfigOption = None,
) -> None:
    """Write dead letters as JSON, one per line, complete and with the secrets of their payloads.

    Example: `relay dead export pusher --since 24h --output letters.ndjson`
    """
    selection = DeadSelection(name, where, limit)
    outline = common.load_outline(context, config)
    hand_over(
        Job(action="export", outline=outline, selection=selection, output=output or "", messages=messages)
    )


def _rate(text: str | None) -> float:
    """Return letters per second; 0 without a rate. Raises UsageError."""
    if text is None:
        return 0.0
    from relay.settings.values import parse_rate

    try:
        return float(parse_rate(text).per_second)
    except ValueError as error:
        raise UsageError(f"--rate: {error}") from error

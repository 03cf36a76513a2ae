"""`relay dead`: list, show, retry and purge what could not be delivered.

A replay has to fit into little memory, so a module that few calls need is imported inside the function that
needs it: tables and progress bars (3 MiB), the router and the adapters (6 MiB).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from textwrap import indent
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli import common
from relay.engine.replay import DeadLetters, Result, Selection
from relay.errors import UsageError
from relay.message import PRIORITIES
from relay.settings.models import Settings
from relay.settings.redaction import text_without_credentials, without_credentials
from relay.store import dead
from relay.store.dead import DeadLetter
from relay.text import printable

if TYPE_CHECKING:
    from rich.table import Table

ROWS = 200
"""Rows of one table."""

app = typer.Typer(
    help="List, retry and delete dead letters.",
    epilog="Example: `relay dead list pusher --reason 413`",
    no_args_is_help=True,
    callback=common.remember_config,
)

NameArgument = Annotated[
    str,
    typer.Argument(metavar="PROVIDER", help="A provider, or a queue for its elements without a provider."),
]
IdOption = Annotated[str | None, typer.Option("--id", help="Only the message or entry with this id.")]
ReasonOption = Annotated[
    str | None, typer.Option("--reason", help="Only letters whose reason contains this text.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only count them, change nothing.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="At most this many, oldest first.")]


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
    settings = common.load_settings(context, config)
    selection = Selection(name, message_id, reason, limit)
    number = common.run(_print(settings, selection, _JsonList() if as_json else _Tables()))
    if not as_json and number == 0:
        common.notes.print(f"no dead letters for {name}", highlight=False)
    elif not as_json and number == limit:
        common.notes.print(f"(the oldest {limit}; --limit shows more)", highlight=False)


class _JsonList:
    """Prints letters as one JSON array, each as it comes: there may be more of them than fit into memory."""

    def __init__(self) -> None:
        self._before = "[\n"

    def add(self, letter: DeadLetter, provider: str | None) -> None:
        typer.echo(self._before + indent(common.as_json(as_data(letter, provider)), "  "), nl=False)
        self._before = ",\n"

    def end(self) -> None:
        typer.echo("[]" if self._before == "[\n" else "\n]")


class _Tables:
    """Prints letters as a table, and a long list as several."""

    def __init__(self) -> None:
        self._table = self._new()

    def _new(self) -> Table:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for column in ("when", "id", "attempts", "status"):
            table.add_column(column, no_wrap=True)
        table.add_column("reason", overflow="fold")
        return table

    def add(self, letter: DeadLetter, provider: str | None) -> None:
        from rich.text import Text

        identity = letter.message.id if letter.message else letter.entry
        status = str(letter.status or "")
        # As `Text`: brackets in them are no markup.
        texts = (Text(printable(text)) for text in (identity, str(letter.attempts), status, letter.reason))
        self._table.add_row(_when(letter), *texts)
        if self._table.row_count == ROWS:
            self.end()

    def end(self) -> None:
        if self._table.row_count:
            common.data.print(self._table)
            self._table = self._new()


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
    settings = common.load_settings(context, config)
    letters = common.run(_read_whole(settings, Selection(name, message_id, reason, limit)))
    if not letters:
        raise UsageError(f"no such dead letter for {name}; `relay dead list {name}` shows what there is")
    documents = [as_data(letter, _provider(settings, letter)) for letter in letters]
    if as_json:
        typer.echo(common.as_json(documents))
        return
    for document in documents:
        typer.echo(common.as_json(document))


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
    """Send dead letters again, with all of their attempts and at the configured rate.

    A malformed element is parsed again, and succeeds if the configuration now allows it.

    Ctrl-C stops after the current page. `--limit` counts the letters that go back.

    Example: `relay dead retry pusher --reason "gave up"`
    """
    settings = common.load_settings(context, config)
    _work(settings, Selection(name, message_id, reason, limit), RETRY, dry_run, yes, as_json)


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
    """Delete dead letters for good. Asks first on a terminal.

    Example: `relay dead purge pusher --reason 413 --yes`
    """
    settings = common.load_settings(context, config)
    _work(settings, Selection(name, message_id, reason, limit), PURGE, dry_run, yes, as_json)


@dataclass(frozen=True)
class Work:
    """The words for what a command does with letters."""

    verb: str
    done: str
    doing: str


RETRY = Work("Send", "retried", "retrying")
PURGE = Work("Delete", "purged", "purging")


def _work(
    settings: Settings, selection: Selection, work: Work, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Count the letters, ask for confirmation on a terminal, do the work, and report."""
    on_terminal = sys.stderr.isatty()
    asks = not yes and on_terminal
    number = None
    if dry_run or on_terminal:
        number = common.run(_count(settings, selection))
    if dry_run:
        _report(as_json, work, Result(matched=number or 0), dry=True)
        return
    if asks:
        typer.confirm(f"{work.verb} {number:,} dead letters of {selection.name}?", abort=True, err=True)
    result = common.run(_perform(settings, selection, work, number))
    _report(as_json, work, result)
    if result.interrupted:
        raise typer.Exit(1)


def _report(as_json: bool, work: Work, result: Result, *, dry: bool = False) -> None:
    if as_json:
        document = {"matched": result.matched, "done": result.done, "left": dict(result.left)}
        typer.echo(json.dumps({**document, work.done: result.done}))
        return
    if dry:
        common.say(f"{result.matched} dead letter{_s(result.matched)} would be {work.done}")
        return
    rest = "".join(f"; {number} left: {WHY[why]}" for why, number in result.left.items())
    common.say(f"{work.done} {result.done} dead letter{_s(result.done)}{rest}")
    if result.interrupted:
        common.say("stopped; letters that were not reached are still there")


WHY = {
    "still_malformed": "still malformed",
    "duplicate": "the same id is pending",
    "gone": "deleted meanwhile",
}


def _s(number: int) -> str:
    return "" if number == 1 else "s"


async def _print(settings: Settings, selection: Selection, output: _JsonList | _Tables) -> int:
    """Print the letters; returns how many there were."""
    number = 0
    async with common.redis(settings) as client:
        async for letter in DeadLetters(client, settings, selection).first():
            output.add(letter, _provider(settings, letter))
            number += 1
    output.end()
    return number


async def _read_whole(settings: Settings, selection: Selection) -> list[DeadLetter]:
    async with common.redis(settings) as client:
        shown = [letter async for letter in DeadLetters(client, settings, selection).first()]
        return [letter for one in shown if (letter := await dead.whole(client, one))]


async def _count(settings: Settings, selection: Selection) -> int:
    async with common.redis(settings) as client:
        return await DeadLetters(client, settings, selection).count()


async def _perform(settings: Settings, selection: Selection, work: Work, number: int | None) -> Result:
    async with common.redis(settings) as client:
        letters = DeadLetters(client, settings, selection)
        with _progress(work.doing, number) as progress:
            if work is PURGE:
                return await letters.purge(progress)
            return await letters.retry(partial(common.providers, settings), progress)


@contextmanager
def _progress(doing: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal, else nothing. Call it with the number of letters just dealt with."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import Progress

    with Progress(console=common.notes, transient=True) as bar:
        task = bar.add_task(doing, total=total)
        yield lambda count: bar.update(task, advance=count)


def as_data(letter: DeadLetter, provider: str | None = None) -> dict[str, Any]:
    """The JSON form of a dead letter."""
    document: dict[str, Any] = {
        "id": letter.message.id if letter.message else None,
        "provider": provider,
        "group": None,
        "entry": letter.entry,
        "at": letter.at,
        "reason": letter.reason,
        "queue": letter.queue,
        "attempts": letter.attempts,
        "status": letter.status or None,
        "body": letter.body.decode("utf-8", "replace"),
    }
    message = letter.message
    if message is None:
        document["raw"] = text_without_credentials(letter.raw.decode("utf-8", "backslashreplace"))
        if len(letter.raw) < letter.raw_size:
            document["raw_bytes"] = letter.raw_size
        return document
    document |= {
        "priority": PRIORITIES[message.priority],
        "payload": without_credentials(message.payload),
    }
    for field in (
        "created_at",
        "expires_at",
        "deliver_at",
        "collapse_key",
        "ordering_key",
        "reply_to",
        "traceparent",
    ):
        if value := getattr(message, field):
            document[field] = value
    return document


def _provider(settings: Settings, letter: DeadLetter) -> str | None:
    """The provider in whose lane the letter is; None for an element that belongs to none."""
    prefix = settings.redis.prefix
    return next(
        (name for name in settings.providers if dead.lane_stream(prefix, name) == letter.stream), None
    )


def _when(letter: DeadLetter) -> str:
    return datetime.fromtimestamp(letter.at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")

"""The work of `relay dead`: page through letters, print them, retry or delete them.

A replay must use little memory, so modules that few calls need are imported inside the functions that need
them: tables and progress bars (3 MiB), the router and the adapters (15 MiB with pydantic).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from textwrap import indent
from typing import TYPE_CHECKING, Any

from relay.cli import terminal
from relay.cli.lean import Job
from relay.engine.replay import DeadLetters, Intake, Result, Selection
from relay.errors import UsageError
from relay.message import PRIORITIES
from relay.redis_client.client import Client
from relay.settings.credentials import text_without_credentials, without_credentials
from relay.settings.outline import Outline
from relay.store import dead
from relay.store.dead import DeadLetter
from relay.text import hide_signing_secrets, printable

if TYPE_CHECKING:
    from rich.table import Table

ROWS = 200
"""Rows of one table."""


def perform(job: Job) -> None:
    """Execute the command."""
    selection = Selection(job.name, job.message_id, job.reason, job.limit)
    match job.action:
        case "list":
            _list(job.outline, selection, job.as_json)
        case "show":
            _show(job.outline, selection, job.as_json)
        case "retry":
            _work(job.outline, selection, RETRY, job.dry_run, job.yes, job.as_json)
        case "purge":
            _work(job.outline, selection, PURGE, job.dry_run, job.yes, job.as_json)


def _list(outline: Outline, selection: Selection, as_json: bool) -> None:
    """Print the selected letters, one per line."""
    number = terminal.run(_print(outline, selection, _JsonList() if as_json else _Tables()))
    if not as_json and number == 0:
        terminal.notes.print(f"no dead letters for {selection.name}", highlight=False)
    elif not as_json and number == selection.limit:
        terminal.notes.print(f"(the oldest {selection.limit}; --limit shows more)", highlight=False)


def _show(outline: Outline, selection: Selection, as_json: bool) -> None:
    """Print the selected letters with all details. Raises UsageError if there is none."""
    letters = terminal.run(_read_whole(outline, selection))
    if not letters:
        name = selection.name
        raise UsageError(f"no such dead letter for {name}; `relay dead list {name}` shows what there is")
    documents = [as_data(letter, _provider(outline, letter)) for letter in letters]
    if as_json:
        print(terminal.as_json(documents), flush=True)
        return
    for document in documents:
        print(terminal.as_json(document), flush=True)


class _JsonList:
    """Prints letters as one JSON array, one at a time, because they may not fit into memory."""

    def __init__(self) -> None:
        self._before = "[\n"

    def add(self, letter: DeadLetter, provider: str | None) -> None:
        print(self._before + indent(terminal.as_json(as_data(letter, provider)), "  "), end="", flush=True)
        self._before = ",\n"

    def end(self) -> None:
        print("[]" if self._before == "[\n" else "\n]", flush=True)


class _Tables:
    """Prints letters as a table, or as several if there are many."""

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
        # As `Text`, so that brackets are not taken for markup.
        cells = (identity, str(letter.attempts), status, letter.reason)
        texts = (Text(printable(hide_signing_secrets(text))) for text in cells)
        self._table.add_row(_when(letter), *texts)
        if self._table.row_count == ROWS:
            self.end()

    def end(self) -> None:
        if self._table.row_count:
            terminal.data.print(self._table)
            self._table = self._new()


@dataclass(frozen=True)
class Work:
    """The texts of a command that works on letters."""

    verb: str
    done: str
    doing: str


RETRY = Work("Send", "retried", "retrying")
PURGE = Work("Delete", "purged", "purging")


def _work(
    outline: Outline, selection: Selection, work: Work, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Count the letters, ask for confirmation on a terminal, do the work, and report."""
    on_terminal = sys.stderr.isatty()
    asks = not yes and on_terminal
    number = None
    if dry_run or on_terminal:
        number = terminal.run(_count(outline, selection))
    if dry_run:
        _report(as_json, work, Result(matched=number or 0), dry=True)
        return
    if asks:
        _confirm(f"{work.verb} {number:,} dead letters of {selection.name}?")
    result = terminal.run(_perform(outline, selection, work, number))
    _report(as_json, work, result)
    if result.interrupted:
        sys.exit(1)


def _confirm(question: str) -> None:
    """Ask on standard error. Exit with code 1 unless the answer is yes."""
    answer = None
    while answer not in ("", "y", "yes", "n", "no"):
        print(f"{question} [y/N]: ", end="", file=sys.stderr, flush=True)
        answer = sys.stdin.readline()
        if not answer:  # end of the input
            print(file=sys.stderr)
        answer = answer.strip().lower()
    if answer not in ("y", "yes"):
        print("Aborted.", file=sys.stderr)
        sys.exit(1)


def _report(as_json: bool, work: Work, result: Result, *, dry: bool = False) -> None:
    if as_json:
        document = {"matched": result.matched, "done": result.done, "left": dict(result.left)}
        print(json.dumps({**document, work.done: result.done}), flush=True)
        return
    if dry:
        terminal.note(f"{result.matched} dead letter{_s(result.matched)} would be {work.done}")
        return
    rest = "".join(f"; {number} left: {WHY[why]}" for why, number in result.left.items())
    terminal.note(f"{work.done} {result.done} dead letter{_s(result.done)}{rest}")
    if result.interrupted:
        terminal.note("stopped; the remaining letters are unchanged")


WHY = {
    "still_malformed": "still malformed",
    "duplicate": "the same id is pending",
    "gone": "deleted meanwhile",
}


def _s(number: int) -> str:
    return "" if number == 1 else "s"


async def _print(outline: Outline, selection: Selection, output: _JsonList | _Tables) -> int:
    """Print the letters. Returns their number."""
    number = 0
    async with _redis(outline) as client:
        async for letter in DeadLetters(client, outline, selection).first():
            output.add(letter, _provider(outline, letter))
            number += 1
    output.end()
    return number


async def _read_whole(outline: Outline, selection: Selection) -> list[DeadLetter]:
    async with _redis(outline) as client:
        shown = [letter async for letter in DeadLetters(client, outline, selection).first()]
        return [letter for one in shown if (letter := await dead.read_complete(client, one))]


async def _count(outline: Outline, selection: Selection) -> int:
    async with _redis(outline) as client:
        return await DeadLetters(client, outline, selection).count()


async def _perform(outline: Outline, selection: Selection, work: Work, number: int | None) -> Result:
    async with _redis(outline) as client:
        letters = DeadLetters(client, outline, selection)
        with _progress(work.doing, number) as progress:
            if work is PURGE:
                return await letters.purge(progress)
            return await letters.retry(partial(_intake, client, outline), progress)


def _redis(outline: Outline) -> AbstractAsyncContextManager[Client]:
    return terminal.redis_at(outline.redis_url, outline.read_url, outline.path)


def _intake(client: Client, outline: Outline) -> Intake:
    from relay.cli.dead_intake import ConfiguredIntake

    return ConfiguredIntake(client, outline.snapshot)


@contextmanager
def _progress(doing: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Yield a function that advances a progress bar by a number of letters. Only on a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import Progress

    with Progress(console=terminal.notes, transient=True) as bar:
        task = bar.add_task(doing, total=total)
        yield lambda count: bar.update(task, advance=count)


def as_data(letter: DeadLetter, provider: str | None = None) -> dict[str, Any]:
    """Return the JSON form of a dead letter."""
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


def _provider(outline: Outline, letter: DeadLetter) -> str | None:
    """Return the provider whose lane has the letter; None for an element without a provider."""
    return next(
        (name for name in outline.providers if dead.lane_stream(outline.prefix, name) == letter.stream), None
    )


def _when(letter: DeadLetter) -> str:
    return datetime.fromtimestamp(letter.at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")

"""The work of `relay dead`: page through letters, print them, retry or delete them.

A replay must use little memory, so modules that few calls need are imported inside the functions that need
them: tables and progress bars (3 MiB), the router and the adapters (15 MiB with pydantic).
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from textwrap import indent
from typing import TYPE_CHECKING

from relay.cli import terminal
from relay.cli.lean import Job
from relay.errors import UsageError
from relay.operations.dead import DeadScope, count, list_letters
from relay.operations.dead_documents import (
    WHY_LEFT,
    letter_document,
    reason_documents,
    result_document,
)
from relay.operations.dead_newest import newest_letters
from relay.operations.dead_reasons import ReasonGroup, by_reason
from relay.operations.dead_selection import LetterName
from relay.operations.dead_work import DeadOrder, DeadResult, OnProgress, purge, retry
from relay.operations.who import operator
from relay.redis_client.client import Client
from relay.settings.outline import Outline
from relay.store import dead
from relay.store.dead import DeadLetter
from relay.text import hide_signing_secrets, printable, rfc3339

if TYPE_CHECKING:
    from rich.table import Table

    from relay.operations.dead_edit import RevisingIntake

ROWS = 200
"""Rows of one table."""


def list_all(job: Job) -> None:
    """Print the selected letters, one per line."""
    selection = job.selection
    number, last = terminal.run(_print(job, _JsonList() if job.as_json else _Tables(selection.name is None)))
    if job.as_json:
        return
    if last is None:
        terminal.note(f"no {'more ' if selection.after else ''}dead letters for {_name(job)}")
    elif number == selection.limit:
        what = f"{'after that one, ' if selection.after else ''}the {'newest' if job.newest else 'oldest'}"
        cursor = shlex.quote(printable(LetterName.of(last).cursor))
        terminal.note(f"({what} {number}; --limit shows more, --after {cursor} the next ones)")


def list_reasons(job: Job) -> None:
    """Print the number of letters for each reason."""
    groups = terminal.run(_group(job))
    if job.as_json:
        print(terminal.as_json(reason_documents(groups)), flush=True)
    elif not groups:
        terminal.note(f"no dead letters for {_name(job)}")
    else:
        _print_reasons(groups)


def _print_reasons(groups: Sequence[ReasonGroup]) -> None:
    table = new_table("count", "status", "first", "last", "reason and example")
    for group in groups:
        example = group.example.id if group.example else ""
        places = ", ".join(name for name in group.providers if name)
        about = f"\n  {places}: {example}" if places else f"\n  {example}"
        add_row(
            table,
            f"{group.count:,}",
            str(group.status or ""),
            rfc3339(group.first_at),
            rfc3339(group.last_at),
            f"{group.reason}{about}",
        )
    terminal.data.print(table)


def show(job: Job) -> None:
    """Print the selected letters with all details. Raises UsageError if there is none."""
    letters = terminal.run(_read_whole(job))
    if not letters:
        name = _name(job)
        command = " ".join(filter(None, ("relay dead list", job.selection.name)))
        raise UsageError(f"no such dead letter for {name}; `{command}` lists those that exist")
    documents = [letter_document(letter) for letter in letters]
    if job.as_json:
        print(terminal.as_json(documents), flush=True)
        return
    for document in documents:
        print(terminal.as_json(document), flush=True)


class _JsonList:
    """Prints letters as one JSON array, one at a time, because they may not fit into memory."""

    def __init__(self) -> None:
        self._before = "[\n"

    def add(self, letter: DeadLetter) -> None:
        print(self._before + indent(terminal.as_json(letter_document(letter)), "  "), end="", flush=True)
        self._before = ",\n"

    def end(self) -> None:
        print("[]" if self._before == "[\n" else "\n]", flush=True)


class _Tables:
    """Prints letters as a table, or as several if there are many."""

    def __init__(self, names_providers: bool) -> None:
        self._names_providers = names_providers
        self._table = self._new()

    def _new(self) -> Table:
        columns = ["when", "id", "attempts", "status", "reason"]
        if self._names_providers:
            columns.insert(1, "provider")
        return new_table(*columns)

    def add(self, letter: DeadLetter) -> None:
        where = (letter.provider or letter.queue,) if self._names_providers else ()
        status = str(letter.status or "")
        add_row(
            self._table, rfc3339(letter.at), *where, letter.id, str(letter.attempts), status, letter.reason
        )
        if self._table.row_count == ROWS:
            self.end()

    def end(self) -> None:
        if self._table.row_count:
            terminal.data.print(self._table)
            self._table = self._new()


def new_table(*columns: str) -> Table:
    """Return a table whose last column may be folded."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in columns[:-1]:
        table.add_column(column, no_wrap=True)
    table.add_column(columns[-1], overflow="fold")
    return table


def add_row(table: Table, *cells: str) -> None:
    """Add foreign texts to a table."""
    from rich.text import Text

    # As `Text`, so that brackets are not taken for markup.
    texts = (Text(printable(hide_signing_secrets(cell), keep="\n")) for cell in cells)
    table.add_row(*texts)


@dataclass(frozen=True)
class Work:
    """The texts of a command that works on letters."""

    verb: str
    done: str
    doing: str


RETRY = Work("Send", "retried", "retrying")
PURGE = Work("Delete", "purged", "purging")


def work_on(job: Job, work: Work) -> None:
    """Count the letters, ask for confirmation on a terminal, do the work, and report."""
    on_terminal = sys.stderr.isatty()
    if job.selection.name is None and not (job.yes or job.dry_run or on_terminal):
        raise UsageError(f"letters of all providers would be {work.done}: name a provider, or add --yes")
    number = None
    if job.dry_run or on_terminal:
        number = terminal.run(_count(job))
    if job.dry_run:
        _report(job, work, DeadResult(matched=number or 0))
        return
    question = f"{work.verb} {number or 0:,} dead letters of {_name(job)}?"
    if on_terminal and not job.yes and not confirmed(question):
        print("Aborted.", file=sys.stderr)
        sys.exit(1)
    result = terminal.run(_perform(job, work, number))
    _report(job, work, result)
    if result.interrupted:
        sys.exit(1)


def confirmed(question: str) -> bool:
    """Ask on standard error. Returns whether the answer is yes."""
    answer = None
    while answer not in ("", "y", "yes", "n", "no"):
        print(f"{question} [y/N]: ", end="", file=sys.stderr, flush=True)
        answer = sys.stdin.readline()
        if not answer:  # end of the input
            print(file=sys.stderr)
        answer = answer.strip().lower()
    return answer in ("y", "yes")


def _report(job: Job, work: Work, result: DeadResult) -> None:
    if job.as_json:
        print(json.dumps({**result_document(result), work.done: result.done}), flush=True)
        return
    if job.dry_run:
        terminal.note(f"{result.matched} dead letter{_s(result.matched)} would be {work.done}")
        return
    rest = "".join(f"; {number} left: {WHY_LEFT[why]}" for why, number in result.left.items() if number)
    terminal.note(f"{work.done} {result.done} dead letter{_s(result.done)}{rest}")
    if result.interrupted:
        terminal.note("stopped; the remaining letters are unchanged")


def _s(number: int) -> str:
    return "" if number == 1 else "s"


def _name(job: Job) -> str:
    return job.selection.name or "all providers"


async def _print(job: Job, output: _JsonList | _Tables) -> tuple[int, DeadLetter | None]:
    """Print the letters. Returns their number, and the last one."""
    number, last = 0, None
    async with redis(job.outline) as client:
        async for letter in _listed(job, client):
            output.add(letter)
            number, last = number + 1, letter
    output.end()
    return number, last


async def _listed(job: Job, client: Client) -> AsyncIterator[DeadLetter]:
    """Yield the letters of a list in its order."""
    if job.newest:
        page = await newest_letters(client, scope(job), job.selection, job.selection.limit or ROWS)
        for letter in page.letters:
            yield letter
    else:
        async for letter in list_letters(client, scope(job), job.selection):
            yield letter


async def _read_whole(job: Job) -> list[DeadLetter]:
    async with redis(job.outline) as client:
        shown = [letter async for letter in list_letters(client, scope(job), job.selection)]
        return [letter for one in shown if (letter := await dead.read_complete(client, one))]


async def _group(job: Job) -> list[ReasonGroup]:
    async with redis(job.outline) as client:
        return await by_reason(client, scope(job), job.selection)


async def _count(job: Job) -> int:
    async with redis(job.outline) as client:
        return await count(client, scope(job), job.selection)


async def _perform(job: Job, work: Work, number: int | None) -> DeadResult:
    async with redis(job.outline) as client:
        with _progress(work.doing, number) as progress:
            order = DeadOrder(
                who=operator(),
                because=job.because,
                priority="low" if job.low else "own",
                rate=job.rate,
                on_progress=progress,
            )
            if work is PURGE:
                return await purge(client, scope(job), job.selection, order)
            build = partial(intake, client, job.outline)
            return await retry(client, scope(job), job.selection, order, build)


def scope(job: Job) -> DeadScope:
    """Return the names in the configuration."""
    return DeadScope.of_outline(job.outline)


def redis(outline: Outline) -> AbstractAsyncContextManager[Client]:
    """Connect to the Redis of the configuration."""
    return terminal.redis_at(outline.redis_url, outline.read_url, outline.path)


def intake(client: Client, outline: Outline) -> RevisingIntake:
    """Return an intake with the whole configuration."""
    from relay.engine.configured_intake import ConfiguredIntake
    from relay.provider import AdapterOptions, discover
    from relay.settings.load import restore

    return ConfiguredIntake(client, restore(outline.snapshot, AdapterOptions(discover())))


@contextmanager
def _progress(doing: str, total: int | None) -> Iterator[OnProgress]:
    """Yield a function that advances a progress bar. Only on a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import Progress

    with Progress(console=terminal.notes, transient=True) as bar:
        task = bar.add_task(doing, total=total)
        yield lambda result: bar.update(task, completed=result.matched)

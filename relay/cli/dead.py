"""`relay dead`: list, show, retry and purge what could not be delivered."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from relay.cli import common
from relay.cli.lanes import lane_of
from relay.errors import UsageError
from relay.message import PRIORITIES
from relay.router import Router
from relay.settings.models import QueueSettings, Settings
from relay.settings.redaction import printable, text_without_credentials, without_credentials
from relay.store import dead
from relay.store.dead import DeadLetter
from relay.store.fleet import Fleet
from relay.store.lane import Malformed
from relay.store.scripting import Client

app = typer.Typer(
    help="Dead letters: list them, send them again, delete them.",
    epilog="Example: `relay dead list pusher --reason 413`",
    no_args_is_help=True,
    callback=common.remember_config,
)

_TOGETHER = 100

NameArgument = Annotated[
    str, typer.Argument(metavar="PROVIDER", help="A provider, or a queue for elements that came by it.")
]
IdOption = Annotated[str | None, typer.Option("--id", help="Only the message or entry with this id.")]
ReasonOption = Annotated[
    str | None, typer.Option("--reason", help="Only those whose reason contains this text.")
]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="At most so many, the oldest first.")]


class Selection:
    """Which letters a command is about."""

    def __init__(self, name: str, message_id: str | None, reason: str | None, limit: int | None) -> None:
        self.name = name
        self._id = message_id
        self._reason = reason.lower() if reason else None
        self._limit = limit

    async def read(self, client: Client, settings: Settings) -> AsyncIterator[DeadLetter]:
        """The letters, the oldest first. Raises UsageError for an unknown name."""
        found = 0
        for stream, queue in self._streams(settings):
            async for letter in dead.read(client, stream):
                if (queue is None or letter.queue == queue) and self._matches(letter):
                    yield letter
                    found += 1
                    if found == self._limit:
                        return

    def _streams(self, settings: Settings) -> list[tuple[str, str | None]]:
        """Streams to read, each with the queue to which it is narrowed."""
        prefix = settings.redis.prefix
        streams: list[tuple[str, str | None]] = []
        if self.name in settings.providers:
            streams.append((dead.lane_stream(prefix, self.name), None))
        if any(queue.name == self.name for queue in settings.queues):
            streams.append((dead.queue_stream(prefix, self.name), None))
            streams += [
                (dead.lane_stream(prefix, provider), self.name)
                for provider in settings.providers
                if provider != self.name
            ]
        if not streams:
            names = ", ".join([*settings.providers, *(queue.name for queue in settings.queues)])
            raise UsageError(f"no provider or queue {self.name!r} in {settings.path}; there are {names}")
        return streams

    def _matches(self, letter: DeadLetter) -> bool:
        if self._reason is not None and self._reason not in letter.reason.lower():
            return False
        return self._id is None or self._id in (letter.entry, letter.message.id if letter.message else None)


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
    """One line for each dead letter.

    Example: `relay dead list pusher --limit 10`
    """
    settings = common.load_settings(context, config)
    letters = common.run(_collect(settings, Selection(name, message_id, reason, limit)))
    if as_json:
        typer.echo(common.as_json([as_data(letter) for letter in letters]))
        return
    if not letters:
        common.notes.print(f"no dead letters for {name}", highlight=False)
        return
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("when", "id", "attempts", "status"):
        table.add_column(column, no_wrap=True)
    table.add_column("reason", overflow="fold")
    for letter in letters:
        identity = letter.message.id if letter.message else letter.entry
        status = str(letter.status or "")
        # As `Text`: brackets in them are no markup.
        texts = (Text(printable(text)) for text in (identity, str(letter.attempts), status, letter.reason))
        table.add_row(_when(letter), *texts)
    common.data.print(table)
    if len(letters) == limit:
        common.notes.print(f"(the oldest {limit}; --limit shows more)", highlight=False)


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
    """Everything about a dead letter: the message, the attempts, the provider's answer.

    Example: `relay dead show pusher --id order-17`
    """
    settings = common.load_settings(context, config)
    letters = common.run(_collect(settings, Selection(name, message_id, reason, limit)))
    if not letters:
        raise UsageError(f"no such dead letter for {name}; `relay dead list {name}` shows what there is")
    documents = [as_data(letter) for letter in letters]
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
    as_json: common.JsonOption = False,
    config: common.ConfigOption = None,
) -> None:
    """Put dead letters back into their lane, with all attempts before them; the rate holds for them too.

    A malformed element is read again: it goes through if the configuration now allows it.

    Example: `relay dead retry pusher --reason "gave up"`
    """
    settings = common.load_settings(context, config)
    done, left = common.run(_retry(settings, Selection(name, message_id, reason, limit)))
    _report(as_json, "retried", done, left, "still malformed, or the same id is pending")


@app.command()
def purge(
    context: typer.Context,
    name: NameArgument,
    message_id: IdOption = None,
    reason: ReasonOption = None,
    limit: LimitOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: common.JsonOption = False,
    config: common.ConfigOption = None,
) -> None:
    """Throw dead letters away for good. Asks first on a terminal.

    Example: `relay dead purge pusher --reason 413 --yes`
    """
    settings = common.load_settings(context, config)
    selection = Selection(name, message_id, reason, limit)
    if not yes and common.notes.is_terminal:
        number = len(common.run(_collect(settings, selection)))
        typer.confirm(f"Throw away {number} dead letters of {name}?", abort=True, err=True)
    _report(as_json, "purged", common.run(_purge(settings, selection)), 0, "")


def _report(as_json: bool, verb: str, done: int, left: int, why: str) -> None:
    if as_json:
        typer.echo(json.dumps({verb: done, "left": left}))
        return
    rest = f"; {left} left: {why}" if left else ""
    common.notes.print(f"{verb} {done} dead letter{'s' if done != 1 else ''}{rest}", highlight=False)


async def _collect(settings: Settings, selection: Selection) -> list[DeadLetter]:
    async with common.redis(settings) as client:
        return [letter async for letter in selection.read(client, settings)]


async def _purge(settings: Settings, selection: Selection) -> int:
    purged = 0
    async with common.redis(settings) as client:
        batches: dict[str, list[str]] = {}
        async for letter in selection.read(client, settings):
            batch = batches.setdefault(letter.stream, [])
            batch.append(letter.entry)
            if len(batch) == _TOGETHER:
                purged += await dead.forget(client, letter.stream, batches.pop(letter.stream))
        for stream, batch in batches.items():
            purged += await dead.forget(client, stream, batch)
    return purged


async def _retry(settings: Settings, selection: Selection) -> tuple[int, int]:
    done = left = 0
    async with common.redis(settings) as client:
        # What fails again while we work must not be met again.
        letters = [letter async for letter in selection.read(client, settings)]
        lanes = {dead.lane_stream(settings.redis.prefix, name): name for name in settings.providers}
        with Progress(console=common.notes, transient=True, disable=not common.notes.is_terminal) as progress:
            for letter in progress.track(letters, description="retrying"):
                if letter.message is not None:
                    lane = lane_of(client, settings, lanes[letter.stream])
                    revived, passed = await lane.revive([letter.entry])
                else:
                    revived = await _read_again(client, settings, letter)
                    passed = 1 - revived
                done, left = done + revived, left + passed
        await Fleet(client, settings.redis.prefix).wake(list(settings.providers))
    return done, left


async def _read_again(client: Client, settings: Settings, letter: DeadLetter) -> int:
    """A malformed element goes through the intake once more; 1 if a lane takes it now."""
    queue_name = letter.queue or letter.stream.partition("{")[2].partition("}")[0]
    queue = next(
        (queue for queue in settings.queues if queue.name == queue_name), QueueSettings(name=queue_name)
    )
    provider, item = Router(queue, settings, common.providers(settings)).route(letter.raw)
    if provider is None or isinstance(item, Malformed):
        return 0
    await lane_of(client, settings, provider).enqueue([item])
    return await dead.forget(client, letter.stream, [letter.entry])


def as_data(letter: DeadLetter) -> dict[str, Any]:
    """The JSON form of a dead letter."""
    document: dict[str, Any] = {
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
        return document
    document |= {
        "id": message.id,
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


def _when(letter: DeadLetter) -> str:
    return datetime.fromtimestamp(letter.at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")

"""Dead letters: list, group, retry, edit and purge."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated, Final, Literal, TypedDict

from msgspec import Meta

from relay.admin.console.api.dead_arguments import DeadArguments, Text
from relay.admin.console.api.route import Arguments, NoArguments, Reply, Route
from relay.admin.console.call import Call
from relay.admin.console.jobs import Job
from relay.errors import MessageError, UsageError
from relay.operations import dead
from relay.operations.dead import DeadScope
from relay.operations.dead_documents import (
    WHY_LEFT,
    LetterDocument,
    ReasonDocument,
    ResultDocument,
    letter_document,
    reason_documents,
    result_document,
)
from relay.operations.dead_edit import editable, read_letter, retry_edited
from relay.operations.dead_filter import OPTIONS
from relay.operations.dead_newest import newest_letters
from relay.operations.dead_reasons import by_reason
from relay.operations.dead_selection import DeadSelection, LetterName, parse_cursor
from relay.operations.dead_work import DeadOrder, DeadResult, purge, retry

MOST_TEXT = 1024 * 1024
"""Characters of a letter that a page can edit."""

Because = Annotated[str, Meta(max_length=1000, description="The reason, for the audit log.")]


class ListArguments(DeadArguments, frozen=True, kw_only=True):
    """The options of `relay dead list`."""

    by_reason: Annotated[bool, Meta(description="Count the letters by reason and status.")] = False
    limit: Annotated[int, Meta(ge=1, le=10_000, description="Maximum number of letters.")] = 50
    newest: Annotated[bool, Meta(description="The newest first, instead of the oldest of each provider.")] = (
        False
    )
    after: Annotated[Text | None, Meta(description="Only letters after this one: its `cursor`.")] = None


class WorkArguments(DeadArguments, frozen=True, kw_only=True):
    """The options of `relay dead retry` and `purge`."""

    letters: Annotated[
        tuple[LetterName, ...],
        Meta(max_length=1000, description="Only these letters. Excludes the filter."),
    ] = ()
    limit: Annotated[int, Meta(ge=1, description="Maximum number of letters.")] | None = None
    dry_run: Annotated[bool, Meta(description="Only count the letters; change nothing.")] = False
    low: Annotated[bool, Meta(description="Retry: behind fresh traffic.")] = False
    rate: Annotated[float, Meta(ge=0, description="Retry: letters per second; 0: no limit.")] = 0.0
    background: Annotated[bool, Meta(description="Answer immediately, with the name of a job to follow.")] = (
        False
    )
    because: Because = ""

    def chosen(self) -> DeadSelection:
        """Return the selection. Raises UsageError if an option is wrong."""
        if not self.letters:
            return self.selection(self.limit)
        if any(getattr(self, name) for name in ("provider", *OPTIONS)):
            raise UsageError("`letters` selects the letters: leave the filter out")
        return DeadSelection(letters=self.letters, limit=self.limit)


class LetterArguments(Arguments, frozen=True, kw_only=True):
    """The name of one letter."""

    letter: Annotated[LetterName, Meta(description="Its `entry`, and its `provider` or else its `queue`.")]


class EditArguments(LetterArguments, frozen=True, kw_only=True):
    """An edited letter."""

    text: Annotated[
        str, Meta(max_length=MOST_TEXT, description="The new payload, or the whole malformed element.")
    ]
    because: Because = ""


class EditableDocument(LetterDocument):
    """A letter with the text that an operator may change."""

    text: str


class JobStarted(TypedDict):
    """The name of a job, and the number of letters that matched."""

    job: str
    total: int


class JobDocument(ResultDocument):
    """The progress of a job."""

    action: str
    running: bool
    total: int
    error: str | None
    interrupted: bool


async def _list(call: Call, arguments: ListArguments) -> Reply:
    client, scope = await call.services.client(), DeadScope.of(call.settings)
    if arguments.by_reason:
        if arguments.newest or arguments.after:
            raise UsageError("by_reason has no order: leave newest and after out")
        groups = await by_reason(client, scope, arguments.selection())
        return Reply(reason_documents(groups))
    after = None if arguments.after is None else parse_cursor(arguments.after)
    selection = replace(arguments.selection(arguments.limit), after=after)
    if arguments.newest:
        found = await newest_letters(client, scope, selection, arguments.limit)
        return Reply([letter_document(each) for each in found.letters])
    return Reply([letter_document(each) async for each in dead.list_letters(client, scope, selection)])


async def _retry(call: Call, arguments: WorkArguments) -> Reply:
    return await _work(call, arguments, "retry")


async def _purge(call: Call, arguments: WorkArguments) -> Reply:
    return await _work(call, arguments, "purge")


async def _work(call: Call, arguments: WorkArguments, action: Literal["retry", "purge"]) -> Reply:
    client, scope = await call.services.client(), DeadScope.of(call.settings)
    selection = arguments.chosen()
    if arguments.dry_run:
        return Reply(result_document(DeadResult(matched=await dead.count(client, scope, selection))))
    job = Job(action, await dead.count(client, scope, selection) if arguments.background else 0)
    order = DeadOrder(
        call.visitor.name,
        arguments.because,
        priority="low" if arguments.low else "own",
        rate=arguments.rate,
        on_progress=job.show,
        stop=job.stop,
    )

    async def work() -> DeadResult:
        try:
            if action == "purge":
                return await purge(client, scope, selection, order)
            build_intake = partial(call.services.open_intake, client)
            return await retry(client, scope, selection, order, build_intake)
        finally:
            call.services.changed()

    if arguments.background:
        return Reply(JobStarted(job=call.services.jobs.start(job, work), total=job.total), 202)
    return Reply(result_document(await work()))


async def _text(call: Call, arguments: LetterArguments) -> Reply:
    client, scope = await call.services.client(), DeadScope.of(call.settings)
    letter = await read_letter(client, scope, DeadSelection(letters=(arguments.letter,)))
    text = editable(letter)
    try:
        if len(text) <= MOST_TEXT:
            return Reply(EditableDocument(**letter_document(letter), text=text.decode()))
    except UnicodeDecodeError:
        pass
    raise UsageError(
        f"this letter cannot be edited in a page: it is not text, or larger than {MOST_TEXT:,} bytes. "
        f"`relay dead edit --id {letter.id}` can"
    )


async def _edit(call: Call, arguments: EditArguments) -> Reply:
    client, scope = await call.services.client(), DeadScope.of(call.settings)
    letter = await read_letter(client, scope, DeadSelection(letters=(arguments.letter,)))
    try:
        result = await retry_edited(
            client,
            scope,
            letter,
            arguments.text.encode("utf-8", "surrogatepass"),
            call.services.open_intake(client),
            who=call.visitor.name,
            because=arguments.because,
        )
    except MessageError as error:
        raise UsageError(f"not valid: {error}") from error
    call.services.changed()
    if not result.done:
        why = ", ".join(WHY_LEFT[name] for name in result.left)
        return Reply({"error": f"not retried: {why}", **result_document(result)}, 409)
    return Reply(result_document(result))


async def _job(call: Call, _: NoArguments) -> Reply:
    job = call.services.jobs.find(call.part("job"))
    if job is None:
        return Reply({"error": "no such job in this process; the audit log shows how it ended"}, 404)
    return Reply(_job_document(job))


async def _stop(call: Call, _: Arguments) -> Reply:
    job = call.services.jobs.find(call.part("job"))
    if job is None:
        return Reply({"error": "no such job in this process; the audit log shows how it ended"}, 404)
    job.stop.set()
    return Reply(_job_document(job))


def _job_document(job: Job) -> JobDocument:
    return {
        "action": job.action,
        "running": job.is_running,
        "total": job.total,
        "error": job.error or None,
        "interrupted": job.result.interrupted,
        **result_document(job.result),
    }


ROUTES: Final = (
    Route(
        "GET",
        "/dead",
        "Dead letters, or their reasons.",
        "relay dead list --json",
        _list,
        ListArguments,
        answer=(list[LetterDocument], list[ReasonDocument]),
    ),
    Route(
        "POST",
        "/dead/retry",
        "Send dead letters again. Malformed elements are parsed again.",
        "relay dead retry",
        _retry,
        WorkArguments,
        answer=ResultDocument,
        begun=JobStarted,
    ),
    Route(
        "POST",
        "/dead/purge",
        "Delete dead letters permanently.",
        "relay dead purge",
        _purge,
        WorkArguments,
        answer=ResultDocument,
        begun=JobStarted,
    ),
    Route(
        "POST",
        "/dead/text",
        "The text of a letter to edit: its payload, or the whole malformed element.",
        "relay dead edit",
        _text,
        LetterArguments,
        answer=EditableDocument,
    ),
    Route(
        "POST",
        "/dead/edit",
        "Retry a letter with another text, which is checked as a worker would. 409: it stays.",
        "relay dead edit",
        _edit,
        EditArguments,
        answer=ResultDocument,
    ),
    Route("GET", "/jobs/{job}", "The progress of a job.", "relay dead retry", _job, answer=JobDocument),
    Route(
        "POST",
        "/jobs/{job}/stop",
        "Stop a job after its present page.",
        "relay dead retry",
        _stop,
        answer=JobDocument,
    ),
)

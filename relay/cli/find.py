"""`relay find`: the whole story of a message."""

from __future__ import annotations

from typing import Annotated

import typer

from relay.cli import common
from relay.errors import UsageError
from relay.operations import find as finding
from relay.operations.find import Found, State
from relay.settings.models import Settings
from relay.settings.redaction import secrets_in
from relay.store.journal import JournalQuery
from relay.text import Redactor, hide_signing_secrets, printable, rfc3339


def find(
    context: typer.Context,
    message_id: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="`id` of the message, its own or the one relay gave it."),
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option("--provider", "-p", metavar="NAME", help="Only in the lane of this provider."),
    ] = None,
    group: Annotated[
        str, typer.Option("--group", "-g", metavar="NAME", help="Messages of this group instead of an ID.")
    ] = "",
    ordering_key: Annotated[
        str, typer.Option("--ordering-key", metavar="KEY", help="Messages with this ordering key.")
    ] = "",
    collapse_key: Annotated[
        str, typer.Option("--collapse-key", metavar="KEY", help="Messages with this collapse key.")
    ] = "",
    target: Annotated[
        str,
        typer.Option("--target", metavar="TARGET", help="Messages to this token, device or subscription."),
    ] = "",
    traceparent: Annotated[
        str, typer.Option("--traceparent", metavar="TRACE", help="Messages with this trace context.")
    ] = "",
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=1000, help="Maximum number of messages of a search.")
    ] = 20,
    as_json: common.JsonOption = False,
    config: common.ConfigOption = None,
) -> None:
    """Find a message: its place, its attempts, and when it will be sent.

    Messages that have ended are found if the journal has them: all failures, and a sample of the successes.

    Example: `relay find order-17`
    """
    query = JournalQuery(
        group=group,
        ordering_key=ordering_key,
        collapse_key=collapse_key,
        target=target,
        traceparent=traceparent,
    )
    if (message_id is None) == (query == JournalQuery()):
        raise UsageError(
            "write an ID, or one of --group, --ordering-key, --collapse-key, --target and --traceparent"
        )
    settings = common.load_settings(context, config)
    found = common.run(_find(settings, message_id, query, provider, limit))
    if as_json:
        redactor = Redactor(secrets_in(settings))
        print(common.as_json(finding.documents(found, redactor)), flush=True)
    else:
        print("\n\n".join(_text(one) for one in found), flush=True) if found else _note_nothing(message_id)
    if not found:
        raise typer.Exit(1)


async def _find(
    settings: Settings, message_id: str | None, query: JournalQuery, provider: str | None, limit: int
) -> list[Found]:
    async with common.redis(settings) as client:
        if message_id is None:
            return await finding.search(client, settings, query, provider, limit)
        return await finding.find(client, settings, message_id, provider)


def _note_nothing(message_id: str | None) -> None:
    what = "no such message" if message_id is None else f"no message {message_id}"
    common.note(
        f"{what} in any queue or lane, among the dead letters, or in the journals. A delivered message is "
        "only in a journal if it was sampled (`journal: {sample: all}` keeps all)"
    )


def _text(found: Found) -> str:
    """Return the lines about one message."""
    lines = [_headline(found)]
    if found.group:
        lines.append(f"  group     {found.group}")
    if found.queue:
        lines.append(f"  queue     {found.queue}")
    if found.position is not None:
        lines.append(f"  place     {found.position:,}")
    if found.due_at is not None:
        lines.append(f"  goes at   {rfc3339(found.due_at)}")
    if found.why_not_now:
        lines.append(f"  why       {found.why_not_now}")
    for number, attempt in enumerate(found.attempts, 1):
        status = f" {attempt.status}" if attempt.status else ""
        took = f" after {attempt.request_seconds * 1000:.0f} ms" if attempt.request_seconds else ""
        lines.append(f"  {number:>3}. {rfc3339(attempt.at)}  {attempt.outcome}{status}{took}")
        details = [attempt.reason, attempt.provider_id and f"provider's id {attempt.provider_id}"]
        lines += [f"       {detail}" for detail in details if detail]
    return "\n".join(printable(hide_signing_secrets(line)) for line in lines)


def _headline(found: Found) -> str:
    place = f"{found.id} at {found.provider}" if found.provider else found.id
    match found.state:
        case State.ENDED | State.DEAD:
            at = f" at {rfc3339(found.ended_at)}" if found.ended_at is not None else ""
            return f"{place}: {found.outcome}{at}"
        case State.IN_FLIGHT:
            return f"{place}: in flight at {found.worker}"
        case state:
            return f"{place}: {state}"

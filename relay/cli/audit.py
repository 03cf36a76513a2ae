"""`relay audit`: the actions of operators."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from relay.cli import common
from relay.operations.times import parse_moment
from relay.settings.models import Settings
from relay.store import audit
from relay.store.audit import AuditEntry
from relay.text import printable, rfc3339


def show_audit(
    context: typer.Context,
    provider: Annotated[
        str | None, typer.Option("--provider", "-p", metavar="NAME", help="Only actions on this provider.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="TIME", help="Only actions since then: RFC 3339, Unix seconds, or `2h` ago."
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Maximum number of actions.")] = 50,
    as_json: common.JsonOption = False,
    config: common.ConfigOption = None,
) -> None:
    """Show the actions of operators, with user, time and reason.

    The newest action comes first.

    Example: `relay audit --since 24h --provider pusher`
    """
    settings = common.load_settings(context, config)
    entries = common.run(_read(settings, provider, since, limit))
    if as_json:
        print(common.as_json([msgspec.to_builtins(entry) for entry in entries]))
    elif entries:
        _print(entries)
    else:
        common.note("no action is recorded")


async def _read(settings: Settings, provider: str | None, since: str | None, limit: int) -> list[AuditEntry]:
    start = 0.0 if since is None else parse_moment("--since", since)
    async with common.redis(settings) as client:
        return await audit.read(client, settings.redis.prefix, limit=limit, since=start, provider=provider)


def _print(entries: list[AuditEntry]) -> None:
    """Print two lines for an action that has a reason, one for any other."""
    for entry in entries:
        at = rfc3339(entry.at)
        target = " ".join(filter(None, (entry.provider, entry.group)))
        number = f" ({entry.count:,})" if entry.count != 1 else ""
        print(printable(f"{at}  {entry.action} {target}{number}  {entry.who}"))
        if entry.why:
            print(printable(f"    {entry.why}"))

"""`relay health`: a probe for containers. Without typer and pydantic, because it runs every few seconds."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from relay.admin.probe import Answer, NoAnswerError, ask
from relay.cli import terminal
from relay.errors import StoreError, UsageError
from relay.settings.endpoints import Endpoints, read_endpoints
from relay.text import one_line

DEFAULT_FILE = "relay.yaml"


def words_of(arguments: list[str]) -> tuple[Path | None, bool] | None:
    """Return the file and whether JSON is wanted, from `health [-c FILE] [--json]`; None for other words."""
    if arguments[:1] != ["health"]:
        return None
    file, as_json, words = None, False, iter(arguments[1:])
    for word in words:
        if word == "--json":
            as_json = True
        elif word in ("-c", "--config"):
            file = next(words, None)
            if file is None:
                return None
        elif word.startswith("--config="):
            file = word.removeprefix("--config=")
        else:
            return None
    return (None if file is None else Path(file)), as_json


def probe(config: Path | None, *, as_json: bool) -> int:
    """Print whether the workers of this host are healthy, and return the exit code.

    Raises UsageError and ConfigError.
    """
    path = config or Path(os.environ.get("RELAY_CONFIG") or DEFAULT_FILE)
    if not path.exists():
        raise UsageError(f"{path}: there is no such file; pass -c FILE or set RELAY_CONFIG")
    source, answer = _ask(read_endpoints(path), path)
    troubles = [one_line(trouble) for trouble in answer.troubles]
    if as_json:
        document = {
            "healthy": answer.healthy,
            "source": source,
            "workers": answer.workers,
            "troubles": troubles,
        }
        print(terminal.as_json(document))
    elif answer.healthy:
        print(f"healthy: {answer.workers} {'worker' if answer.workers == 1 else 'workers'}")
    else:
        print(f"unhealthy: {'; '.join(troubles) or 'no reason is known'}", file=sys.stderr)
    return 0 if answer.healthy else 1


def _ask(endpoints: Endpoints, path: Path) -> tuple[str, Answer]:
    """Ask the admin port; if it is off or silent, look for heartbeats in Redis."""
    before: list[str] = []
    if endpoints.admin is not None:
        try:
            return "admin", ask(endpoints.admin, endpoints.token)
        except NoAnswerError as error:
            before.append(str(error))
    if endpoints.redis_url.startswith("embedded://"):
        # A probe must not start the server that relay itself would start.
        before = before or ["`admin.listen` is off, and an embedded Redis is not contacted"]
        return "admin", Answer(healthy=False, troubles=before)
    try:
        answer = terminal.run(_by_heartbeats(endpoints, path))
    except StoreError as error:
        return "heartbeats", Answer(healthy=False, troubles=[*before, f"Redis: {error}"])
    return "heartbeats", answer if answer.healthy else Answer(
        healthy=False, troubles=[*before, *answer.troubles], workers=answer.workers
    )


async def _by_heartbeats(endpoints: Endpoints, path: Path) -> Answer:
    """The workers of this host that are registered, and how long each has been silent."""
    from relay.engine.failure_detector import host_id
    from relay.store.fleet import LEASE, Fleet

    host, own = socket.gethostname(), host_id()
    async with terminal.redis_at(endpoints.redis_url, lambda: endpoints.redis_url, path) as client:
        members = await Fleet(client, endpoints.prefix).members()
    ours = [
        member
        for member in members
        if (member.info.host_id == own if own and member.info.host_id else member.info.host == host)
    ]
    if not ours:
        return Answer(healthy=False, troubles=[f"no worker of {host} is registered in Redis"])
    return Answer(
        all(member.silent <= LEASE for member in ours),
        [
            f"worker {member.info.pid} sent its last heartbeat {member.silent:.0f} s ago"
            for member in ours
            if member.silent > LEASE
        ],
        sum(member.silent <= LEASE for member in ours),
    )

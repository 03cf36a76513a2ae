"""Drain a worker, let it work again, and dismiss one that is gone. Each action is in the audit log.

Every function raises StoreError, and UsageError for an order that cannot be carried out.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.errors import UsageError
from relay.redis_client.client import Client
from relay.settings.formatting import near_miss
from relay.settings.models import Settings
from relay.store import audit, drain
from relay.store.audit import AuditEntry
from relay.store.drain import DrainOrder
from relay.store.fleet import Fleet, Member
from relay.store.keys import LaneKeys, QueueKeys
from relay.store.overview import read_overview
from relay.store.reading import read_all
from relay.store.vitals import Duty
from relay.text import enumerated, one_line, printable, quote


async def drain_worker(client: Client, settings: Settings, name: str, *, because: str, who: str) -> Member:
    """Let a worker finish its messages and take no others, until `resume_worker` or the end of its process.

    It learns of that with its next heartbeat. Returns the worker.
    """
    prefix = settings.redis.prefix
    fleet = Fleet(client, prefix)
    member = _find(await fleet.members(), name)
    worker = member.info
    if not member.is_alive:
        raise UsageError(f"{_shown(member)} sends no heartbeats, so it cannot be drained")
    if worker.vitals is None:
        version = printable(worker.version) or "unknown"
        raise UsageError(f"{_shown(member)} runs version {version}, which cannot be drained: stop it instead")
    await drain.order(client, prefix, worker.worker, DrainOrder(who, one_line(because), await fleet.now()))
    await _record(client, settings, "drain", member, because, who)
    return member


async def resume_worker(client: Client, settings: Settings, name: str, *, because: str, who: str) -> Member:
    """Let a drained worker take messages again. Returns the worker."""
    prefix = settings.redis.prefix
    member = _find(await Fleet(client, prefix).members(), name)
    ordered = await drain.withdraw(client, prefix, member.info.worker)
    if not ordered and member.duty is Duty.SERVING:
        raise UsageError(f"{_shown(member)} is not drained")
    await _record(client, settings, "drain-end", member, because, who)
    return member


async def dismiss_worker(client: Client, settings: Settings, name: str, *, because: str, who: str) -> Member:
    """Hide a worker that is silent or has died, and that holds nothing. Returns the worker."""
    fleet = Fleet(client, settings.redis.prefix)
    members = await fleet.members()
    gone = [member for member in await fleet.gone() if not member.info.left]
    member = _find([*members, *gone], name)
    if member in members and member.is_alive:
        raise UsageError(f"{_shown(member)} is alive: stop it first")
    if holds := await _holds(client, settings, member):
        raise UsageError(
            f"{_shown(member)} still holds {holds}: a living worker recovers them; start one if none runs"
        )
    if not await fleet.dismiss(member, is_gone=member in gone):
        raise UsageError(f"{_shown(member)} has come back meanwhile")
    await _record(client, settings, "dismiss", member, because, who)
    return member


def _find(members: Sequence[Member], name: str) -> Member:
    """Return the worker of this name, or the only one whose name begins so."""
    exact = [member for member in members if member.info.worker == name]
    found = exact or [member for member in members if name and member.info.worker.startswith(name)]
    if len(found) == 1:
        return found[0]
    known = [member.info.worker for member in members]
    if found:
        raise UsageError(f"{quote(name)} may be {_named(found)}: write the whole name")
    hint = near_miss(name, known) or (f"known: {_named(members)}" if known else "none is known")
    raise UsageError(f"no worker {quote(name)}; {hint}")


def _named(members: Sequence[Member]) -> str:
    return enumerated(printable(member.info.worker) for member in members)


def _shown(member: Member) -> str:
    return f"worker {printable(member.info.worker)}"


async def _holds(client: Client, settings: Settings, member: Member) -> str:
    """Return the messages that a worker still holds, such as `3 messages`. Empty if it holds none."""
    prefix, worker = settings.redis.prefix, member.info
    overview = await read_overview(client, settings)
    lanes = worker.lanes or [lane.provider for lane in overview.lanes]
    queues = worker.queues or [queue.name for queue in overview.queues]
    found = []
    for names, commands, noun in (
        (lanes, [("HLEN", LaneKeys.of(prefix, lane).inflight(worker.worker)) for lane in lanes], "message"),
        (
            queues,
            [("LLEN", QueueKeys.of(prefix, name).processing(worker.worker)) for name in queues],
            "element",
        ),
    ):
        numbers, error = await read_all(client, *commands) if names else ([], "")
        if error:
            raise UsageError(f"cannot read its messages: Redis refused {error}")
        if total := sum(numbers):
            found.append(f"{total:,} {noun}{'s' if total != 1 else ''}")
    return " and ".join(found)


async def _record(
    client: Client, settings: Settings, action: str, member: Member, because: str, who: str
) -> None:
    worker = member.info.worker
    why = f"{worker}: {because}" if because else worker
    await audit.record(client, settings.redis.prefix, AuditEntry(action, who, why=why))

"""Actions on workers: reload their files, drain one, let it work again, dismiss one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Final, TypedDict

from msgspec import Meta

from relay.admin.console.api.route import Arguments, Reply, Route
from relay.admin.console.call import Call
from relay.operations import workers
from relay.operations.reload import reload_fleet
from relay.store.fleet import Member


class WorkerArguments(Arguments, frozen=True, kw_only=True):
    """The options of `relay reload` and `relay worker`."""

    because: Annotated[str, Meta(max_length=1000, description="The reason, for the audit log.")] = ""


class Asked(TypedDict):
    """The number of processes that were asked."""

    asked: int


class Named(TypedDict):
    """The whole name of the worker."""

    worker: str


async def _reload(call: Call, arguments: WorkerArguments) -> Reply:
    # It does not wait for reports: the process that answers may be the one that reloads.
    asked = await call.act(reload_fleet, who=call.visitor.name, because=arguments.because, wait=0.0)
    return Reply(Asked(asked=len(asked)), 202)


async def _drain(call: Call, arguments: WorkerArguments) -> Reply:
    return await _act(call, workers.drain_worker, arguments, 202)


async def _resume(call: Call, arguments: WorkerArguments) -> Reply:
    return await _act(call, workers.resume_worker, arguments, 202)


async def _dismiss(call: Call, arguments: WorkerArguments) -> Reply:
    return await _act(call, workers.dismiss_worker, arguments, 200)


async def _act(
    call: Call, action: Callable[..., Awaitable[Member]], arguments: WorkerArguments, status: int
) -> Reply:
    member = await call.act(action, call.part("worker"), because=arguments.because, who=call.visitor.name)
    return Reply(Named(worker=member.info.worker), status)


ROUTES: Final = (
    Route(
        "POST",
        "/workers/reload",
        "Ask all processes to read their files again. `GET /workers` shows failures and the new settings.",
        "relay reload",
        _reload,
        WorkerArguments,
        begun=Asked,
    ),
    Route(
        "POST",
        "/workers/{worker}/drain",
        "Let a worker finish its messages and take no others. `GET /workers` shows its `duty`.",
        "relay worker drain WORKER",
        _drain,
        WorkerArguments,
        begun=Named,
    ),
    Route(
        "POST",
        "/workers/{worker}/resume",
        "Let a drained worker take messages again.",
        "relay worker resume WORKER",
        _resume,
        WorkerArguments,
        begun=Named,
    ),
    Route(
        "POST",
        "/workers/{worker}/dismiss",
        "Hide a worker that is gone and holds no messages.",
        "relay worker dismiss WORKER",
        _dismiss,
        WorkerArguments,
        answer=Named,
    ),
)

"""The state of the fleet: overview, lanes, queues, workers."""

from __future__ import annotations

from typing import Any, Final

from relay.admin.console.api.route import NoArguments, Reply, Route
from relay.admin.console.call import Call
from relay.admin.console.sampler import Sample
from relay.errors import StoreError
from relay.operations.document_types import (
    FleetDocument,
    LaneDocument,
    ProviderDocument,
    QueueDocument,
    WorkerDocument,
)
from relay.operations.documents import (
    fleet_document,
    lane_document,
    provider_document,
    queue_document,
    worker_documents,
)
from relay.store.overview import read_provider
from relay.text import enumerated


async def _present(call: Call) -> Sample:
    """Return a sample of now. Raises StoreError while Redis does not answer: programs see no earlier one."""
    sample = await call.services.sampler.latest()
    if sample.error:
        raise StoreError(sample.error)
    return sample


async def _overview(call: Call, _: NoArguments) -> Reply:
    sample = await _present(call)
    return Reply(fleet_document(sample.overview, call.services.digest()))


async def _lanes(call: Call, _: NoArguments) -> Reply:
    sample = await _present(call)
    return Reply([lane_document(lane) for lane in sample.overview.lanes])


async def _lane(call: Call, _: NoArguments) -> Reply:
    provider = call.part("provider")
    client = await call.services.client()
    overview = await read_provider(client, call.settings, provider, call.services.own())
    if not overview.lanes:
        return not_found(call, provider)
    return Reply(provider_document(overview))


async def _queues(call: Call, _: NoArguments) -> Reply:
    sample = await _present(call)
    return Reply([queue_document(queue) for queue in sample.overview.queues])


async def _workers(call: Call, _: NoArguments) -> Reply:
    sample = await _present(call)
    return Reply(worker_documents(sample.overview))


def not_found(call: Call, provider: str) -> Reply:
    """Return the reply to a question about a provider that nobody knows."""
    known = enumerated(call.settings.providers)
    document: dict[str, Any] = {"error": f"no provider {provider!r}; known: {known}"}
    return Reply(document, 404)


ROUTES: Final = (
    Route(
        "GET",
        "/overview",
        "Queues, lanes, workers and findings.",
        "relay status --json",
        _overview,
        answer=FleetDocument,
    ),
    Route("GET", "/lanes", "All lanes.", "relay status --json", _lanes, answer=list[LaneDocument]),
    Route(
        "GET",
        "/lanes/{provider}",
        "One lane with its groups.",
        "relay status PROVIDER --json",
        _lane,
        answer=ProviderDocument,
    ),
    Route("GET", "/queues", "All queues.", "relay status --json", _queues, answer=list[QueueDocument]),
    Route("GET", "/workers", "All workers.", "relay status --json", _workers, answer=list[WorkerDocument]),
)

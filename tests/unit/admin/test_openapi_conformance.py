"""The API answers every request as its OpenAPI document says: generated requests on a real Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from relay.admin.console.api.openapi import openapi_document
from relay.admin.console.api.routes import ROUTES
from relay.operations.rates import parse_rates
from relay.redis_client.client import Client
from relay.store import audit
from relay.store.attempts import Attempt, encode
from relay.store.audit import AuditEntry
from relay.store.dead import queue_stream
from relay.store.deployment import Deployment, ReloadFailure
from relay.store.fleet import Fleet, WorkerInfo
from relay.store.lane import Lane
from relay.store.override import Override, set_override
from relay.store.pause import Pause
from relay.store.record import pack
from relay.store.vitals import Vitals
from testing.builders import a_message
from testing.console_server import console_server, console_settings
from testing.console_world import HOSTILE, OPERATOR, VIEWER
from testing.redis_server import RedisServer

REQUESTS = 5
"""The number of requests for each operation."""

NAMES = {
    "provider": ["hook", HOSTILE],
    "queue": ["notifications", HOSTILE],
    "id": ["waiting", "dead", HOSTILE],
    "worker": ["web-1", HOSTILE],
}
"""Path parameters that lead somewhere, and hostile ones."""

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]

CONFIG = """
queues: [{name: notifications, provider: hook}]
providers: {hook: {type: webhook, url: "https://hooks.example/", groups: {by: message}}}
admin: {listen: "127.0.0.1:PORT", token: TOKEN, viewer_token: VIEWER}
"""


@pytest.fixture(scope="module")
def redis_server(newest_redis_server: RedisServer) -> RedisServer:
    return newest_redis_server


@pytest.fixture
async def url(redis: Redis) -> AsyncIterator[str]:
    """Serve a console without a worker, over a lane with messages and a queue with elements."""
    configuration = console_settings(CONFIG.replace("TOKEN", OPERATOR).replace("VIEWER", VIEWER))
    lane = Lane(redis, "relay", "hook", configuration.providers["hook"], "w1")
    payload = b'{"body": {"text": 1}, "secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]}'
    await lane.enqueue([a_message(name, group=name, payload_json=payload) for name in ("waiting", "other")])
    await redis.rpush("notifications", HOSTILE, '{"payload": {"body": 1}, "id": "queued"}')
    await redis.xadd("relay:feedback", {"provider": "hook", "target": HOSTILE, "reason": "410"})
    await fill(redis, lane)

    async def client() -> Client:
        return redis

    async with console_server(configuration, client) as found:
        yield found


async def fill(redis: Redis, lane: Lane) -> None:
    """Let every part of the documents have something in it."""
    history = encode([Attempt(1_800_000_000.0, 503, HOSTILE, "web-1")])
    dead: Any = {
        "ticket": 1,
        "record": pack(a_message("dead", group="g", collapse_key="c")),
        "reason": HOSTILE,
    }
    await redis.xadd(lane.keys.part("dead"), {**dead, "status": 503, "attempts": 8, "history": history})
    await redis.xadd(queue_stream("relay", "notifications"), {"raw": "{", "reason": "not JSON"})
    failure = ReloadFailure("relay.yaml:1:1: queues: …", 1, 1_800_000_000.0)
    info = WorkerInfo("web-1", "web", "h", 4711, "0.1.0", time.time(), lanes=("hook",), settings="abc")
    await Fleet(redis, "relay").heartbeat(
        msgspec.structs.replace(info, deployment=Deployment("web-0", 2, failure), vitals=Vitals(0.1, 9, 1))
    )
    await lane.pause(Pause(at=time.time(), until=time.time() + 3600, by="ann", reason=HOSTILE))
    order = Override.of(parse_rates("50/s"), until=time.time() + 3600, by="ann", reason=HOSTILE)
    await set_override(redis, "relay", "hook", order)
    minute = int(time.time()) // 60 * 60
    counts: Any = {
        "o:delivered": 3,
        "o:unregistered": 2,
        "s:200": 3,
        "r:refused": 1,
        "d:10": 3,
        "q:9": 3,
    }
    for unit, start in (("minute", minute), ("hour", minute // 3600 * 3600)):
        await redis.hset(lane.keys.statistics(unit, start), mapping=counts)
    await redis.hset(lane.keys.part("control"), mapping={"delivered": 3, "unregistered": 2})
    hold = msgspec.msgpack.encode(["open", 1_800_000_000_000, 1_800_000_001_000, HOSTILE])
    await redis.xadd(lane.keys.part("holds"), {"hold": hold}, id=f"{minute * 1000}-0")
    await audit.record(redis, "relay", AuditEntry("rate", "ann", "hook", why=HOSTILE, until=1.0))


def test_every_answer_and_each_of_its_fields_has_a_schema() -> None:
    document = openapi_document(ROUTES)
    for route in ROUTES:
        responses = document["paths"][f"/api/v1{route.path}"][route.method.lower()]["responses"]
        assert {"200", "202"} & responses.keys(), route.path
        for status in route.documents:
            assert responses[status]["content"]["application/json"]["schema"] != {}
    for name, schema in document["components"]["schemas"].items():
        assert schema["properties"], name
        assert {} not in schema["properties"].values(), name


@pytest.mark.parametrize(("token", "role"), [(OPERATOR, "operator"), (VIEWER, "viewer")])
async def test_every_answer_conforms_to_the_document(url: str, token: str, role: str) -> None:
    schema = schemathesis.openapi.from_dict(openapi_document(ROUTES))
    faults: list[str] = []

    def ask_all() -> None:
        results: Iterable[Any] = schema.get_all_operations()
        for operation in [result.ok() for result in results]:

            @given(case=operation.as_strategy(), data=st.data())
            @settings(
                max_examples=REQUESTS,
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            def ask(case: Any, data: st.DataObject) -> None:
                for name in case.path_parameters or {}:
                    if name in NAMES and data.draw(st.booleans()):
                        case.path_parameters[name] = quote(data.draw(st.sampled_from(NAMES[name])), safe="")
                response = case.call(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60)
                case.validate_response(response, checks=CHECKS)
                if role == "viewer" and case.method == "POST":
                    assert response.status_code == 403

            try:
                ask()
            except (Exception, BaseExceptionGroup) as error:
                faults.append(f"{operation.label}: {error!r}")

    await asyncio.to_thread(ask_all)
    assert faults == []

"""The API answers every request as its OpenAPI document says: generated requests on a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

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
from relay.admin.host import Host
from relay.admin.server import Admin
from relay.engine.configured_intake import ConfiguredIntake
from relay.provider import AdapterOptions, discover
from relay.redis_client.client import Client
from relay.settings.load import loads
from relay.store.deployment import Deployment
from relay.store.lane import Lane
from testing.builders import a_message
from testing.console_world import HOSTILE, OPERATOR, VIEWER
from testing.ports import free_port
from testing.redis_server import RedisServer

REQUESTS = 5
"""The number of requests for each operation."""

NAMES = {
    "provider": ["hook", HOSTILE],
    "queue": ["notifications", HOSTILE],
    "id": ["waiting", HOSTILE],
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
    port = free_port()
    text = CONFIG.replace("PORT", str(port)).replace("TOKEN", OPERATOR).replace("VIEWER", VIEWER)
    configuration = loads(text, Path("relay.yaml"), AdapterOptions(discover()))
    lane = Lane(redis, "relay", "hook", configuration.providers["hook"], "w1")
    payload = b'{"body": {"text": 1}, "secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]}'
    await lane.enqueue([a_message(name, group=name, payload_json=payload) for name in ("waiting", "other")])
    await redis.rpush("notifications", HOSTILE, '{"payload": {"body": 1}, "id": "queued"}')
    await redis.xadd("relay:feedback", {"provider": "hook", "target": HOSTILE, "reason": "410"})

    async def client() -> Client:
        return redis

    admin = Admin(
        configuration,
        client,
        lambda: Host(Deployment(), ()),
        partial(ConfiguredIntake, settings=configuration),
    )
    assert admin.open()
    serving = asyncio.create_task(admin.run())
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        serving.cancel()
        await asyncio.wait({serving})


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

"""Groups of a lane: an endpoint in trouble delays only its own messages."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from testing.receiver import Answer, Receiver, receiving
from testing.redis_server import RedisServer
from testing.relay_process import relay, worker, write_config

EACH = 60
"""Messages for each endpoint."""


def push(url: str) -> list[str]:
    return [json.dumps({"payload": {"url": f"{url}/in", "body": {"n": number}}}) for number in range(EACH)]


def numbers(receiver: Receiver) -> list[int]:
    return sorted(json.loads(request.body)["n"] for request in receiver.requests)


@contextmanager
def refusing() -> Iterator[str]:
    """The URL of an endpoint that refuses connections: its port is taken, and nobody listens."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@asynccontextmanager
async def hanging() -> AsyncIterator[str]:
    """The URL of an endpoint that never answers."""
    async with receiving() as receiver:
        receiver.gate.clear()
        yield receiver.url


@asynccontextmanager
async def throttling() -> AsyncIterator[str]:
    """The URL of an endpoint that asks to wait for an hour."""
    async with receiving() as receiver:
        receiver.answer = lambda request: Answer(429, headers={"retry-after": "3600"})
        yield receiver.url


@pytest.mark.parametrize(
    "options",
    [{}, {"rate_per": "host", "rate": "200/s"}],
    ids=["default settings", "rate_per host"],
)
async def test_healthy_endpoints_get_their_messages_while_others_refuse_hang_and_throttle(
    tmp_path: Path, redis: Redis, redis_server: RedisServer, options: dict[str, Any]
) -> None:
    hook = {"type": "webhook", "allow_private": True, **options}
    config = write_config(tmp_path, redis_server.url, {"hook": hook}, shutdown_timeout="1s")
    async with AsyncExitStack() as stack:
        sick = [
            stack.enter_context(refusing()),
            await stack.enter_async_context(hanging()),
            await stack.enter_async_context(throttling()),
        ]
        healthy = [await stack.enter_async_context(receiving()) for _ in range(7)]
        for url in (*sick, *(receiver.url for receiver in healthy)):
            await redis.rpush("notifications", *push(url))
        async with worker(config):
            # Nothing cures the others meanwhile.
            for receiver in healthy:
                await receiver.until(EACH)
            (lane,) = (await relay("status", "--json", "-c", str(config))).json["lanes"]
    assert [numbers(receiver) for receiver in healthy] == [list(range(EACH))] * len(healthy)
    assert lane["state"] == "running"
    left = sum(lane[place] for place in ("waiting", "delayed", "in_flight", "dead"))
    assert left == EACH * len(sick), "messages of the endpoints in trouble are lost"

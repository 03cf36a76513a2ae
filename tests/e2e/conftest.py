"""Fixtures of the end-to-end tests: a receiver, and a configuration that points to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from testing.receiver import Receiver, receiving
from testing.redis_server import RedisServer

PUSHER = {"type": "pusher", "app_id": "3", "key": "278d425bdf160c739803", "secret": "7ad3773142a6692b25b8"}
WEBHOOK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture(scope="session")
def redis_server(newest_redis_server: RedisServer) -> RedisServer:
    return newest_redis_server


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as running:
        yield running


def pusher(receiver: Receiver, **fields: Any) -> dict[str, Any]:
    """A Pusher provider whose server is the receiver."""
    return {**PUSHER, "url": receiver.url, **fields}


def webhook(receiver: Receiver, **fields: Any) -> dict[str, Any]:
    """A webhook provider that posts to the receiver."""
    return {"type": "webhook", "url": f"{receiver.url}/hook", "secret": WEBHOOK_SECRET, **fields}

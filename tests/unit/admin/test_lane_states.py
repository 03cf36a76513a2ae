"""The metrics of a lane show each state that it can have."""

from __future__ import annotations

import asyncio
import re
import time
from functools import partial

import pytest
from aiohttp import ClientError, ClientSession
from redis.asyncio import Redis

from relay.admin.host import Host
from relay.admin.server import Admin
from relay.engine.configured_intake import ConfiguredIntake
from relay.settings.models import AdminSettings, QueueSettings, Settings
from relay.settings.options import ProviderOptions
from relay.store.deployment import Deployment
from relay.store.keys import LaneKeys
from relay.store.states import State
from testing.ports import free_port


async def metrics(redis: Redis) -> str:
    port = free_port()
    settings = Settings(
        queues=[QueueSettings(name="q")],
        providers={"hook": ProviderOptions(type="webhook")},
        admin=AdminSettings(listen=f"127.0.0.1:{port}"),
    )

    async def client() -> Redis:
        return redis

    serving = asyncio.create_task(
        Admin(
            settings, client, lambda: Host(Deployment(), []), partial(ConfiguredIntake, settings=settings)
        ).run()
    )
    try:
        async with asyncio.timeout(120), ClientSession() as session:
            while True:
                try:
                    async with session.get(f"http://127.0.0.1:{port}/metrics/fleet") as answer:
                        return await answer.text()
                except ClientError:  # not open yet
                    await asyncio.sleep(0.01)
    finally:
        serving.cancel()
        await asyncio.wait({serving})


@pytest.mark.parametrize("state", State, ids=str)
async def test_a_lane_has_exactly_one_state_in_the_metrics(redis: Redis, state: State) -> None:
    control = LaneKeys.of("relay", "hook").part("control")
    match state:
        case State.RUNNING:
            pass
        case State.PAUSED:
            await redis.hset(control, "paused", "1")
        case _:
            until = round((time.time() + 3600) * 1000)
            await redis.hset(control, mapping={"state": state.value, "hold": until})
    shown = re.findall(r'relay_lane_state\{provider="hook",state="(\w+)"\} 1\.0', await metrics(redis))
    assert shown == [state.value]

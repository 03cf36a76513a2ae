"""The parts of one fetch for several lanes, on a real Redis: each lane has its own fate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from relay.engine.direct_parts import DirectParts, PartsTuning
from relay.engine.dispatcher import Dispatcher
from relay.errors import StoreError
from relay.message import LARGE, Message
from relay.store.claims import Claim, Hold
from relay.store.many_lanes import ManyLanes, Part
from testing.builders import a_lane, options, plain_message
from testing.fake_provider import FakeProvider

LANES = ("a", "b", "c")


class Scene:
    """Dispatchers that have found their lanes empty."""

    def __init__(self, client: Redis, tuning: PartsTuning) -> None:
        self.lanes = {name: a_lane(client, name=name) for name in LANES}
        self.providers = {name: FakeProvider(options()) for name in LANES}
        self.dispatchers = {
            name: Dispatcher(lane, self.providers[name], on_outbox=lambda: None)
            for name, lane in self.lanes.items()
        }
        self.direct = {name: dispatcher.direct for name, dispatcher in self.dispatchers.items()}
        self.many = ManyLanes(client)
        self.parts = DirectParts(self.many, self.lanes, self.direct, tuning)

    async def enqueue(self, sequence: str = "1", **more: Sequence[Message]) -> dict[str, StoreError | None]:
        """Enqueue two messages for each lane."""
        by_lane = {name: [plain_message(f"{name}{number}") for number in (1, 2)] for name in LANES}
        return await self.parts.enqueue({**by_lane, **more}, "batch:w1:q", sequence)

    async def until_open(self) -> None:
        async with asyncio.timeout(120):
            while not all(direct.accepts([plain_message("any")]) for direct in self.direct.values()):
                await asyncio.sleep(0.001)

    async def until_empty(self, *names: str) -> None:
        async with asyncio.timeout(120):
            for name in names or LANES:
                while await self.lanes[name].size():
                    await asyncio.sleep(0.001)

    @property
    def sent(self) -> Mapping[str, list[str]]:
        """The messages that each provider has got."""
        return {name: sorted(provider.messages) for name, provider in self.providers.items()}


ALL = {name: [f"{name}1", f"{name}2"] for name in LANES}


@asynccontextmanager
async def resting(client: Redis, **sizes: int) -> AsyncIterator[Scene]:
    scene = Scene(client, PartsTuning(**sizes))
    async with AsyncExitStack() as stack:
        for dispatcher in scene.dispatchers.values():
            running = asyncio.create_task(dispatcher.run())
            stack.push_async_callback(asyncio.wait, [running])
            stack.callback(running.cancel)
        await scene.until_open()
        yield scene


@pytest.mark.parametrize("sizes", [{}, {"lanes": 2}, {"messages": 1}, {"lanes": 1}])
async def test_the_parts_of_a_fetch_are_delivered_once(redis: Redis, sizes: dict[str, int]) -> None:
    async with resting(redis, **sizes) as scene:
        assert await scene.enqueue() == dict.fromkeys(LANES)
        await scene.until_empty()
        await scene.until_open()
        assert await scene.enqueue() == dict.fromkeys(LANES), "the reply was lost, and the fetch comes again"
        assert [await lane.size() for lane in scene.lanes.values()] == [0, 0, 0]
    assert scene.sent == ALL


async def test_a_part_that_may_not_go_at_once_leaves_the_others_alone(redis: Redis) -> None:
    async with resting(redis) as scene:
        await scene.lanes["b"].settle([], Hold(60.0, "429"))  # by another worker
        large = [Message(id="", queue="q", payload_json=b" " * LARGE)]
        assert await scene.enqueue(c=large) == {"a": None}
        await scene.until_empty("a")
    assert scene.sent == {**ALL, "b": [], "c": []}


async def test_a_lane_with_a_broken_key_leaves_the_others_alone(redis: Redis) -> None:
    await redis.rpush("relay:{b}:bodies", "no hash")
    async with resting(redis) as scene:
        found = await scene.enqueue()
        assert found.keys() == ALL.keys()
        assert (found["a"], found["c"]) == (None, None)
        assert "WRONGTYPE" in str(found["b"])
        await scene.until_empty("a", "c")
        assert scene.direct["b"].is_idle
    assert scene.sent == {**ALL, "b": []}


async def test_a_lane_that_the_user_may_not_use_leaves_it_to_a_script_for_each(redis: Redis) -> None:
    """Redis then refuses the whole script before it runs."""
    await redis.acl_setuser(
        "some", enabled=True, nopass=True, commands=["+@all"], keys=["relay:{a}:*", "relay:{c}:*"]
    )
    port = redis.connection_pool.connection_kwargs["port"]
    limited = Redis.from_url(f"redis://some:any@127.0.0.1:{port}", protocol=2)
    try:
        async with resting(redis) as scene:
            scene.parts = DirectParts(ManyLanes(limited), scene.lanes, scene.direct)
            assert await scene.enqueue() == {}
            assert all(direct.accepts([plain_message("any")]) for direct in scene.direct.values())
            assert [await lane.size() for lane in scene.lanes.values()] == [0, 0, 0]
    finally:
        await limited.aclose()
        await redis.acl_deluser("some")


@pytest.mark.parametrize("error", [StoreError("the connection broke"), asyncio.CancelledError()])
async def test_messages_whose_reply_was_lost_are_released_and_sent_once(
    redis: Redis, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    async with resting(redis) as scene:
        enqueue = scene.many.enqueue_into_flight

        async def lossy(parts: Sequence[Part], *of: Any) -> list[Sequence[Claim] | StoreError | None]:
            await enqueue(parts, *of)
            raise error

        monkeypatch.setattr(scene.many, "enqueue_into_flight", lossy)
        with pytest.raises(type(error)):
            await scene.enqueue()
        await scene.until_empty()
    assert scene.sent == ALL

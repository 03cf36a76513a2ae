"""Direct claims on a real Redis: a message goes from its queue to the provider once, in spite of all
failures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from relay.engine.dispatcher import Dispatcher
from relay.engine.parts import Parts, Tuning
from relay.errors import StoreError
from relay.message import Message
from relay.store.claims import Hold, Taken
from relay.store.lane import Lane
from relay.store.queue import Queue
from testing.builders import a_lane, a_message, options, plain_message
from testing.fake_provider import FakeProvider


class Scene:
    """A dispatcher that has found its lane empty, and the queue."""

    def __init__(self, redis: Redis, lane: Lane, provider: FakeProvider, dispatcher: Dispatcher) -> None:
        self.redis = redis
        self.lane = lane
        self.provider = provider
        self.dispatcher = dispatcher
        self.queue = Queue(redis, "relay", "q", "w1")

    async def take(self, text: str, message: Message | None = None) -> int | None:
        """Take a message as the fast path does. Returns None if it has to go through the lane."""
        await self.redis.rpush(self.queue.keys.staged, text)
        item = message or plain_message(text)
        if not self.dispatcher.direct.accepts([item]):
            return None
        return await self.dispatcher.direct.take(item, self.queue, text.encode())

    async def until_open(self) -> None:
        await until(lambda: self.dispatcher.direct.accepts([plain_message("any")]))

    async def until_empty(self) -> None:
        async with asyncio.timeout(120):
            while await self.lane.size():
                await asyncio.sleep(0.001)


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not done():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def resting(redis: Redis, **fields: Any) -> AsyncIterator[Scene]:
    """A dispatcher that waits for messages."""
    lane, provider = a_lane(redis, **fields), FakeProvider(options(**fields))
    parts = Parts(Tuning(first=0.001, longest=0.01))
    dispatcher = Dispatcher(lane, provider, on_outbox=lambda: None, parts=parts)
    running = asyncio.create_task(dispatcher.run())
    scene = Scene(redis, lane, provider, dispatcher)
    try:
        await scene.until_open()
        yield scene
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_single_elements_are_delivered_without_a_claim(redis: Redis) -> None:
    async with resting(redis) as scene:
        before = await redis.hget(scene.lane.keys.part("control"), "fencing_token")
        for number in range(5):
            assert await scene.take(str(number)) == 0
            await scene.provider.until(lambda: len(scene.provider.batches) == number + 1)  # noqa: B023
        await scene.until_empty()
    assert (before, scene.provider.messages) == (None, list("01234"))
    assert await redis.hget(scene.lane.keys.part("control"), "delivered") == b"5"


async def test_messages_beyond_the_slots_and_those_with_a_header_go_through_the_lane(redis: Redis) -> None:
    async with resting(redis, concurrency=2) as scene:
        assert await scene.take("named", a_message("named")) is None
        await redis.delete(scene.queue.keys.staged)
        scene.provider.gate.clear()
        assert [await scene.take(text) for text in "abc"] == [0, 0, None]
        await scene.lane.enqueue_direct(plain_message("c"), scene.queue, b"c")
        scene.dispatcher.notify()
        scene.provider.gate.set()
        await scene.until_empty()
    assert scene.provider.messages == ["a", "b", "c"]


async def test_a_lane_that_begins_to_hold_takes_nothing_more(redis: Redis) -> None:
    async with resting(redis) as scene:
        await scene.lane.settle([], Hold(60.0, "429"))  # by another worker
        assert await scene.take("a") is None
        await scene.lane.enqueue_direct(plain_message("a"), scene.queue, b"a")
        scene.dispatcher.notify()
        await until(lambda: not scene.dispatcher.direct.accepts([plain_message("any")]))
        assert scene.provider.messages == []
        await scene.lane.resume()
        scene.dispatcher.wake()
        await scene.until_empty()
    assert scene.provider.messages == ["a"]


@pytest.mark.parametrize("error", [StoreError("the connection broke"), asyncio.CancelledError()])
async def test_a_message_whose_reply_was_lost_is_released_and_sent_once(
    redis: Redis, error: BaseException
) -> None:
    async with resting(redis) as scene:
        take = scene.lane.take

        async def lossy(message: Message, queue: Queue, element: bytes) -> Taken | None:
            await take(message, queue, element)
            raise error

        scene.lane.take = lossy  # type: ignore[method-assign]
        with pytest.raises(type(error)):
            await scene.take("a")
        await scene.provider.until(lambda: scene.provider.messages == ["a"])
        await scene.until_empty()
        scene.lane.take = take  # type: ignore[method-assign]
        await scene.until_open()
        assert await scene.take("b") == 0
        await scene.until_empty()
    assert scene.provider.messages == ["a", "b"]


async def test_a_message_on_its_way_is_not_released_with_those_whose_reply_was_lost(redis: Redis) -> None:
    async with resting(redis) as scene:
        take, taken, go_on = scene.lane.take, asyncio.Event(), asyncio.Event()

        async def slow(message: Message, queue: Queue, element: bytes) -> Taken | None:
            found = await take(message, queue, element)
            taken.set()
            await go_on.wait()
            return found

        async def lost(message: Message, queue: Queue, element: bytes) -> Taken | None:
            await take(message, queue, element)
            raise StoreError("the connection broke")

        scene.lane.take = slow  # type: ignore[method-assign]
        one = asyncio.create_task(scene.take("one"))
        await taken.wait()
        scene.lane.take = lost  # type: ignore[method-assign]
        with pytest.raises(StoreError):
            await scene.take("two")
        for _ in range(20):  # the claimer would release both
            await redis.ping()
        assert await scene.lane.in_flight(["w1"]) == [2]
        go_on.set()
        assert await one == 0
        await scene.until_empty()
    assert sorted(scene.provider.messages) == ["one", "two"]


async def test_a_part_of_a_fetch_is_delivered_without_a_claim_unless_slots_are_short(redis: Redis) -> None:
    async with resting(redis, concurrency=4) as scene:
        direct, messages = scene.dispatcher.direct, [plain_message(text) for text in "abc"]
        assert direct.accepts(messages)
        assert await direct.enqueue(messages, "batch:w1:q", "1")
        await scene.until_empty()
        await scene.until_open()
        assert not direct.accepts([plain_message("more")] * 5)
        assert await direct.enqueue(messages, "batch:w1:q", "1"), (
            "the reply was lost, and the fetch comes again"
        )
        await scene.lane.enqueue([plain_message("waits")])  # by another worker
        assert not await direct.enqueue([plain_message("d")], "batch:w1:q", "2")
        scene.dispatcher.notify()
        await scene.until_empty()
    assert sorted(scene.provider.messages) == ["a", "b", "c", "waits"]

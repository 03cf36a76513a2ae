"""Lanes at rest on a real Redis: their cost, counted in commands, and messages without a wake-up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from relay.engine.dispatcher import Dispatcher
from relay.engine.flusher import Flusher
from relay.engine.idle_lanes import IdleLanes
from relay.engine.recorder import LaneRecorder
from relay.store.lane import Lane
from relay.store.occupied import TOGETHER
from relay.store.recording import Policy, Recording
from relay.store.scripting import script
from testing.builders import a_message, options
from testing.fake_provider import FakeProvider

NAMES = [f"lane-{number}" for number in range(40)]


async def calls(redis: Redis, *names: str) -> int:
    """The number of such commands that succeeded: those for a script that is not loaded do not count."""
    stats: Mapping[str, Mapping[str, int]] = await redis.info("commandstats")
    found = [stats.get(f"cmdstat_{name}", {}) for name in names]
    return sum(each.get("calls", 0) - each.get("failed_calls", 0) for each in found)


async def scripts(redis: Redis) -> int:
    return await calls(redis, "evalsha", "eval")


@asynccontextmanager
async def serving(redis: Redis) -> AsyncIterator[tuple[IdleLanes, Mapping[str, FakeProvider]]]:
    """Dispatchers of many lanes that have found nothing."""
    providers = {name: FakeProvider(options()) for name in NAMES}
    dispatchers = {
        name: Dispatcher(Lane(redis, "relay", name, options(), "w1"), provider, on_outbox=lambda: None)
        for name, provider in providers.items()
    }
    before = await scripts(redis)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(dispatcher.run()) for dispatcher in dispatchers.values()]
        async with asyncio.timeout(120):
            while await scripts(redis) - before < len(NAMES):
                await asyncio.sleep(0.001)
        yield IdleLanes(redis, "relay", dispatchers), providers
        for task in running:
            task.cancel()


async def test_a_message_without_a_wake_up_is_found_and_empty_lanes_need_no_script(redis: Redis) -> None:
    async with serving(redis) as (idle_lanes, providers), asyncio.timeout(120):
        before = await scripts(redis)
        await idle_lanes.check()
        assert await scripts(redis) == before
        # By a process that dies before it wakes the others.
        await Lane(redis, "relay", NAMES[7], options(), "w2").enqueue([a_message("lost call")])
        await idle_lanes.check()
        await providers[NAMES[7]].until(lambda: len(providers[NAMES[7]].batches) == 1)
        assert not any(providers[name].batches for name in NAMES if name != NAMES[7])


async def test_a_thousand_idle_lanes_are_checked_by_a_few_commands(redis: Redis) -> None:
    lane = Lane(redis, "relay", "empty", options(), "w1")
    dispatcher = Dispatcher(lane, FakeProvider(options()), on_outbox=lambda: None)
    before = await calls(redis, "exists")
    await IdleLanes(redis, "relay", {f"lane-{number}": dispatcher for number in range(1000)}).check()
    assert await calls(redis, "exists") - before == 1000 / TOGETHER


async def test_samples_of_lanes_at_rest_are_few_and_a_lane_with_messages_does_not_wait_for_them(
    redis: Redis,
) -> None:
    await redis.script_load(script("record").text)
    recorders = {name: LaneRecorder(options(), "w1") for name in NAMES}
    recording = Recording(redis, "relay", dict.fromkeys(NAMES, Policy("w1", 0.0, 10)))
    clock = 0.0
    flusher = Flusher(recording, recorders, clock=lambda: clock)

    async def flush() -> int:
        nonlocal clock
        clock += 11
        before = await scripts(redis)
        await flusher.flush()
        return await scripts(redis) - before

    assert [await flush() for _ in range(3)] == [20, 20, 2], "each lane once, and then two at a time"
    lane = Lane(redis, "relay", NAMES[5], options(), "w1")
    dispatcher = Dispatcher(
        lane, FakeProvider(options()), on_outbox=lambda: None, recorder=recorders[NAMES[5]]
    )
    await lane.pause()
    await lane.enqueue([a_message("waits")])
    dispatcher.notify()
    assert [await flush() for _ in range(3)] == [3, 3, 3]

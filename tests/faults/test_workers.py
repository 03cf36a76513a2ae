"""Workers that freeze, come and go under load."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

from redis.asyncio import Redis

from testing import adapter
from testing.receiver import Answer, Receiver
from testing.relay_process import Worker
from testing.site import Site


def webhook(receiver: Receiver, **fields: Any) -> dict[str, Any]:
    return {"type": "webhook", "url": f"{receiver.url}/hook", **fields}


def message(number: int) -> str:
    return json.dumps({"id": f"m{number}", "reply_to": "receipts:ends", "payload": {"body": {"n": number}}})


def numbers(receiver: Receiver) -> Counter[int]:
    return Counter(json.loads(request.body)["n"] for request in receiver.requests)


async def ends(redis: Redis) -> Counter[tuple[str, str]]:
    texts = [json.loads(text) for text in await redis.lrange("receipts:ends", 0, -1)]
    return Counter((text["id"], text["outcome"]) for text in texts)


async def test_a_frozen_worker_that_wakes_settles_nothing_that_was_handed_on(site: Site) -> None:
    """A worker freezes for longer than its lease while its requests are in flight. Others finish its work."""
    gate = asyncio.Event()

    site.configure({"hook": site.webhook(timeout="60s")})
    await site.push(*(message(number) for number in range(20)))
    site.receiver.gate = gate
    async with site.worker() as frozen:
        await site.receiver.until(20)
        frozen.signal(signal.SIGSTOP)
        async with site.worker() as living:
            recovered = await living.says("recovered the messages of a dead worker")
            assert recovered["messages"] == {"hook": 20}
            await site.receiver.until(40)
            # The second ones are answered for good, the first ones would never be taken again.
            site.receiver.answer = lambda request: Answer(400)
            gate.set()
            while sum((await ends(site.redis)).values()) < 20:
                await asyncio.sleep(0.01)
            frozen.signal(signal.SIGCONT)
            await frozen.says("too late")
    assert set(await ends(site.redis)) == {(f"m{number}", "rejected") for number in range(20)}
    assert set((await ends(site.redis)).values()) == {1}, "one receipt each"
    assert len(await site.json("dead", "list", "hook")) == 20
    status = await site.json("status")
    assert (status["lanes"][0]["waiting"], status["lanes"][0]["in_flight"]) == (0, 0)


async def test_rolling_restarts_under_load_lose_and_double_nothing(site: Site) -> None:
    site.configure({"hook": site.webhook(rate="400/s")})
    total, pushed = 2400, 0

    async def produce() -> None:
        nonlocal pushed
        while pushed < total:
            await site.push(*(message(pushed + number) for number in range(20)))
            pushed += 20
            await asyncio.sleep(0.04)

    async with AsyncExitStack() as stack:
        producing = asyncio.create_task(produce())
        fleet: list[Worker] = [await stack.enter_async_context(site.worker()) for _ in range(3)]
        for _ in range(5):
            await site.receiver.until(min(total - 200, len(site.receiver.requests) + 150))
            # One more comes before one goes, as a deployment does it.
            fleet.append(await stack.enter_async_context(site.worker()))
            oldest = fleet.pop(0)
            oldest.signal(signal.SIGTERM)
            assert await oldest.ended() == 0
        await producing
        await site.receiver.until(total)
    await site.drain()
    assert numbers(site.receiver) == Counter(range(total)), "each exactly once"
    assert await ends(site.redis) == Counter({(f"m{number}", "delivered"): 1 for number in range(total)})


DEADLY = """
import signal
from relay.engine.router import Router

route = Router.route

def deadly(self, element):
    if b"deadly" in element:
        os.kill(os.getpid(), signal.SIGKILL)
    return route(self, element)

Router.route = deadly
"""
"""The kernel ends a worker while it reads a certain element, as it does when memory is short."""


async def test_an_element_that_kills_three_workers_is_a_dead_letter_and_the_others_arrive(site: Site) -> None:
    installed = adapter.install(site.folder, DEADLY)
    providers = {"hook": site.webhook(), "trouble": {"type": "trouble"}}
    site.configure(providers)
    deadly = json.dumps({"id": "deadly", "payload": {}})
    await site.push(message(0), deadly, message(1), message(2))
    codes: list[int] = []
    while -signal.SIGKILL in codes[-1:] or len(codes) == 0:
        assert len(codes) < 6, "the element kills each worker"
        codes.append((await site.relay("run", "--until-empty", **installed)).code)
    assert codes == [-signal.SIGKILL] * 3 + [0]
    assert numbers(site.receiver) == Counter(range(3)), "each exactly once"
    (letter,) = await site.json("dead", "list", "notifications", **installed)
    assert letter["raw"] == deadly
    assert letter["reason"] == "poison: 3 workers died while they took it from the queue"
    status = await site.json("status", **installed)
    assert [queue["waiting"] for queue in status["queues"]] == [0]

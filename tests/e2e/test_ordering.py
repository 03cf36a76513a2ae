"""Messages that share an ordering key are sent one at a time and in order, in spite of all failures of the
fleet."""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict
from contextlib import AsyncExitStack

import pytest

from testing.receiver import Answer, Received
from testing.relay_process import Worker
from testing.site import Site

KEYS, EACH, WORKERS, KILLS = 200, 8, 5, 6


@pytest.mark.parametrize("seed", [7])
async def test_no_inversion_over_five_workers_with_faults_and_kills(site: Site, seed: int) -> None:
    rng = random.Random(seed)
    refused = {(rng.randrange(KEYS), rng.randrange(EACH)) for _ in range(40)}

    def answer(request: Received) -> Answer:
        body = json.loads(request.body)
        if (body["key"], body["n"]) in refused:
            return Answer(400)
        return Answer(rng.choices([200, 500, 503], [94, 3, 3])[0])

    site.receiver.answer = answer
    # So slow that the run lasts beyond the kills.
    fields = {"rate": "250/s", "retry": {"base": "100ms", "attempts": 50}, "breaker": {"failures": 10_000}}
    site.configure({"hook": site.webhook(**fields)})
    messages = [
        {
            "id": f"{key}.{n}",
            "ordering_key": f"user-{key}",
            "reply_to": "receipts:ends",
            "payload": {"body": {"key": key, "n": n}},
        }
        for n in range(EACH)
        for key in range(KEYS)
    ]
    await site.push(*messages)
    async with AsyncExitStack() as stack:
        fleet: list[Worker] = [await stack.enter_async_context(site.worker()) for _ in range(WORKERS)]
        for kill in range(KILLS):
            await site.receiver.until((kill + 1) * KEYS * EACH // (KILLS + 2))
            victim = fleet.pop(rng.randrange(len(fleet)))
            victim.process.kill()
            await victim.ended()
            if kill % 2:
                fleet.append(await stack.enter_async_context(site.worker()))
    await site.drain()

    attempts: dict[int, list[int]] = defaultdict(list)
    for request in site.receiver.requests:
        body = json.loads(request.body)
        attempts[body["key"]].append(body["n"])
    assert {key: sorted(set(numbers)) for key, numbers in attempts.items()} == {
        key: list(range(EACH)) for key in range(KEYS)
    }
    inverted = {key: numbers for key, numbers in attempts.items() if numbers != sorted(numbers)}
    assert inverted == {}, "a later message of a key went before an earlier one"

    ends = [json.loads(text) for text in await site.redis.lrange("receipts:ends", 0, -1)]
    assert sorted(str(end["id"]) for end in ends) == sorted(str(message["id"]) for message in messages)
    rejected = {end["id"]: end["reason"] for end in ends if end["outcome"] == "rejected"}
    assert set(rejected) == {f"{key}.{n}" for key, n in refused}
    assert all(reason.endswith("; its ordering_key goes on without it") for reason in rejected.values())
    by_key = defaultdict(list)
    for end in ends:
        by_key[end["id"].partition(".")[0]].append(int(end["id"].partition(".")[2]))
    assert all(numbers == list(range(EACH)) for numbers in by_key.values()), "receipts come in order"


async def test_the_next_message_of_a_key_goes_as_soon_as_the_one_before_it_is_cancelled(site: Site) -> None:
    site.configure({"hook": site.webhook()})
    async with site.worker():
        await site.push(
            {"id": "first", "ordering_key": "k", "delay": "1h", "payload": {"body": 1}},
            {"id": "second", "ordering_key": "k", "payload": {"body": 2}},
        )
        async with asyncio.timeout(120):
            while (await site.json("status"))["lanes"][0]["waiting"] < 1:
                pass
        assert (await site.relay("cancel", "hook", "first")).code == 0
        # A worker that is not woken claims again after 15 to 30 s.
        await site.receiver.until(1, seconds=12)
        assert [request.headers["webhook-id"] for request in site.receiver.requests] == ["second"]

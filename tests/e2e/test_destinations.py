"""`rate_per: host`: a destination at its limit delays only its own messages."""

from __future__ import annotations

import json
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from testing.receiver import Answer, Receiver, receiving
from testing.redis_server import RedisServer
from testing.relay_process import relay, worker, write_config
from testing.site import Site


def push(receiver: Receiver, numbers: range) -> list[str]:
    return [
        json.dumps({"payload": {"url": f"{receiver.url}/in", "body": {"n": number}}}) for number in numbers
    ]


def config_of(folder: Path, server: RedisServer, **fields: Any) -> Path:
    hook = {"type": "webhook", "allow_private": True, "rate_per": "host", **fields}
    return write_config(folder, server.url, {"hook": hook})


async def test_a_throttling_destination_holds_its_own_messages_only(site: Site) -> None:
    async with AsyncExitStack() as stack:
        busy, idle = [await stack.enter_async_context(receiving()) for _ in range(2)]
        busy.answer = lambda request: Answer(429, headers={"retry-after": "1"})
        config = config_of(site.folder, site.server)
        await site.push(*push(busy, range(300)), *push(idle, range(300)))
        async with worker(config):
            await idle.until(300)
            (lane,) = (await relay("status", "--json", "-c", str(config))).json["lanes"]
            assert (lane["state"], lane["delivered"]) == ("running", 300)
            refused = len(busy.requests)
            first = busy.requests[0].at
            at_once = [request for request in busy.requests if request.at < first + 1]
            assert len(at_once) <= 64 + 20, "the requests in flight at the first 429"
            busy.answer = lambda request: Answer()
            await busy.until(refused + 300)
    bodies = [json.loads(request.body)["n"] for request in busy.requests[refused:]]
    assert sorted(bodies) == list(range(300)), "no attempt was spent, none is lost"


@pytest.mark.parametrize("workers", [1, 3])
async def test_the_rate_is_each_one_s_own_over_the_fleet(site: Site, workers: int) -> None:
    rate, burst, each = 50, 5, 60
    async with AsyncExitStack() as stack:
        receivers = [await stack.enter_async_context(receiving()) for _ in range(4)]
        config = config_of(site.folder, site.server, rate=f"{rate}/s", burst=burst)
        elements = [element for receiver in receivers for element in push(receiver, range(each))]
        for _ in range(workers):
            await stack.enter_async_context(worker(config))
        started = time.monotonic()
        await site.push(*elements)
        for receiver in receivers:
            await receiver.until(each)
    for receiver in receivers:
        times = [request.at for request in receiver.requests]
        assert len(times) == each
        # From the start on, because a busy machine can only add to that time.
        assert times[-1] - started > (each - burst) / rate - 0.1
    # All at their own pace at the same time, and not one after the other.
    firsts = [receiver.requests[0].at for receiver in receivers]
    lasts = [receiver.requests[-1].at for receiver in receivers]
    assert max(firsts) < min(lasts)

"""Cancelling messages whose ids are in no index, because applications have not chosen them."""

from __future__ import annotations

import time
from typing import Any

import pytest
from redis.asyncio import Redis

from relay.message.fan_out import FanOut, split
from relay.operations.lanes import cancel
from relay.settings.models import QueueSettings, Settings
from relay.store import dead
from relay.store.dead import Revived
from relay.store.fleet import Fleet, WorkerInfo
from relay.store.settlement import DeadLettered
from testing.builders import a_lane, a_message, options, plain_message, texts
from testing.streams import entries_of


async def take_back(redis: Redis, message_id: str, **fields: Any) -> str:
    queue = QueueSettings(name="notifications", provider="test")
    settings = Settings(queues=[queue], providers={"test": options(**fields)})
    return await cancel(redis, settings, "test", message_id, because="a call", who="ada@web-1")


@pytest.mark.parametrize("groups", [None, {}], ids=["without groups", "with groups"])
@pytest.mark.parametrize("group", ["", "a"], ids=["without a group", "of a group"])
async def test_a_message_with_an_id_of_relay_is_cancelled(redis: Redis, groups: Any, group: str) -> None:
    fields = {} if groups is None else {"groups": groups}
    lane = a_lane(redis, **fields)
    messages = [plain_message(text, group=group) for text in ("one", "two", "three")]
    await lane.enqueue(messages)
    assert await take_back(redis, messages[1].id, **fields) == "cancelled"
    assert await take_back(redis, messages[1].id, **fields) == "unknown"
    assert texts((await lane.claim(10)).claims) == ["one", "three"]
    assert await redis.hget("relay:{test}:control", "cancelled") == b"1"


async def test_a_message_with_an_id_of_relay_that_is_in_flight_stays(redis: Redis) -> None:
    info = WorkerInfo("w1", "web-1", "host", 4711, "0.1.0", time.time(), lanes=("test",))
    await Fleet(redis, "relay").heartbeat(info)
    lane = a_lane(redis)
    message = plain_message("one")
    await lane.enqueue([message])
    assert texts((await lane.claim(1)).claims) == ["one"]
    assert await take_back(redis, message.id) == "in flight"
    assert await lane.size() == 1


async def test_a_target_of_a_fan_out_is_cancelled_alone(redis: Redis) -> None:
    lane = a_lane(redis)
    payload = b'{"targets":["t0","t1","t2"],"text":"news"}'
    item = split(a_message("news", payload_json=payload), "to", 3)
    assert isinstance(item, FanOut)
    await lane.enqueue([item])
    (expansion,) = (await lane.claim(1)).expansions
    await lane.expand(expansion)
    assert await take_back(redis, "news#1") == "cancelled"
    claims = (await lane.claim(10)).claims
    assert [claim.message.id for claim in claims] == ["news#0", "news#2"]


async def test_a_target_that_is_sent_again_is_cancelled(redis: Redis) -> None:
    lane = a_lane(redis)
    item = split(a_message("news", payload_json=b'{"targets":["t0","t1"],"text":"news"}'), "to", 2)
    assert isinstance(item, FanOut)
    await lane.enqueue([item])
    (expansion,) = (await lane.claim(1)).expansions
    await lane.expand(expansion)
    claims = (await lane.claim(10)).claims
    refusals = [
        DeadLettered(each.ticket, each.fencing_token, "400", 400, b"", 1, answered=True) for each in claims
    ]
    await lane.settle(refusals)
    letters = [entry.decode() for entry, _ in await entries_of(redis, lane.keys.part("dead"))]
    assert await dead.revive(redis, "relay", "test", letters) == Revived(2, 0, 0)
    assert await take_back(redis, "news#1") == "cancelled"
    assert [claim.message.id for claim in (await lane.claim(10)).claims] == ["news#0"]


async def test_a_message_that_replaced_the_found_one_stays(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.enqueue([plain_message("old"), a_message("a")])
    ticket = int((await redis.hkeys("relay:{test}:bodies"))[0])
    assert await lane.cancel("another id", [], ticket) == "unknown"
    assert await lane.size() == 2

"""Sending a waiting message next, on every installed Redis and on a cluster."""

from __future__ import annotations

import time
from typing import Any

import pytest
from redis.asyncio import Redis

from relay.engine.policy import Policy
from relay.errors import UsageError
from relay.message.fan_out import split
from relay.operations.lanes import count_before_next, send_next
from relay.outcome import Outcome, Retry, Unauthorised
from relay.settings.models import QueueSettings, Settings
from relay.store import audit
from relay.store.fleet import Fleet, WorkerInfo
from relay.store.lane import Lane
from testing.builders import a_lane, a_message, options, plain_message, texts


def settings(**fields: Any) -> Settings:
    return Settings(
        queues=[
            QueueSettings(name="notifications", provider="test"),
            QueueSettings(name="own", scope="queue"),
        ],
        providers={"test": options(**fields)},
    )


async def send(redis: Redis, message_id: str, **fields: Any) -> int:
    return await send_next(redis, settings(**fields), "test", message_id, because="a call", who="ada@web-1")


async def settle(lane: Lane, outcome: Outcome) -> None:
    policy = Policy(options())
    await lane.settle([policy.settle(claim, outcome) for claim in (await lane.claim(1)).claims])


@pytest.mark.parametrize("order", ["fifo", "lifo"])
async def test_a_message_that_is_sent_next_goes_before_all_others_and_only_once(
    redis: Redis, order: Any
) -> None:
    lane = a_lane(redis, order=order)
    await lane.enqueue([a_message("urgent", priority="high"), a_message("a"), a_message("b"), a_message("c")])
    assert await send(redis, "b", order=order) == 0
    assert texts((await lane.claim(1)).claims) == ["b"]
    assert sorted(texts((await lane.claim(9)).claims)) == ["a", "c", "urgent"]
    assert await lane.size() == 4
    (entry,) = await audit.read(redis, "relay")
    assert (entry.action, entry.provider, entry.why) == ("send-next", "test", "b: a call")


async def test_the_ids_keys_and_attempts_of_a_message_go_with_it(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.enqueue([a_message("first")])
    await settle(lane, Retry("500"))
    await lane.enqueue([
        a_message("a"),
        a_message("keyed", ordering_key="k", collapse_key="c"),
        a_message("later", ordering_key="k"),
    ])  # fmt: skip
    assert await send(redis, "keyed") == 0
    assert await send(redis, "first") == 0, "it waits for its next attempt no longer"
    assert (await lane.enqueue([a_message("keyed")])).duplicates == 1
    assert (await lane.enqueue([a_message("newer", ordering_key="k", collapse_key="c")])).collapsed == 1
    claims = (await lane.claim(9)).claims
    assert texts(claims) == ["first", "newer", "a"]
    assert claims[0].message.attempts == 1
    assert await lane.cancel("first", ["w1"]) == "in flight"


async def test_a_message_of_a_group_goes_first_within_its_group(redis: Redis) -> None:
    fields: dict[str, Any] = {"groups": {"by": "message"}}
    lane = a_lane(redis, **fields)
    await lane.enqueue([a_message(f"{group}{number}", group=group) for group in "xy" for number in range(3)])
    await lane.enqueue([a_message("x-high", group="x", priority="high")])
    for name, before in (("y2", 0), ("x2", 1), ("x-high", 0)):
        assert await count_before_next(redis, settings(**fields), "test", name) == before
    assert await lane.size() == 7
    assert await audit.read(redis, "relay") == []
    assert await send(redis, "y2", **fields) == 0
    assert await send(redis, "x2", **fields) == 1, "one of high priority was there before"
    assert await count_before_next(redis, settings(**fields), "test", "x2") == 1
    claimed = texts((await lane.claim(9)).claims)
    assert sorted(claimed[:3]) == ["x-high", "x2", "y2"]
    assert claimed.index("x-high") < claimed.index("x2")
    assert sorted(claimed[3:]) == ["x0", "x1", "y0", "y1"]


async def test_a_message_that_relay_has_named_or_that_has_an_own_scope_is_sent_next(redis: Redis) -> None:
    lane = a_lane(redis)
    unnamed = plain_message("unnamed")
    await lane.enqueue([a_message("a"), unnamed, a_message("scoped", scope="own")])
    await send(redis, "scoped")
    await send(redis, unnamed.id)
    assert texts((await lane.claim(2)).claims) == ["unnamed", "scoped"]


async def test_a_message_that_cannot_be_sent_next_stays_with_a_reason(redis: Redis) -> None:
    lane = a_lane(redis)
    fan_out = split(a_message("many", payload_json=b'{"targets":["1","2"]}'), "text", 1)
    scheduled = a_message("scheduled", deliver_at=time.time() + 3600)
    await lane.enqueue(
        [a_message("out"), a_message("k1", ordering_key="k"), a_message("k2", ordering_key="k")]
    )
    await lane.enqueue([scheduled, fan_out])
    assert texts((await lane.claim(1)).claims) == ["out"]
    info = WorkerInfo("w1", "web-1", "host", 4711, "0.1.0", time.time(), lanes=("test",))
    await Fleet(redis, "relay").heartbeat(info)
    for name, reason in {
        "nothing": "does not wait in this lane",
        "out": "a worker sends it already",
        "k2": "ordering key comes first",
        "scheduled": "scheduled for a later time",
        "many": "many targets",
    }.items():
        with pytest.raises(UsageError, match=reason):
            await send(redis, name)
    assert await audit.read(redis, "relay") == []
    await settle(lane, Unauthorised("401"))
    with pytest.raises(UsageError, match="to find the cause"):
        await send(redis, "k1")

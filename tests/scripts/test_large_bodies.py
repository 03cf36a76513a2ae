"""Large messages without a header: their records bypass the scripts, and nothing else differs."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import msgspec
import pytest
from redis.asyncio import Redis

from relay.errors import StoreError
from relay.message import LARGE, Message, parse_envelope
from relay.message.fan_out import split
from relay.redis_client.client import Client
from relay.redis_client.connect import open_client
from relay.store.lane import Lane
from relay.store.settlement import DeliveredHeaderless, RetryLater
from testing.builders import a_lane, a_message, plain_message, texts
from testing.redis_cluster import RedisCluster
from testing.redis_server import RedisServer


def large(text: str, **fields: str) -> Message:
    payload = json.dumps({"text": text, "filler": LARGE * "."}).encode()
    return msgspec.structs.replace(plain_message(text, **fields), payload_json=payload)


async def serve(lane: Lane, wanted: int = 100) -> list[str]:
    """Claim and deliver; return the texts."""
    claims = (await lane.claim(wanted)).claims
    await lane.settle([DeliveredHeaderless(claim.ticket, claim.fencing_token) for claim in claims])
    return texts(claims)


async def keys_left(redis: Client) -> set[str]:
    keys: Any = (
        await redis.keys("relay:*")
        if isinstance(redis, Redis)
        else await redis.keys("relay:*", target_nodes="primaries")
    )
    return {key.decode().rpartition("}:")[2] for key in keys}


async def test_large_messages_keep_their_order_and_leave_nothing(redis: Client) -> None:
    lane = a_lane(redis)
    enqueued = await lane.enqueue([large(str(number)) for number in range(40)])
    assert (enqueued.accepted, enqueued.ready) == (40, 40)
    assert await serve(lane, 25) == [str(number) for number in range(25)]
    reply = await lane.claim(25)
    assert (texts(reply.claims), reply.reason, reply.wait) == ([str(n) for n in range(25, 40)], "empty", None)
    assert reply.held == 15
    assert all(claim.headerless for claim in reply.claims)
    await lane.settle([DeliveredHeaderless(claim.ticket, claim.fencing_token) for claim in reply.claims])
    assert (await lane.claim(1)).reason == "empty"
    assert await keys_left(redis) == {"control"}


async def test_large_and_small_messages_share_a_lane_in_their_order(redis: Client) -> None:
    lane = a_lane(redis)
    await lane.enqueue(
        [large("a"), plain_message("b"), large("c", priority="low"), large("d", priority="high")]
    )
    await lane.enqueue([plain_message("e"), plain_message("f")])
    await lane.enqueue([a_message("g"), large("h")])
    assert await serve(lane, 2) == ["d", "a"]
    claims = (await lane.claim(10)).claims
    assert texts(claims) == ["b", "e", "f", "g", "h", "c"]
    assert [claim.message.named for claim in claims] == [text == "g" for text in "befghc"]


async def test_a_batch_that_is_sent_again_counts_once(redis: Client) -> None:
    lane, other = a_lane(redis), a_lane(redis, worker="w2")
    for each, sequence, accepted in ((lane, "7", 2), (lane, "7", 0), (other, "7", 0), (lane, "8", 2)):
        enqueued = await each.enqueue([large("a"), large("b")], "batch:w1:q", sequence)
        assert enqueued.accepted == accepted
    assert await lane.size() == 4
    assert await serve(lane) == ["a", "b", "a", "b"]


@pytest.mark.parametrize("part", ["control", "ready:normal", "large", "bodies"])
async def test_a_key_of_a_wrong_type_keeps_large_messages_out_and_leaves_no_record(
    redis: Client, part: str
) -> None:
    if part == "large" and not isinstance(redis, Redis):
        pytest.skip("lanes of a cluster do not use it")
    lane = a_lane(redis)
    key = lane.keys.part(part)
    await redis.set(key, "text")
    with pytest.raises(StoreError, match="WRONGTYPE"):
        await lane.enqueue([large("a"), large("b")], "batch:w1:q", "7")
    if part != "bodies":
        assert await lane.size() == 0
    await redis.delete(key)
    await lane.enqueue([large("a"), large("b")], "batch:w1:q", "7")
    assert await serve(lane) == ["a", "b"]


@pytest.mark.parametrize("part", ["inflight:w1", "tries", "due", "bodies"])
async def test_a_key_of_a_wrong_type_stops_a_claim_before_it_moves_anything(redis: Client, part: str) -> None:
    lane = a_lane(redis)
    await lane.enqueue([large("a"), large("b")])
    key, saved = lane.keys.part(part), lane.keys.part("saved")
    if await redis.exists(key):
        await redis.rename(key, saved)
    await redis.set(key, "text")
    with pytest.raises(StoreError, match="WRONGTYPE"):
        await lane.claim(10)
    await redis.delete(key)
    if await redis.exists(saved):
        await redis.rename(saved, key)
    assert await serve(lane) == ["a", "b"]


async def test_a_large_message_that_waits_again_keeps_its_counters(redis: Client) -> None:
    lane = a_lane(redis)
    await lane.enqueue([large("a"), large("b"), large("c")])
    first = (await lane.claim(1)).claims[0]
    await lane.settle([RetryLater(first.ticket, first.fencing_token, 0, first.tries(attempts=1), "503")])
    again, *others = (await lane.claim(3)).claims
    assert (again.message.payload["text"], again.message.attempts, again.deliveries) == ("a", 1, 1)
    assert [claim.message.attempts for claim in others] == [0, 0]


async def test_a_delayed_message_sets_the_time_of_the_next_claim_of_large_ones(redis: Client) -> None:
    lane = a_lane(redis)
    await lane.enqueue([large("a"), large("b")])
    (claim,) = (await lane.claim(1)).claims
    await lane.settle(
        [RetryLater(claim.ticket, claim.fencing_token, 3_600_000, claim.tries(attempts=1), "503")]
    )
    reply = await lane.claim(10)
    assert (texts(reply.claims), reply.reason) == (["b"], "empty")
    assert 3000 < (reply.wait or 0) < 3601


async def test_a_worker_claims_the_same_message_whether_it_has_enqueued_it_or_not(
    redis: Client, server_url: str
) -> None:
    stranger = open_client(server_url)
    lane, other = a_lane(redis), a_lane(stranger, worker="w2")
    sent = [large("a", traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), large("b")]
    for _ in range(2):
        await lane.enqueue(sent)
        await other.enqueue([large("c")])
    mine, theirs = (await lane.claim(3)).claims, (await other.claim(3)).claims
    mine, theirs = mine[:2], theirs[:2]
    assert [claim.message for claim in mine] == [claim.message for claim in theirs] == sent
    await lane.release()
    await other.release()
    again = (await lane.claim(6)).claims
    assert sorted(texts(again)) == ["a", "a", "b", "b", "c", "c"], "released messages are read again"
    await stranger.aclose()


async def test_a_worker_that_waits_for_messages_does_not_read_its_own_large_ones_from_redis(
    redis: Client,
) -> None:
    if not isinstance(redis, Redis):
        pytest.skip("in a cluster, large messages go through the scripts")
    lane = a_lane(redis)
    await lane.enqueue([large("first")])
    assert await serve(lane) == ["first"]
    before = (await redis.info("stats"))["total_net_output_bytes"]
    for _ in range(20):
        assert await serve(lane) == []
        enqueuing = asyncio.create_task(lane.enqueue([large("a"), large("b")]))
        found: list[str] = []
        while len(found) < 2:
            found += await serve(lane)
        await enqueuing
    assert (await redis.info("stats"))["total_net_output_bytes"] - before < 20 * LARGE


async def test_a_claim_after_large_messages_returns_a_chunk_of_a_fan_out(redis: Client) -> None:
    lane, other = a_lane(redis), a_lane(redis, worker="w2")
    await lane.enqueue([large("a")])
    assert await serve(lane) == ["a"]
    await lane.enqueue([large("b")])
    assert await serve(other) == ["b"]
    element = b'{"payload": {"targets": ["1","2"], "text": "news"}}'
    await lane.enqueue([split(parse_envelope(element, "q", 0.0)[1], "to", 2)])
    expansions = [part for _ in range(3) for part in (await lane.claim(10)).expansions]
    assert [part.chunk for part in expansions] == [b'["1","2"]']


async def test_workers_of_two_versions_share_large_messages(redis: Client) -> None:
    """The version before this one claims through `claim.lua` alone, as a new worker does at first."""
    lane, other = a_lane(redis), a_lane(redis, worker="w2")
    await lane.enqueue([large(str(number)) for number in range(6)])
    assert await serve(other, 2) == ["0", "1"]
    assert await serve(lane, 2) == ["2", "3"]
    held = (await lane.claim(2)).claims
    await other.recover("w1")
    again = (await other.claim(5)).claims
    assert texts(again) == texts(held) == ["4", "5"]
    assert [claim.crashes for claim in again] == [1, 1]
    assert (
        await lane.settle([DeliveredHeaderless(each.ticket, each.fencing_token) for each in held])
    ).stale == 2
    assert await serve(lane) == []
    assert "large" not in await keys_left(redis)


async def test_a_message_whose_record_is_gone_is_skipped(redis: Client) -> None:
    lane = a_lane(redis)
    await lane.enqueue([large("a"), large("b")])
    ticket: Any = await redis.lindex(lane.keys.part("ready:normal"), 0)
    await redis.hdel(lane.keys.part("bodies"), ticket)
    reply = await lane.claim(2)
    assert (texts(reply.claims), reply.held) == (["b"], 1)


async def test_a_full_redis_still_takes_large_messages_into_their_lane(redis: Client) -> None:
    if not isinstance(redis, Redis):
        pytest.skip("CONFIG SET reaches one node")
    lane = a_lane(redis)
    await redis.config_set("maxmemory", 1)
    try:
        assert (await lane.enqueue([large("a"), large("b")])).accepted == 2
        assert await serve(lane) == ["a", "b"]
    finally:
        await redis.config_set("maxmemory", 0)


async def test_a_user_without_the_right_to_multi_takes_large_messages_too(
    redis: Client, server: RedisServer | RedisCluster
) -> None:
    if not isinstance(redis, Redis):
        pytest.skip("the same on each node")
    await redis.execute_command(
        "ACL", "SETUSER", "few", "on", ">word", "~*", "&*", "+@all", "-multi", "-exec"
    )
    try:
        client = open_client(server.url.replace("redis://", "redis://few:word@"))
        lane = a_lane(client)
        assert (await lane.enqueue([large("a"), large("b")])).accepted == 2
        assert await serve(lane) == ["a", "b"]
        await client.aclose()
    finally:
        await redis.execute_command("ACL", "DELUSER", "few")


async def test_tickets_that_other_claims_hand_out_do_not_pile_up(redis: Client) -> None:
    lane = a_lane(redis)
    await lane.enqueue([large("waits")])
    for _ in range(10):
        await lane.enqueue([large("a"), large("b")])
        # A worker that knows nothing about large messages, as those of an earlier version.
        claims = (await a_lane(redis, worker="w2").claim(2)).claims
        await lane.settle([DeliveredHeaderless(claim.ticket, claim.fencing_token) for claim in claims])
    assert await lane.size() == 1
    assert await cast(Any, redis.hlen(lane.keys.part("large"))) <= 4

"""The short scripts for messages without a header have the same effects as the full ones."""

from __future__ import annotations

import time

import pytest
from redis.asyncio import Redis

from relay.errors import StoreError
from relay.store.claims import Claim, Hold, Taken
from relay.store.keys import LANE_PARTS
from relay.store.lane import Lane
from relay.store.queue import Queue
from relay.store.settlement import DeliveredHeaderless, Released, RetryLater
from relay.store.states import State
from testing.builders import a_lane, a_message, plain_message, texts


def delivered(claim: Claim) -> DeliveredHeaderless:
    return DeliveredHeaderless(claim.ticket, claim.fencing_token)


async def claimed_texts(lane: Lane, wanted: int = 100) -> list[str]:
    return texts((await lane.claim(wanted)).claims)


async def test_messages_with_and_without_a_header_keep_their_order(redis: Redis) -> None:
    lane = a_lane(redis)
    named = a_message("c")
    await lane.enqueue([plain_message("a"), plain_message("b"), named, plain_message("d")])
    found = (await lane.claim(3)).claims
    assert [claim.headerless for claim in found] == [True, True, False]
    assert found[2].message.id == named.id
    assert await claimed_texts(lane) == ["d"]


async def test_a_claim_of_fewer_messages_than_wait_leaves_the_rest(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.enqueue([plain_message(str(number)) for number in range(30)])
    assert await claimed_texts(lane, 20) == [str(number) for number in range(20)]
    reply = await lane.claim(20)
    assert (len(reply.claims), reply.reason, reply.wait, reply.held) == (10, "empty", None, 30)
    reply = await lane.claim(20)
    assert (reply.claims, reply.reason, reply.held) == ([], "empty", 30)


async def test_a_batch_with_and_without_headers_keeps_its_order_and_priorities(redis: Redis) -> None:
    lane = a_lane(redis)
    first = await lane.enqueue(
        [plain_message("low", priority="low"), plain_message("a"), plain_message("high", priority="high")]
    )
    second = await lane.enqueue([plain_message("b"), a_message("c"), plain_message("d")])
    assert (first.accepted, first.ready, second.accepted, second.ready) == (3, 3, 3, 6)
    assert await claimed_texts(lane) == ["high", "a", "b", "c", "d", "low"]


async def test_a_batch_that_is_sent_again_counts_once(redis: Redis) -> None:
    lane = a_lane(redis)
    for sequence, accepted in (("7", 2), ("7", 0), ("8", 2)):
        enqueued = await lane.enqueue([plain_message("a"), plain_message("b")], "batch:w1:q", sequence)
        assert enqueued.accepted == accepted
    assert await claimed_texts(lane) == ["a", "b", "a", "b"]
    assert await redis.hget(lane.keys.part("control"), "accepted") == b"4"


async def test_each_claim_has_a_new_fencing_token(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.enqueue([plain_message("a"), plain_message("b")])
    tokens = [int((await lane.claim(1)).claims[0].fencing_token) for _ in range(2)]
    assert tokens[0] < tokens[1]


async def test_an_empty_claim_returns_when_a_delayed_message_is_due(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.enqueue([plain_message("later", deliver_at=time.time() + 3600)])
    reply = await lane.claim(1)
    assert reply.reason == "empty"
    assert 3000 < (reply.wait or 0) < 3601


async def test_a_message_that_is_due_again_goes_before_those_that_wait(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.enqueue([plain_message("a")])
    (claim,) = (await lane.claim(1)).claims
    await lane.settle([RetryLater(claim.ticket, claim.fencing_token, 0, claim.tries(attempts=1), "503")])
    await lane.enqueue([plain_message("b")])
    first, second = (await lane.claim(2)).claims
    assert [first.message.payload["text"], second.message.payload["text"]] == ["a", "b"]
    assert (first.message.attempts, second.message.attempts) == (1, 0)
    await lane.settle([delivered(first), delivered(second)])
    assert await redis.hlen(lane.keys.part("tries")) == 0


async def test_a_message_that_was_released_keeps_its_counters(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.enqueue([plain_message("a"), plain_message("b")])
    first, second = (await lane.claim(2)).claims
    await lane.settle([Released(first.ticket, first.fencing_token, first.tries())])
    await lane.settle([delivered(second)])
    (again,) = (await lane.claim(1)).claims
    assert (again.message.payload["text"], again.deliveries) == ("a", 1)
    await lane.settle([delivered(again)])
    assert await redis.hlen(lane.keys.part("tries")) == 0


async def test_a_delivery_does_not_hide_that_the_lane_holds(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.enqueue([plain_message("a"), plain_message("b")])
    first, second = (await lane.claim(2)).claims
    await lane.settle([Released(first.ticket, first.fencing_token, first.tries())], Hold(60.0, "429"))
    settled = await lane.settle([delivered(second)])
    assert (settled.settled, settled.state, settled.reason) == (1, State.THROTTLED, "429")
    assert settled.hold > 50


async def test_a_delivery_of_another_worker_s_message_is_stale(redis: Redis) -> None:
    lane, other = a_lane(redis), a_lane(redis, worker="w2")
    await lane.enqueue([plain_message("a"), plain_message("b")])
    mine, lost = (await lane.claim(2)).claims
    await other.recover("w1")
    (theirs, _) = (await other.claim(2)).claims
    settled = await lane.settle([delivered(lost), delivered(mine)])
    assert (settled.settled, settled.stale) == (0, 2)
    assert int(theirs.fencing_token) > int(mine.fencing_token)


async def test_messages_of_a_bodies_key_with_a_wrong_type_stay_in_their_lane(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.enqueue([plain_message(str(number)) for number in range(3)])
    bodies = lane.keys.part("bodies")
    await redis.rename(bodies, bodies + ":saved")
    await redis.set(bodies, "x")
    with pytest.raises(StoreError):
        await lane.claim(2)
    await redis.rename(bodies + ":saved", bodies)
    assert await claimed_texts(lane) == ["0", "1", "2"]


async def take(lane: Lane, redis: Redis, text: str = "a", *, staged: str = "") -> Taken | None:
    """Take an element that a wait has staged; `staged` is the first one there, if it is another."""
    queue = Queue(redis, "relay", "{test}q", "w1")
    await redis.delete(queue.keys.staged)
    await redis.rpush(queue.keys.staged, staged or text)
    return await lane.take(plain_message(text), queue, text.encode())


async def test_a_message_goes_straight_into_flight_and_is_settled(redis: Redis) -> None:
    lane = a_lane(redis)
    await redis.rpush("{test}q", "behind")
    for number in range(3):
        taken = await take(lane, redis, str(number))
        assert taken is not None
        assert (taken.left, taken.claim.message.payload) == (1, {"text": str(number)})
        assert await redis.hgetall(lane.keys.inflight("w1")) == {
            taken.claim.ticket.encode(): taken.claim.fencing_token.encode()
        }
        assert (await lane.settle([delivered(taken.claim)])).settled == 1
    counters = await redis.hmget(lane.keys.part("control"), "accepted", "claimed", "delivered")
    assert counters == [b"3", b"3", b"3"]
    assert await lane.size() == 0
    assert await redis.llen(Queue(redis, "relay", "{test}q", "w1").keys.staged) == 0


async def test_messages_that_were_taken_and_claimed_have_different_tickets_and_tokens(redis: Redis) -> None:
    lane = a_lane(redis)
    claims: list[Claim] = []
    for number in range(6):
        if number % 2:
            await lane.enqueue([plain_message(str(number))])
            claims += (await lane.claim(1)).claims
        else:
            taken = await take(lane, redis, str(number))
            assert taken is not None
            claims.append(taken.claim)
    tickets = [int(claim.ticket) for claim in claims]
    tokens = [int(claim.fencing_token) for claim in claims]
    assert (tickets, tokens) == (sorted(set(tickets)), sorted(set(tokens)))
    assert await lane.recover("w1") == 6
    assert await claimed_texts(lane) == list("012345")


async def test_an_element_stays_staged_while_anything_waits_or_the_lane_holds(redis: Redis) -> None:
    lane, staged = a_lane(redis), Queue(redis, "relay", "{test}q", "w1").keys.staged
    for priority in ("high", "normal", "low"):
        await lane.enqueue([plain_message("first", priority=priority)])
        assert await take(lane, redis) is None
        await lane.claim(1)
    await lane.enqueue([plain_message("later", deliver_at=time.time() + 3600)])
    assert await take(lane, redis) is None
    await redis.flushall()
    await lane.pause()
    assert await take(lane, redis) is None
    await lane.resume()
    await lane.settle([], Hold(60.0, "429"))
    assert await take(lane, redis) is None
    await lane.resume()
    assert await take(lane, redis, staged="another") is None
    assert await redis.lrange(staged, 0, -1) == [b"another"]
    assert await lane.size() == 0
    assert await take(lane, redis) is not None


async def test_an_element_stays_staged_if_a_key_of_its_lane_has_a_wrong_type(redis: Redis) -> None:
    lane, staged = a_lane(redis), Queue(redis, "relay", "{test}q", "w1").keys.staged
    for key in (*(lane.keys.part(part) for part in LANE_PARTS), lane.keys.inflight("w1")):
        await redis.flushall()
        await redis.set(key, "x")
        try:
            taken = await take(lane, redis)
        except StoreError:
            taken = None
        if taken is None:
            assert await redis.lrange(staged, 0, -1) == [b"a"], key
            await redis.delete(key)
            assert await lane.size() == 0, key
        else:
            assert await redis.getdel(key) == b"x"
            assert (await lane.settle([delivered(taken.claim)])).settled == 1


async def test_a_lane_with_rates_groups_or_a_limit_takes_nothing_directly(redis: Redis) -> None:
    message = plain_message("a")
    assert a_lane(redis).claims_directly(message)
    for fields in (
        {"rate": "5/s"},
        {"groups": {"concurrency": 1}},
        {"max_backlog": 5},
        {"order": "lifo"},
    ):
        assert not a_lane(redis, **fields).claims_directly(message)
    assert not a_lane(redis).claims_directly(a_message("named"))


async def test_a_batch_goes_straight_into_flight_once(redis: Redis) -> None:
    lane = a_lane(redis)
    messages = [plain_message("a"), plain_message("b", priority="high"), plain_message("c", priority="low")]
    claims = await lane.enqueue_into_flight(messages, "batch:w1:q", "7")
    assert claims is not None
    assert texts(claims) == ["a", "b", "c"]
    assert await redis.hgetall(lane.keys.inflight("w1")) == {
        claim.ticket.encode(): claims[0].fencing_token.encode() for claim in claims
    }
    for repeated in (await lane.enqueue_into_flight(messages, "batch:w1:q", "7"), ()):
        assert not repeated
    assert (await lane.enqueue(messages, "batch:w1:q", "7")).accepted == 0
    assert await lane.size() == 3
    assert await lane.release() == 3
    assert await lane.enqueue_into_flight(messages, "batch:w1:q", "8") is None, "messages wait"
    found = (await lane.claim(9)).claims
    assert texts(found) == ["b", "a", "c"], "by priority, as if they had been enqueued"
    assert all(int(claim.fencing_token) > int(claims[0].fencing_token) for claim in found)
    await lane.settle([delivered(claim) for claim in found])
    again = await lane.enqueue_into_flight(messages[:1], "batch:w1:q", "8")
    assert again is not None
    assert int(again[0].ticket) > max(int(claim.ticket) for claim in claims)
    counters = await redis.hmget(lane.keys.part("control"), "accepted", "claimed", "delivered")
    assert counters == [b"4", b"7", b"3"]


async def test_a_batch_stays_out_of_a_lane_that_holds_and_of_keys_with_a_wrong_type(redis: Redis) -> None:
    lane, messages = a_lane(redis), [plain_message("a"), plain_message("b")]
    await lane.pause()
    assert await lane.enqueue_into_flight(messages, "batch:w1:q", "1") is None
    await lane.resume()
    for key in (*(lane.keys.part(part) for part in LANE_PARTS), lane.keys.inflight("w1")):
        await redis.flushall()
        await redis.set(key, "x")
        try:
            claims = await lane.enqueue_into_flight(messages, "batch:w1:q", "1")
        except StoreError:
            claims = None
        await redis.delete(key)
        assert await lane.size() == len(claims or ()), key


async def test_a_batch_of_many_messages_is_found_as_fast_as_one_of_few(redis: Redis) -> None:
    """Redis searches small hashes from end to end."""
    lane = a_lane(redis)
    assert await lane.enqueue_into_flight([plain_message("a")] * 20, "batch:w1:q", "1")
    for key in (lane.keys.part("bodies"), lane.keys.inflight("w1")):
        assert await redis.object("encoding", key) == b"hashtable"

"""Fan-outs at the level of the scripts: the rare moments, one a test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.engine.policy import Policy
from relay.errors import MessageError
from relay.message import Message, parse_envelope
from relay.message.fan_out import MOST_TARGETS, FanOut, chunk_size, expand, split
from relay.redis_client.client import Client
from relay.store import dead
from relay.store.claims import Claim, Expansion, Hold
from relay.store.codec import Settled
from relay.store.dead import Revived
from relay.store.lane import Lane
from relay.store.overview import read_lane
from relay.store.settlement import DeadLettered, DeliveredTarget, RetryLater, Settlement
from testing.builders import a_lane, options, plain_message, texts
from testing.clock import set_clock, settable_clock
from testing.streams import entries_of

SIZE = 2


def a_fan_out(targets: int, *, size: int = SIZE, **envelope: Any) -> FanOut:
    payload = {"targets": [f"t{number}" for number in range(targets)], "text": "news"}
    element = json.dumps({"reply_to": "answers", **envelope, "payload": payload}).encode()
    found = split(parse_envelope(element, "q", 0.0)[1], "to", size)
    assert isinstance(found, FanOut)
    return found


async def next_chunk(lane: Lane) -> Expansion:
    claimed = await lane.claim(10)
    (expansion,) = claimed.expansions
    return expansion


async def expand_all(lane: Lane) -> list[Claim]:
    """All deliveries, in the order in which they are handed out."""
    claims: list[Claim] = []
    for _ in range(1000):
        claimed = await lane.claim(10)
        claims += claimed.claims
        for expansion in claimed.expansions:
            await lane.expand(expansion)
        if not claimed.claims and not claimed.expansions:
            break
    return claims


def rejected(claim: Claim) -> Settlement:
    return DeadLettered(claim.ticket, claim.fencing_token, "400", 400, b"", 1, answered=True)


async def settle(lane: Lane, claims: Sequence[Claim], kind: str = "d") -> Settled:
    policy = Policy(options())
    return await lane.settle(
        [policy.delivered(claim) if kind == "d" else rejected(claim) for claim in claims]
    )


async def receipts(redis: Client, lane: Lane) -> list[tuple[str, Any]]:
    entries = await entries_of(redis, lane.keys.part("outbox"))
    found = [msgspec.msgpack.decode(fields[b"letter"]) for _, fields in entries]
    return [(entry[3], (entry[7] if len(entry) > 7 else None) or None) for entry in found]


def targets_of(claims: Sequence[Claim]) -> list[str]:
    return [claim.message.payload["to"] for claim in claims]


async def test_each_target_is_one_delivery_and_all_have_one_receipt(redis: Client) -> None:
    lane = a_lane(redis)
    await lane.enqueue([a_fan_out(5)])
    claims = await expand_all(lane)
    assert targets_of(claims) == [f"t{number}" for number in range(5)]
    assert claims[3].message.payload == {"to": "t3", "text": "news"}
    assert claims[3].message.id.endswith("#3")
    await settle(lane, claims[:4])
    assert await receipts(redis, lane) == []
    await settle(lane, claims[4:], "x")
    assert await receipts(redis, lane) == [("partial", {"delivered": 4, "rejected": 1})]
    assert await lane.size() == 0


async def test_an_operator_sees_how_many_deliveries_wait(redis: Client) -> None:
    lane = a_lane(redis)

    async def waiting() -> int:
        return (await read_lane(redis, "relay", "test", ["w1"], 0.0)).waiting

    await lane.enqueue([a_fan_out(9, id="news", collapse_key="c"), a_fan_out(7, id="more", collapse_key="c")])
    assert await waiting() == 7 + 1, "the message itself is one"
    await lane.expand(await next_chunk(lane))
    assert await waiting() == 7 + 1
    await lane.cancel("more", ["w1"])
    assert await waiting() == 2
    await expand_all(lane)
    assert await waiting() == 0


async def test_a_fan_out_to_a_group_at_its_concurrency_becomes_messages_slowly(redis: Client) -> None:
    """Otherwise Redis would hold each target of all fan-outs as a message of its own."""
    with settable_clock():
        lane, now = a_lane(redis, groups={"concurrency": 1}), 2_000_000_000
        await set_clock(redis, now)
        await lane.enqueue([a_fan_out(3000, size=100) for _ in range(2)])

        async def expand_what_may_go(group: str = "slow") -> list[str]:
            found: list[str] = []
            while (claimed := await lane.claim(10)).expansions or claimed.claims:
                found += [claim.message.group for claim in claimed.claims]
                for expansion in claimed.expansions:
                    assert await lane.expand(expansion, lambda _: group) is not None
            assert 0 < (claimed.wait or 0) <= 0.1
            return found

        assert await expand_what_may_go() == ["slow"]
        size = await lane.size()
        assert 1000 <= size < 1300, "two chunks more than the limit at most"
        await set_clock(redis, now, 99_000)
        assert await expand_what_may_go() == []
        assert await lane.size() == size
        await set_clock(redis, now, 100_000)
        assert await expand_what_may_go("free") == ["free"], "targets in other groups still get their turn"
        assert await lane.size() == size + 100


async def test_a_fan_out_costs_no_tokens_and_its_deliveries_do(redis: Client) -> None:
    lane = a_lane(redis, rate="1/m", burst=3)
    await lane.enqueue([a_fan_out(4, size=10)])
    assert len(await expand_all(lane)) == 3


async def test_other_messages_get_as_many_slots_as_a_fan_out(redis: Client) -> None:
    lane = a_lane(redis)
    await lane.enqueue([a_fan_out(20, size=5), *(plain_message(f"s{number}") for number in range(20))])
    out = ["fan" if claim.message.part_of else "single" for claim in await expand_all(lane)]
    assert out[:20].count("single") >= 8
    assert out[:25].count("fan") >= 8, "a backlog does not starve it either"


async def test_several_fan_outs_take_turns(redis: Client) -> None:
    lane = a_lane(redis)
    await lane.enqueue([a_fan_out(6, id="one"), a_fan_out(6, id="two")])
    owners = [claim.message.id.partition("#")[0] for claim in await expand_all(lane)]
    assert set(owners[:4]) == {"one", "two"}


async def test_a_cancelled_fan_out_is_not_expanded_by_the_worker_that_holds_it(redis: Client) -> None:
    lane = a_lane(redis)
    await lane.enqueue([a_fan_out(5, id="news")])
    await lane.expand(await next_chunk(lane))
    claimed = await lane.claim(10)
    (expansion,) = claimed.expansions
    assert await lane.cancel("news", ["w1"]) == "cancelled"
    assert await lane.expand(expansion) is None
    await settle(lane, list(claimed.claims))
    assert await receipts(redis, lane) == [("partial", {"cancelled": 3, "delivered": 2})]
    assert await lane.size() == 0
    assert await lane.cancel("news", ["w1"]) == "unknown"


@pytest.mark.parametrize("fields", [{}, {"rate": "1000/s"}, {"groups": {"by": "message"}}])
async def test_waiting_targets_of_a_cancelled_fan_out_are_not_claimed(
    redis: Client, fields: dict[str, Any]
) -> None:
    lane = a_lane(redis, **fields)
    await lane.enqueue([a_fan_out(4, id="news", size=4), a_fan_out(2, id="more")])
    claims: list[Claim] = []
    for chunk in (await lane.claim(10)).expansions, (await lane.claim(10)).expansions:
        await lane.expand(chunk[0], (lambda _: "g") if "groups" in fields else None)
        claims += (await lane.claim(1)).claims
    assert await lane.cancel("news", ["w1"]) == "cancelled"
    claimed = await lane.claim(10)
    assert {claim.message.id.partition("#")[0] for claim in claimed.claims} == {"more"}
    over = claimed.passed_over
    assert (len(claims) + len(claimed.claims), over >= 2) == (6 - over, True)
    await settle(lane, [*claims, *claimed.claims])
    expected = [("delivered", {"delivered": 2}), ("partial", {"cancelled": over, "delivered": 4 - over})]
    assert sorted(await receipts(redis, lane)) == expected
    assert await lane.size() == 0


async def test_a_started_fan_out_is_not_replaced_after_its_worker_died(redis: Client) -> None:
    lane = a_lane(redis)
    await lane.enqueue([a_fan_out(5, collapse_key="c")])
    await lane.expand(await next_chunk(lane))
    claimed = await lane.claim(10)
    assert (len(claimed.claims), len(claimed.expansions)) == (2, 1)
    await a_lane(redis, worker="w2").recover("w1")
    await lane.enqueue([a_fan_out(1, collapse_key="c")])
    assert len(await expand_all(lane)) == 6
    assert await receipts(redis, lane) == []


async def test_an_unstarted_fan_out_is_replaced_whole(redis: Client) -> None:
    lane = a_lane(redis)
    await lane.enqueue([a_fan_out(5, collapse_key="c"), a_fan_out(3, collapse_key="c")])
    claims = await expand_all(lane)
    assert len(claims) == 3
    await settle(lane, claims)
    assert await receipts(redis, lane) == [("collapsed", None), ("delivered", {"delivered": 3})]
    await lane.enqueue([a_fan_out(5, collapse_key="c"), plain_message("single", collapse_key="c")])
    assert texts((await lane.claim(10)).claims) == ["single"]
    assert await redis.exists(lane.keys.part("targets"), lane.keys.part("fans")) == 0


async def test_the_dedup_window_remembers_fan_outs(redis: Client) -> None:
    lane = a_lane(redis, dedup_window=60.0)
    await lane.enqueue([a_fan_out(2, id="news")])
    assert (await lane.enqueue([a_fan_out(2, id="news")])).duplicates == 1
    await settle(lane, await expand_all(lane))
    assert (await lane.enqueue([a_fan_out(2, id="news")])).duplicates == 1


async def test_a_dead_target_that_is_revived_stands_for_itself(redis: Client) -> None:
    lane = a_lane(redis)
    await lane.enqueue([a_fan_out(2)])
    claims = await expand_all(lane)
    await settle(lane, claims[:1], "x")
    ((entry, _),) = await entries_of(redis, lane.keys.part("dead"))
    assert await dead.revive(redis, "relay", lane.provider, [entry.decode()]) == Revived(1, 0, 0)
    again = (await lane.claim(10)).claims
    assert targets_of(list(again)) == ["t0"]
    await settle(lane, list(again))
    assert await receipts(redis, lane) == []
    await settle(lane, claims[1:])
    assert await receipts(redis, lane) == [("partial", {"delivered": 1, "rejected": 1})]


async def test_the_first_targets_of_a_chunk_go_straight_into_flight(redis: Client) -> None:
    lane = a_lane(redis)
    await lane.enqueue([a_fan_out(7, size=5)])
    expanded = await lane.expand(await next_chunk(lane), wanted=3)
    assert expanded is not None
    assert targets_of(expanded) == ["t0", "t1", "t2"]
    assert {claim.message.payload["text"] for claim in expanded} == {"news"}
    claimed = await lane.claim(10)
    assert (targets_of(claimed.claims), claimed.held) == (["t3", "t4"], 6), "with the next chunk"
    assert int(claimed.claims[0].fencing_token) > int(expanded[0].fencing_token)
    assert await redis.hget(lane.keys.part("control"), "claimed") == b"5"
    await settle(lane, [*expanded, *claimed.claims])
    (last,) = claimed.expansions
    expanded = await lane.expand(last, wanted=3)
    assert expanded is not None
    assert targets_of(expanded) == ["t5", "t6"]
    await settle(lane, expanded)
    assert await receipts(redis, lane) == [("delivered", {"delivered": 7})]
    assert await lane.size() == 0


@pytest.mark.parametrize(
    "fields", [{"rate": "1000/s"}, {"warmup": 60.0, "rate": "1000/s"}, {"order": "lifo"}, {"groups": {}}]
)
async def test_targets_of_a_lane_with_more_options_wait_for_a_claim(
    redis: Client, fields: dict[str, Any]
) -> None:
    lane = a_lane(redis, **fields)
    await lane.enqueue([a_fan_out(2)])
    group_of = (lambda _: "g") if "groups" in fields else None
    assert await lane.expand(await next_chunk(lane), group_of, wanted=2) == []
    assert len((await lane.claim(2)).claims) == 2


@pytest.mark.parametrize("trouble", ["a message waits", "paused", "held", "expired"])
async def test_targets_wait_if_a_claim_would_not_hand_them_out_now(redis: Client, trouble: str) -> None:
    with settable_clock():
        now = 2_000_000_000
        await set_clock(redis, now)
        lane = a_lane(redis)
        await lane.enqueue([plain_message("busy"), a_fan_out(2, created_at=now, ttl=60)])
        claimed = await lane.claim(10)
        (busy,), (expansion,) = claimed.claims, claimed.expansions
        match trouble:
            case "a message waits":
                await lane.enqueue([plain_message("first", priority="low")])
            case "paused":
                await lane.pause()
            case "held":
                await lane.settle([Policy(options()).release(busy)], Hold(30.0, "429"))
            case _:
                await set_clock(redis, now + 60)
        assert await lane.expand(expansion, wanted=2) == []


async def test_targets_in_flight_take_the_turn_of_their_fan_out(redis: Client) -> None:
    """Otherwise more messages of others would go before the next chunk."""
    lane = a_lane(redis)
    await lane.enqueue([a_fan_out(20, size=5)])
    await lane.expand(await next_chunk(lane), wanted=5)
    await lane.enqueue([plain_message(f"s{number}") for number in range(20)])
    singles = 0
    while not (claimed := await lane.claim(1)).expansions:
        singles += len(claimed.claims)
    assert singles + len(claimed.claims) == 5


@pytest.mark.parametrize("wanted", [1, 3])
@pytest.mark.parametrize("fields", [{}, {"groups": {"by": "message", "concurrency": 0}}])
async def test_a_chunk_of_a_fan_out_waits_for_as_many_messages_again(
    redis: Client, fields: dict[str, Any], wanted: int
) -> None:
    lane = a_lane(redis, **fields)
    group = "g" if fields else ""
    await lane.enqueue([a_fan_out(20, size=5)])
    expansion = await next_chunk(lane)
    await lane.enqueue([plain_message(f"s{number}", group=group) for number in range(20)])
    for _ in range(3):
        await lane.expand(expansion, (lambda _: group) if group else None)
        before = 0
        while not (claimed := await lane.claim(wanted)).expansions:
            before += len(claimed.claims)
            assert len(claimed.claims) == wanted
        assert 10 <= before + len(claimed.claims) < 10 + wanted
        (expansion,) = claimed.expansions


async def test_one_settle_counts_targets_of_several_fan_outs_and_other_messages(redis: Client) -> None:
    lane = a_lane(redis)
    await lane.enqueue([a_fan_out(3), a_fan_out(2), plain_message("single"), a_fan_out(4)])
    claims = await expand_all(lane)
    assert len(claims) == 10
    *most, last = sorted(claims, key=lambda claim: claim.message.payload.get("to", ""))
    settled = await settle(lane, most)
    assert (settled.settled, settled.outbox) == (9, 2)
    assert await receipts(redis, lane) == [("delivered", {"delivered": 3}), ("delivered", {"delivered": 2})]
    await settle(lane, [last])
    assert (await receipts(redis, lane))[2:] == [("delivered", {"delivered": 4})]
    assert await redis.hget(lane.keys.part("control"), "delivered") == b"10"
    assert await lane.size() == 0


async def test_one_settle_counts_targets_with_different_outcomes(redis: Client) -> None:
    lane = a_lane(redis)
    await lane.enqueue([a_fan_out(6, size=6)])
    claims = await expand_all(lane)
    policy = Policy(options())
    delivered = [policy.delivered(claim) for claim in claims[:3]]
    assert {type(each) for each in delivered} == {DeliveredTarget}
    failed = [rejected(claims[3]), policy.expired(claims[4])]
    released = policy.release(claims[5])
    settled = await lane.settle([*delivered, *failed, released], Hold(30.0, "429"))
    assert (settled.settled, settled.state) == (6, "throttled")
    await lane.resume()
    await settle(lane, (await lane.claim(10)).claims)
    expected = {"delivered": 4, "rejected": 1, "expired": 1}
    assert await receipts(redis, lane) == [("partial", expected)]


@pytest.mark.parametrize("late", [True, False])
async def test_a_target_that_two_workers_have_delivered_counts_once(redis: Client, late: bool) -> None:
    """The success of the worker that was taken for dead is final; the other one settles the same message."""
    lane, other = a_lane(redis), a_lane(redis, worker="w2")
    await lane.enqueue([a_fan_out(3, size=3)])
    claims = await expand_all(lane)
    assert await other.recover("w1") == 3
    again = (await other.claim(10)).claims
    first, second = (claims[:1], again) if late else (again, claims)
    await settle(lane if late else other, first)
    await settle(other if late else lane, second)
    assert await receipts(redis, lane) == [("delivered", {"delivered": 3})]
    assert await redis.hget(lane.keys.part("control"), "delivered") == b"3"
    assert await lane.size() == 0


async def test_a_revived_target_does_not_count_for_a_fan_out_that_goes_on(redis: Client) -> None:
    lane = a_lane(redis)
    await lane.enqueue([a_fan_out(3, size=3)])
    claims = await expand_all(lane)
    await settle(lane, claims[:1], "x")
    ((entry, _),) = await entries_of(redis, lane.keys.part("dead"))
    await dead.revive(redis, "relay", lane.provider, [entry.decode()])
    (again,) = (await lane.claim(10)).claims
    assert (again.message.part_of, again.part_of) == (claims[0].part_of, "")
    await settle(lane, [again, *claims[1:2]])
    assert await receipts(redis, lane) == []
    await settle(lane, claims[2:])
    assert await receipts(redis, lane) == [("partial", {"delivered": 2, "rejected": 1})]


async def expand_in_groups(lane: Lane, groups: str) -> list[Claim]:
    """All deliveries; the groups of targets take turns."""
    claims: list[Claim] = []
    while True:
        claimed = await lane.claim(20)
        claims += claimed.claims
        for expansion in claimed.expansions:
            await lane.expand(expansion, lambda message: groups[int(message.payload["to"][1:]) % len(groups)])
        if not claimed.claims and not claimed.expansions:
            return claims


async def in_flight_by_group(redis: Client, lane: Lane) -> dict[str, int]:
    counts: Any = await redis.hgetall(lane.keys.part("groups:in-flight"))
    return {name.decode(): abs(int(count)) for name, count in counts.items()}


async def test_one_settle_counts_targets_and_messages_of_several_groups(redis: Client) -> None:
    lane = a_lane(redis, groups={"by": "message", "concurrency": 0})
    single, after = plain_message("single", group="a"), plain_message("next", ordering_key="k", group="a")
    await lane.enqueue([a_fan_out(5, ordering_key="k"), after, single, a_fan_out(2)])
    claims = await expand_in_groups(lane, "ab")
    assert await in_flight_by_group(redis, lane) == {"a": 5, "b": 3}
    last = next(claim for claim in claims if claim.message.payload.get("to") == "t4")
    settled = await settle(lane, [claim for claim in claims if claim is not last])
    assert (settled.settled, settled.ready, settled.outbox) == (7, 0, 1)
    assert await in_flight_by_group(redis, lane) == {"a": 1}
    assert await receipts(redis, lane) == [("delivered", {"delivered": 2})]
    settled = await settle(lane, [last])
    assert (settled.settled, settled.ready > 0, settled.outbox) == (1, True, 2)
    assert (await receipts(redis, lane))[1:] == [("delivered", {"delivered": 5})]
    (following,) = (await lane.claim(10)).claims
    assert following.message.payload == {"text": "next"}
    assert await in_flight_by_group(redis, lane) == {"a": 1}
    assert await redis.hget(lane.keys.part("control"), "delivered") == b"8"


@pytest.mark.parametrize("trouble", ["a group is full", "a group failed", "another worker has one"])
async def test_targets_in_groups_with_a_state_count_as_well(redis: Client, trouble: str) -> None:
    lane = a_lane(redis, groups={"by": "message", "concurrency": 2 if trouble == "a group is full" else 0})
    await lane.enqueue([a_fan_out(6, size=6)])
    claims = await expand_in_groups(lane, "ab")
    stale = 0
    if trouble == "a group failed":
        claim = claims.pop()
        await lane.settle([RetryLater(claim.ticket, claim.fencing_token, 0, claim.tries(attempts=1), "503")])
    elif trouble == "another worker has one":
        other = a_lane(redis, worker="w2", groups={"by": "message", "concurrency": 0})
        await other.recover("w1")
        claims, stale = [*(await other.claim(5)).claims, *claims[:1]], 1
        lane = other
    settled = await settle(lane, claims)
    assert (settled.settled, settled.stale) == (len(claims) - stale, stale)
    await settle(lane, await expand_in_groups(lane, "ab"))
    assert await receipts(redis, lane) == [("delivered", {"delivered": 6})]
    assert await in_flight_by_group(redis, lane) == {}
    assert await redis.hget(lane.keys.part("control"), "delivered") == b"6"
    assert await lane.size() == 0


async def test_targets_that_were_retried_leave_no_counters(redis: Client) -> None:
    lane = a_lane(redis)
    await lane.enqueue([a_fan_out(2)])
    claims = await expand_all(lane)
    await lane.settle([Policy(options()).release(claim) for claim in claims])
    await settle(lane, (await lane.claim(10)).claims)
    assert await redis.hlen(lane.keys.part("tries")) == 0
    assert await receipts(redis, lane) == [("delivered", {"delivered": 2})]


async def test_targets_that_are_not_expanded_expire_as_one(redis: Client) -> None:
    lane = a_lane(redis)
    await lane.enqueue([a_fan_out(100, created_at=1.0, ttl=1)])
    assert await expand_all(lane) == []
    assert await receipts(redis, lane) == [("expired", {"expired": 100})]
    assert await lane.size() == 0


async def test_the_next_of_an_ordering_key_waits_for_the_last_target(redis: Client) -> None:
    lane = a_lane(redis)
    await lane.enqueue([a_fan_out(3, ordering_key="k"), plain_message("next", ordering_key="k")])
    claims = await expand_all(lane)
    assert len(claims) == 3
    await settle(lane, claims[:2])
    assert (await lane.claim(10)).claims == []
    await settle(lane, claims[2:])
    assert texts((await lane.claim(10)).claims) == ["next"]


async def test_a_full_backlog_drops_a_fan_out_whole(redis: Client) -> None:
    lane = a_lane(redis, max_backlog=1, overflow="drop_oldest")
    reply = await lane.enqueue([a_fan_out(7), plain_message("single")])
    assert reply.dropped == 7
    assert texts((await lane.claim(10)).claims) == ["single"]
    assert await receipts(redis, lane) == [("dropped", {"dropped": 7})]


@pytest.mark.parametrize(("rate", "size"), [(None, 100), ("1/s", 10), ("50/s", 50), ("9000/s", 100)])
def test_a_chunk_is_about_a_second_s_worth(rate: str | None, size: int) -> None:
    assert chunk_size(options(rate)) == size


LEAF = st.none() | st.booleans() | st.integers() | st.text()
JSON = st.recursive(LEAF, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5)
TARGETS = st.lists(JSON, min_size=1, max_size=30)


@given(targets=TARGETS, rest=st.dictionaries(st.text(), JSON), size=st.integers(1, 7))
def test_split_and_expanded_targets_equal_the_original_list(
    targets: list[Any], rest: dict[str, Any], size: int
) -> None:
    rest = {name: value for name, value in rest.items() if name not in {"to", "targets"}}
    payload = msgspec.json.encode({"targets": targets, **rest})
    found = split(Message(id="a", queue="q", payload_json=payload), "to", size)
    assert isinstance(found, FanOut)
    made = [
        message
        for number, chunk in enumerate(found.chunks)
        for message in expand(found.message, "4", chunk, number * size)
    ]
    assert [message.payload for message in made] == [{"to": target, **rest} for target in targets]
    assert [message.id for message in made] == [f"a#{number}" for number in range(len(targets))]


@pytest.mark.parametrize("payload", [b"{}", b'{"text":"targets"}', b'{"text":{"targets":[1]}}'])
def test_a_message_without_targets_is_left_as_it_is(payload: bytes) -> None:
    message = Message(id="a", queue="q", payload_json=payload)
    assert split(message, "to", 10) is message


@pytest.mark.parametrize("targets", ["[]", "{}", '"a"', "null", json.dumps([1] * (MOST_TARGETS + 1))])
def test_targets_that_make_no_sense_are_refused(targets: str) -> None:
    message = Message(id="a", queue="q", payload_json=b'{"targets":%s}' % targets.encode())
    with pytest.raises(MessageError, match=r"payload\.targets"):
        split(message, "to", 10)

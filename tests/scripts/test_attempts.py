"""The failed attempts of a message, on every installed Redis: while it waits, and in its dead letter."""

from __future__ import annotations

import asyncio

from relay.engine.policy import Policy
from relay.outcome import Outcome, Rejected, Retry, Unauthorised
from relay.redis_client.client import Client
from relay.store import dead
from relay.store.attempts import Attempt, of_tries
from relay.store.claims import Claim
from relay.store.dead import DeadLetter
from relay.store.lane import Lane
from testing.builders import a_lane, a_message, options


async def claim_one(lane: Lane) -> Claim:
    """Claim the next message, when it is due."""
    while True:
        claimed = await lane.claim(1)
        if claimed.claims:
            return claimed.claims[0]
        assert claimed.wait is not None
        await asyncio.sleep(claimed.wait)


async def attempt(lane: Lane, outcome: Outcome, at: float) -> None:
    claim = await claim_one(lane)
    policy = Policy(options(retry={"base": 0.001, "max": 0.001, "attempts": 3}), "w1", lambda: at)
    await lane.settle([policy.settle(claim, outcome)])


async def letter_of(redis: Client, lane: Lane) -> DeadLetter:
    (letter,) = [letter async for letter in dead.read(redis, lane.keys.part("dead"))]
    return letter


async def test_all_attempts_are_kept_with_the_message_and_then_in_its_dead_letter(redis: Client) -> None:
    lane = a_lane(redis)
    await lane.enqueue([a_message("a")])
    await attempt(lane, Retry("503: down", status=503), 1.0)
    await attempt(lane, Retry("timeout"), 2.0)
    (tries,) = await redis.hvals(lane.keys.part("tries"))
    kept = [Attempt(1.0, 503, "503: down", "w1"), Attempt(2.0, 0, "timeout", "w1")]
    assert of_tries(tries) == kept
    await attempt(lane, Retry("503: down", status=503), 3.0)
    letter = await letter_of(redis, lane)
    assert list(letter.history) == [*kept, Attempt(3.0, 503, "503: down", "w1")]
    assert not await redis.exists(lane.keys.part("tries"))


async def test_a_rejection_after_a_retry_keeps_both(redis: Client) -> None:
    lane = a_lane(redis)
    await lane.enqueue([a_message("a")])
    await attempt(lane, Retry("timeout"), 1.0)
    await attempt(lane, Rejected("413: too large", 413), 2.0)
    reasons = [(each.status, each.reason) for each in (await letter_of(redis, lane)).history]
    assert reasons == [(0, "timeout"), (413, "413: too large")]


async def test_a_message_that_is_to_blame_for_its_refusal_keeps_its_attempts(redis: Client) -> None:
    lane = a_lane(redis)
    await lane.enqueue([a_message("bad")])
    await attempt(lane, Unauthorised("403: no", status=403), 1.0)
    await lane.enqueue([a_message("good")])
    (claim,) = (await lane.claim(1)).claims
    assert claim.message.id == "good"
    await lane.settle([Policy(options()).delivered(claim)])
    await attempt(lane, Unauthorised("403: no", status=403), 2.0)
    letter = await letter_of(redis, lane)
    assert [(each.at, each.status) for each in letter.history] == [(1.0, 403), (2.0, 403)]


async def test_a_message_that_kills_its_workers_keeps_its_attempts(redis: Client) -> None:
    lane = a_lane(redis)
    await lane.enqueue([a_message("a")])
    await attempt(lane, Retry("timeout"), 1.0)
    for _ in range(3):
        await claim_one(lane)
        await lane.recover("w1")
    letter = await letter_of(redis, lane)
    assert letter.reason.startswith("poison")
    assert [each.reason for each in letter.history] == ["timeout"]

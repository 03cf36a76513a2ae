"""Providers that fail, throttle or refuse, and the remedies of the operator."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from testing.receiver import Answer, Received
from testing.site import Site

QUICK = {"attempts": 3, "base": "10ms", "max": "20ms"}


def hook(number: int) -> str:
    return json.dumps({"id": f"order-{number}", "payload": {"body": {"n": number}}})


async def test_exhausted_attempts_become_a_dead_letter_that_one_command_sends_again(site: Site) -> None:
    site.configure({"hook": site.webhook(retry=QUICK)})
    site.receiver.answers.extend([Answer(503, b"out of order")] * 3)
    await site.push(hook(17))
    await site.drain()
    assert len(site.receiver.requests) == 3
    assert len({request.headers["webhook-id"] for request in site.receiver.requests}) == 1
    (letter,) = await site.json("dead", "show", "hook", "--id", "order-17")
    assert letter["reason"] == "gave up after 3 attempts: 503 out of order"
    assert (letter["attempts"], letter["status"], letter["body"]) == (3, 503, "out of order")
    assert letter["payload"] == {"body": {"n": 17}}

    assert "retried 1 dead letter" in (await site.relay("dead", "retry", "hook")).err
    await site.drain()
    assert site.receiver.requests[-1].body == b'{"n": 17}'
    assert await site.json("dead", "list", "hook") == []


async def test_a_refusal_is_final_and_the_next_message_goes_on(site: Site) -> None:
    site.configure({"hook": site.webhook()})
    site.receiver.answer = lambda request: Answer(422, b"y" * 9000) if b"1" in request.body else Answer()
    await site.push(hook(1), hook(2))
    await site.drain()
    assert len(site.receiver.requests) == 2
    (letter,) = await site.json("dead", "list", "hook")
    assert (letter["id"], letter["status"], len(letter["body"])) == ("order-1", 422, 4096)


async def test_retry_after_in_seconds_holds_the_lane_and_spends_no_attempt(site: Site) -> None:
    retry = {"attempts": 1}
    site.configure({"hook": site.webhook(retry=retry, concurrency=1)})
    site.receiver.answers.append(Answer(429, b"slow down", {"Retry-After": "1"}))
    await site.push(*(hook(number) for number in range(3)))
    await site.drain()
    first, second, *_ = site.receiver.requests
    assert second.at - first.at >= 0.95
    assert [request.headers["webhook-id"] for request in site.receiver.requests] == [
        "order-0",
        "order-1",
        "order-2",
        "order-0",
    ]
    assert await site.json("dead", "list", "hook") == []


async def test_one_target_that_always_throttles_lets_a_hundred_others_through(site: Site) -> None:
    site.configure({"hook": site.webhook(concurrency=1)})
    busy = Answer(429, b"slow down", {"Retry-After": "1"})
    site.receiver.answer = lambda request: busy if request.headers["webhook-id"] == "order-0" else Answer()
    await site.push(*(hook(number) for number in range(101)))
    async with site.worker():
        await site.receiver.until(102)
    ids = [request.headers["webhook-id"] for request in site.receiver.requests]
    assert ids[:102] == ["order-0", *(f"order-{number}" for number in range(1, 101)), "order-0"]


async def test_retry_after_as_a_date_holds_the_lane(site: Site) -> None:
    site.configure({"hook": site.webhook()})
    when = datetime.now(UTC) + timedelta(seconds=900)
    site.receiver.answers.append(Answer(503, b"", {"Retry-After": format_datetime(when, usegmt=True)}))
    await site.push(hook(1))
    async with site.worker() as running:
        held = await running.says("the lane holds")
        (lane,) = (await site.json("status"))["lanes"]
    assert lane["state"] == held["state"] == "throttled"
    assert held["reason"] == lane["why"]
    assert 30 < lane["hold_seconds"] <= 900
    assert (lane["waiting"], lane["throttled"]) == (1, 1)


@pytest.mark.parametrize("when", ["0", "Thu, 25 Feb 2021 15:03:10 GMT"], ids=["zero", "past"])
@pytest.mark.parametrize("status", [429, 500])
async def test_a_retry_after_without_a_time_repeats_nothing_in_a_rush(
    site: Site, status: int, when: str
) -> None:
    site.configure({"hook": site.webhook(retry={"base": "1h"})})
    site.receiver.answer = lambda request: Answer(status, b"", {"Retry-After": when})
    await site.push({**json.loads(hook(1)), "ttl": "1s", "reply_to": "receipts:1"})
    async with site.worker():
        (receipt,) = await site.receipts(1)
    assert receipt["outcome"] == "expired"
    assert len(site.receiver.requests) <= 3


async def test_a_wrong_key_holds_the_lane_loudly_and_kills_no_message(site: Site) -> None:
    site.configure({"pusher": site.pusher(breaker={"cooldown": "200ms"}, timeout="20s")})
    key_is_known = asyncio.Event()
    site.receiver.answer = lambda request: (
        Answer() if key_is_known.is_set() else Answer(401, b"Unknown auth_key")
    )
    event = '{"payload": {"channel": "c", "event": "e", "data": 1}}'
    await site.push(*[event] * 30)
    async with site.worker("--until-empty") as running:
        line = await running.says("REFUSES OUR CREDENTIALS")
        assert line["level"] == "error"
        assert "Unknown auth_key" in line["reason"]
        key_is_known.set()
        assert await running.ended() == 0
    assert await site.json("dead", "list", "pusher") == []
    (lane,) = (await site.json("status"))["lanes"]
    assert (lane["delivered"], lane["dead"]) == (30, 0)


async def test_a_bad_event_does_not_fail_the_nine_good_ones_of_its_batch(site: Site) -> None:
    def strict(request: Received) -> Answer:
        return Answer(400, b"bad event") if b"poison" in request.body else Answer()

    site.configure({"pusher": site.pusher()})
    site.receiver.answer = strict
    texts = ["a", "b", "poison", "c", "d", "e", "f", "g", "h", "i"]
    await site.push(
        *(json.dumps({"payload": {"channel": "c", "event": "e", "data": text}}) for text in texts)
    )
    await site.drain()
    (letter,) = await site.json("dead", "list", "pusher")
    assert letter["payload"]["data"] == "poison"
    accepted = [
        json.loads(request.body) for request in site.receiver.requests if b"poison" not in request.body
    ]
    assert sorted(body["data"] for body in accepted) == sorted(set(texts) - {"poison"})


async def test_limits_are_checked_before_anything_is_sent(site: Site) -> None:
    site.configure({"pusher": site.pusher()})
    payloads = [
        {"channel": "no spaces", "event": "e"},
        {"channel": "c", "event": "x" * 201},
        {"channel": "c", "event": "e", "data": "y" * 10241},
        {"channel": "c"},
        {"event": "e"},
    ]
    await site.push(*(json.dumps({"payload": payload}) for payload in payloads))
    await site.drain()
    assert site.receiver.requests == []
    letters = await site.json("dead", "list", "pusher")
    assert sorted(letter["reason"].partition(":")[0] for letter in letters) == [
        "channel",
        "channel",
        "data",
        "event",
        "event",
    ]


async def test_a_backlog_goes_out_at_the_configured_rate_and_no_faster(site: Site) -> None:
    site.configure({"hook": site.webhook(rate="100/s", burst=5)})
    async with site.worker(), site.worker():
        started = time.monotonic()
        await site.push(*(hook(number) for number in range(150)))
        requests = await site.receiver.until(150)
    assert len({request.headers["webhook-id"] for request in requests}) == 150
    for number, request in enumerate(requests, start=1):
        # In any time t no more than burst + rate x t; two workers may each hold some 50 ms worth. From the
        # start on, because a busy machine can only add to that time.
        assert number <= 5 + 100 * (request.at - started) + 12


async def test_a_slow_provider_costs_another_nothing(site: Site) -> None:
    providers = {"slow": site.webhook(url=f"{site.receiver.url}/slow", concurrency=2), "fast": site.webhook()}
    site.configure(providers, [{"name": "mixed"}])
    gate = site.receiver.gate

    class Selective:
        """Only requests to /slow wait."""

        async def wait(self) -> None:
            if site.receiver.requests[-1].path == "/slow":
                await gate.wait()

        def set(self) -> None:
            gate.set()

    gate.clear()
    site.receiver.gate = Selective()  # type: ignore[assignment]
    for number in range(50):
        await site.redis.rpush("mixed", json.dumps({"provider": "slow", "payload": {"body": number}}))
    for number in range(50):
        await site.redis.rpush("mixed", json.dumps({"provider": "fast", "payload": {"body": number}}))
    async with site.worker():
        await site.receiver.until(52)
        assert sum(request.path == "/hook" for request in site.receiver.requests) == 50
        gate.set()
        await site.receiver.until(100)


async def test_a_private_address_from_a_message_is_refused_at_connect_time(site: Site) -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    port = site.receiver.url.rpartition(":")[2]
    site.configure({"hook": {"type": "webhook", "secret": secret}})
    for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]"):
        await site.push({"payload": {"url": f"http://{host}:{port}/", "body": {}}})
    await site.drain()
    assert site.receiver.requests == []
    letters = await site.json("dead", "list", "hook")
    assert len(letters) == 3
    assert all("loopback" in letter["reason"] for letter in letters)


async def test_allow_private_opens_the_named_networks(site: Site) -> None:
    site.configure({"hook": {"type": "webhook", "allow_private": ["127.0.0.0/8"]}})
    await site.push({"payload": {"url": f"{site.receiver.url}/in", "body": "text"}})
    await site.drain()
    (request,) = site.receiver.requests
    assert (request.body, request.headers["content-type"]) == (b"text", "text/plain; charset=utf-8")
    assert "webhook-signature" not in request.headers


async def test_a_gone_endpoint_is_feedback_and_no_dead_letter(site: Site) -> None:
    hook = {"type": "webhook", "allow_private": True}
    site.configure({"hook": hook})
    site.receiver.answers.append(Answer(410, b"gone"))
    payload = {"url": f"{site.receiver.url}/hook", "body": {}}
    await site.push({"id": "a", "reply_to": "receipts:1", "payload": payload})
    await site.drain()
    (entry,) = await site.feedback()
    assert entry[b"target"].decode() == f"{site.receiver.url}/hook"
    assert entry[b"provider"] == b"hook"
    receipt = await site.receipt("receipts:1")
    assert (receipt["id"], receipt["provider"], receipt["outcome"]) == ("a", "hook", "unregistered")
    assert abs(receipt["at"] - time.time()) < 60
    assert await site.json("dead", "list", "hook") == []

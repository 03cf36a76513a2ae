"""The previous release and this version at work side by side, on one Redis and one backlog."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from testing.previous_release import Unavailable, unpack_previous_release
from testing.receiver import Answer, Received
from testing.relay_process import Worker
from testing.site import Site

MESSAGES = 400
KEYS = 5
"""Ordering keys."""

AT_ONCE = 8
"""Requests in flight of each lane and worker."""


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The environment in which `relay` is the previous release."""
    try:
        return {"PYTHONPATH": str(unpack_previous_release(tmp_path_factory.mktemp("previous")))}
    except Unavailable as reason:
        pytest.skip(f"no previous release to run: {reason}")


def message(number: int) -> dict[str, Any]:
    """One of six kinds: large, ordered, of low priority, delayed, of a group, refused at first."""
    fields: list[dict[str, Any]] = [
        {"provider": "bulk"},
        {"ordering_key": f"k{number % KEYS}"},
        {"priority": "low"},
        {"delay": 1},
        {"provider": "tenants", "group": f"g{number % 7}"},
        {},
    ]
    kind = number % len(fields)
    body = {"n": number, "key": number % KEYS if kind == 1 else None, "fails": kind == 5}
    if is_large(number):
        return {"payload": {"body": {**body, "filler": 8000 * "x"}}, **fields[kind]}
    return {"id": f"m{number}", "reply_to": "receipts:ends", "payload": {"body": body}, **fields[kind]}


def is_large(number: int) -> bool:
    return number % 6 == 0


def errors(*workers: Worker) -> list[dict[str, Any]]:
    return [line for one in workers for line in one.lines if line.get("level") in ("error", "critical")]


async def test_two_versions_share_a_backlog_and_lose_nothing_while_both_are_killed(
    site: Site, previous: dict[str, Any]
) -> None:
    seen: Counter[int] = Counter()
    refused: set[int] = set()

    def answer(request: Received) -> Answer:
        body = json.loads(request.body)
        if body["fails"] and body["n"] not in refused:
            refused.add(body["n"])
            return Answer(503)
        seen[body["n"]] += 1
        return Answer()

    site.receiver.answer = answer
    hook = site.webhook(rate="200/s", concurrency=AT_ONCE, timeout="60s", retry={"base": "2s", "max": "2s"})
    tenants = site.webhook(concurrency=AT_ONCE, timeout="60s", groups={"by": "message"})
    site.configure(
        {"hook": hook, "tenants": tenants, "bulk": site.webhook(concurrency=AT_ONCE, timeout="60s")},
        [{"name": "notifications", "provider": "hook", "providers": "*"}],
    )
    await site.push(*(message(number) for number in range(MESSAGES)))

    def this() -> AbstractAsyncContextManager[Worker]:
        return site.worker()

    def before() -> AbstractAsyncContextManager[Worker]:
        return site.worker(**previous)

    async def share(one: Callable[[], Any], other: Callable[[], Any]) -> None:
        """Begin with one version, let the other one join, kill the first, and stop the second later."""
        async with one() as first:
            await site.receiver.until(len(site.receiver.requests) + 30)
            site.receiver.gate.clear()
            answered = sum(seen.values()) + len(refused)
            async with other() as second:
                # Both have as many requests in flight as they may.
                await site.receiver.until(answered + 2 * AT_ONCE)
                first.signal(signal.SIGKILL)
                await first.ended()
                await second.says("recovered the messages of a dead worker")
                site.receiver.gate.set()
                await site.receiver.until(len(site.receiver.requests) + 30)
                # Without an answer it cannot take the rest of the backlog while it stops.
                site.receiver.gate.clear()
                second.signal(signal.SIGTERM)
                await second.says("stopping")
                site.receiver.gate.set()
                assert await second.ended() == 0
                assert errors(first, second) == []

    await share(before, this)
    # And the way back.
    await share(this, before)
    listed = await site.json("status", **previous)
    assert {lane["provider"] for lane in listed["lanes"]} == {"hook", "tenants", "bulk"}
    await site.drain(**previous)

    receipts = [json.loads(text) for text in await site.redis.lrange("receipts:ends", 0, -1)]
    assert Counter((one["id"], one["outcome"]) for one in receipts) == Counter(
        {(f"m{number}", "delivered"): 1 for number in range(MESSAGES) if not is_large(number)}
    ), "one receipt each"
    assert set(seen) == set(range(MESSAGES))
    kills, lanes = 2, 3
    assert sum(seen.values()) - MESSAGES <= kills * lanes * AT_ONCE, "only those in flight are sent again"
    for key in range(KEYS):
        bodies = [json.loads(request.body) for request in site.receiver.requests]
        order = list(dict.fromkeys(body["n"] for body in bodies if body["key"] == key))
        assert order == sorted(order)


async def test_the_previous_release_refuses_lanes_of_a_newer_layout(
    site: Site, previous: dict[str, Any]
) -> None:
    site.configure({"hook": site.webhook()})
    await site.push({"payload": {"body": 1}})
    await site.redis.hset("relay:{hook}:control", "layout", "99")
    ended = await site.relay("run", **previous)
    assert (ended.code, await site.redis.llen("notifications")) == (2, 1)
    assert "hook (99)" in ended.err

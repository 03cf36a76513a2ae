"""All features of a message, through the command line, and the table of docs/reference/messages.md."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from testing.receiver import Answer, Received, Receiver
from testing.site import Site

PAGE = Path(__file__).parents[2] / "docs/reference/messages.md"
EMPTY = "--until-empty"


def rows() -> list[tuple[str, str, str, str]]:
    """The rows of the table of examples: subject, pushed, sent, receipts."""
    _, _, table = PAGE.read_text().partition(
        "| example | pushed | sent | receipts |\n| --- | --- | --- | --- |\n"
    )
    found = []
    for line in table.partition("\n\n")[0].splitlines():
        what, pushed, sent, receipts = (cell.strip() for cell in line.strip("|").split(" |"))
        found.append((what, pushed, sent, receipts))
    return found


def told(receipt: dict[str, Any]) -> str:
    """A receipt as the table writes it."""
    text = f"{receipt['id']} {receipt['outcome']}"
    return f"{text} ({receipt['reason']})" if "targets" in receipt else text


async def receipts(redis: Redis, key: str = "receipts:1") -> list[dict[str, Any]]:
    return [json.loads(text) for text in await redis.lrange(key, 0, -1)]


def numbers(receiver: Receiver) -> list[int]:
    return [json.loads(request.body)["n"] for request in receiver.requests]


async def test_the_page_shows_how_each_message_ends(site: Site) -> None:
    """All rows at once, each with a queue, a provider and a list of receipts of its own."""
    site.receiver.answer = lambda request: Answer(400 if b"400" in request.body else 200)
    queues, providers, expected = [], {}, {}
    for number, (what, pushed, sent, receipt) in enumerate(rows()):
        name = f"row{number}"
        base = f"{site.receiver.url}/{name}"
        fields: dict[str, Any] = {"url": base, "concurrency": 1, "dedup_window": "10m"}
        if "{hook}" in pushed:
            fields |= {"url": None, "allow_private": True}
        providers[name] = site.webhook(**fields)
        queues.append({"name": f"queue{number}", "provider": name})
        messages = re.findall(
            r"`([^`]*)`", pushed.replace("{hook}", base).replace("receipts:app", f"receipts:{number}")
        )
        assert messages
        await site.redis.rpush(f"queue{number}", *messages)
        if "delay" not in pushed:
            await site.redis.hset(f"relay:{{{name}}}:control", "paused", "1")
        expected[what] = {"sent": sent, "receipts": receipt}
    site.configure(providers, queues)
    async with site.worker():
        while await site.redis.exists(*(queue["name"] for queue in queues)) or [
            key async for key in site.redis.scan_iter("*processing*")
        ]:
            await asyncio.sleep(0.01)
    for name in providers:
        await site.redis.hdel(f"relay:{{{name}}}:control", "paused")
    assert (await site.relay("run", EMPTY)).code == 0
    found = {}
    for number, (what, *_) in enumerate(rows()):
        mine = [request for request in site.receiver.requests if request.path.split("/")[1] == f"row{number}"]
        found[what] = {
            "sent": ", ".join(str(json.loads(request.body)["n"]) for request in mine),
            "receipts": ", ".join(
                told(receipt) for receipt in await receipts(site.redis, f"receipts:{number}")
            ),
        }
    assert found == expected


async def test_a_message_that_expires_between_two_attempts_is_not_tried_again(site: Site) -> None:
    site.receiver.answer = lambda request: Answer(503)
    fields = {"retry": {"base": "30s"}, "ttl": "1s"}
    site.configure({"hook": site.webhook(**fields)})
    await site.push('{"id": "a", "reply_to": "receipts:1", "payload": {"body": {"n": 1}}}')
    assert (await site.relay("run", EMPTY)).code == 0
    (receipt,) = await receipts(site.redis)
    assert (receipt["outcome"], receipt["attempts"]) == ("expired", len(site.receiver.requests))


@pytest.mark.parametrize(("overflow", "kept"), [("drop_oldest", [3, 4, 5]), ("drop_newest", [1, 2, 3])])
async def test_a_full_backlog_is_counted_and_receipted(site: Site, overflow: str, kept: list[int]) -> None:
    fields = {"max_backlog": 3, "overflow": overflow, "concurrency": 1}
    site.configure({"hook": site.webhook(**fields)})
    assert (await site.relay("pause", "hook")).code == 0
    for number in range(1, 6):
        message = {"id": f"m{number}", "reply_to": "receipts:1", "payload": {"body": {"n": number}}}
        await site.push(message)
    async with site.worker():
        while len(await receipts(site.redis)) < 2:
            await asyncio.sleep(0.02)
        assert (await site.relay("resume", "hook")).code == 0
        await site.receiver.until(3)
    assert numbers(site.receiver) == kept
    dropped = [receipt["id"] for receipt in await receipts(site.redis) if receipt["outcome"] == "dropped"]
    assert dropped == [f"m{number}" for number in range(1, 6) if number not in kept]
    status = await site.json("status")
    assert status["lanes"][0]["dropped"] == 2


async def test_an_impossible_reply_to_costs_no_other_message_a_receipt(site: Site) -> None:
    await site.redis.set("receipts:taken", "something else")
    site.configure({"hook": site.webhook()})
    targets = ["receipts:taken", "receipts:1", "notifications", "relay:{hook}:ready:high"]
    for number, target in enumerate(targets):
        message = {"id": f"m{number}", "reply_to": target, "payload": {"body": {"n": number}}}
        await site.push(message)
    finished = await site.relay("run", EMPTY)
    assert finished.code == 0
    assert [receipt["id"] for receipt in await receipts(site.redis)] == ["m1"]
    assert "holds something else" in finished.err
    letters = await site.json("dead", "list", "hook")
    assert [letter["reason"] for letter in letters] == [
        "reply_to: 'notifications' is a queue; its receipts would be taken for messages",
        "reply_to: keys that start with 'relay:' are relay's own",
    ]


async def test_a_fan_out_survives_its_workers_and_lets_others_pass(site: Site) -> None:
    """600 targets, one gone and one refusing; two workers are killed on the way."""
    gone, refusing = f"{site.receiver.url}/17", f"{site.receiver.url}/99"

    def answer(request: Received) -> Answer:
        return Answer({"/17": 410, "/99": 400}.get(request.path, 200))

    site.receiver.answer = answer
    fields = {"url": None, "allow_private": True, "rate": "300/s", "burst": 20, "breaker": {"failures": 1000}}
    site.configure({"hook": site.webhook(**fields)})
    fan_out = {
        "id": "news",
        "reply_to": "receipts:1",
        "ordering_key": "k",
        "payload": {"targets": [f"{site.receiver.url}/{number}" for number in range(600)], "body": {"n": 1}},
    }
    after = {"id": "after", "ordering_key": "k", "payload": {"url": f"{site.receiver.url}/after", "body": {}}}
    single = {"id": "single", "payload": {"url": f"{site.receiver.url}/single", "body": {}}}
    await site.push(*(fan_out, after, single))
    for seen in (60, 300):
        async with site.worker() as running:
            await site.receiver.until(seen)
            running.process.kill()
            await running.ended()
    assert (await site.relay("run", EMPTY)).code == 0
    counts = Counter(request.path for request in site.receiver.requests)
    assert set(counts) == {f"/{number}" for number in range(600)} | {"/after", "/single"}
    # Only messages that were in flight at a kill may come twice.
    assert sum(counts.values()) <= 602 + 2 * 64
    (receipt,) = await receipts(site.redis)
    assert receipt["targets"] == {"delivered": 598, "unregistered": 1, "rejected": 1}
    assert (receipt["id"], receipt["outcome"]) == ("news", "partial")
    order = [request.path for request in site.receiver.requests]
    assert order[-1] == "/after", "the next of the ordering key waits for the last target"
    assert order.index("/single") < 300, "others wait for a chunk only"
    (letter,) = await site.json("dead", "list", "hook")
    assert (letter["id"], letter["payload"]["url"]) == ("news#99", refusing)
    (entry,) = await site.feedback()
    assert (entry[b"id"].decode(), entry[b"target"].decode()) == ("news#17", gone)


async def test_a_fan_out_is_taken_back(site: Site) -> None:
    fields = {"url": None, "allow_private": True, "rate": "50/s", "burst": 5}
    site.configure({"hook": site.webhook(**fields)})
    targets = [f"{site.receiver.url}/{number}" for number in range(1000)]
    message = {"id": "news", "reply_to": "receipts:1", "payload": {"targets": targets, "body": {}}}
    await site.push(message)
    async with site.worker():
        await site.receiver.until(20)
        assert "cancelled" in (await site.relay("cancel", "hook", "news")).err
        receipt = await site.receipt("receipts:1")
    assert receipt["outcome"] == "partial"
    assert receipt["targets"]["delivered"] == len(site.receiver.requests)
    assert sum(receipt["targets"].values()) == 1000


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"targets": []}, "payload.targets: 0 of them; there may be 1 to 10000"),
        ({"targets": "https://a"}, "payload.targets: must be an array, one url each"),
        ({"targets": ["https://a"], "url": "https://b"}, "payload.url: leave it out"),
        ({"targets": ["https://a"] * 10_001}, "payload.targets: 10001 of them"),
    ],
)
async def test_a_fan_out_that_makes_no_sense_is_a_dead_letter(
    site: Site, payload: dict[str, Any], reason: str
) -> None:
    site.configure({"hook": site.webhook(url=None)})
    await site.push({"payload": payload})
    assert (await site.relay("run", EMPTY)).code == 0
    (letter,) = await site.json("dead", "list", "hook")
    assert letter["reason"].startswith(reason)
    assert site.receiver.requests == []

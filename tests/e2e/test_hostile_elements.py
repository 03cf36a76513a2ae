"""Elements and keys that try to stop a worker or its neighbours: everything else continues."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from testing.relay_process import limit_memory, worker, write_config
from testing.site import Site
from testing.streams import entries_of

OPERATIONS = Path(__file__).parents[2] / "docs/how-to/prepare-redis.md"
HUGE = 64 << 20
ROOM = 40 << 20
"""Bytes by which a worker may grow: less than one copy of a huge element."""


def message(text: str, **fields: Any) -> str:
    return json.dumps({"id": text, "reply_to": "receipts:1", "payload": {"body": {"n": text}}, **fields})


async def ends(site: Site, number: int) -> dict[str, tuple[str, str]]:
    """Wait for this number of receipts, and return the provider and the outcome of each message."""
    found = await site.receipts(number)
    assert len({receipt["id"] for receipt in found}) == len(found), "each receipt comes once"
    return {receipt["id"]: (receipt["provider"], receipt["outcome"]) for receipt in found}


async def test_a_huge_element_becomes_a_dead_letter_without_reaching_the_worker(site: Site) -> None:
    site.configure({"hook": site.webhook()})
    huge = b"x" * HUGE
    async with site.installed_worker() as running:
        await site.push(message("warm"))
        await ends(site, 1)
        limit_memory(running.process.pid, ROOM)
        await site.push(huge)  # it waits for one element
        await site.push(message("a"))
        await ends(site, 2)
        await site.push(message("b"), huge, message("c"))  # a batch
        await ends(site, 4)
    troubles = {line["event"] for line in running.lines if line.get("level") in ("warning", "error")}
    assert troubles == {"dead letter"}, "no connection broke, and nothing ran out of memory"
    letters = await entries_of(site.redis, "relay:{hook}:dead")
    assert [(fields[b"raw"] == huge, int(fields[b"size"])) for _, fields in letters] == [(True, HUGE)] * 2
    assert {fields[b"reason"] for _, fields in letters} == {
        b"%d bytes; the queue 'notifications' takes at most 1048576" % HUGE
    }
    await site.redis.flushall()


async def test_a_malformed_element_stops_no_other_and_gets_a_receipt_if_possible(site: Site) -> None:
    """Long names, wrong fields, providers, lists and times that the queue does not allow."""
    providers = {"hook": site.webhook(), "other": site.webhook(), "hidden": site.webhook()}
    queue = {"name": "q", "provider": "hook", "providers": ["other"]}
    site.configure(providers, [queue])
    long_name = "x" * (2 << 20)
    elements = [
        json.dumps({"payload": {}, long_name: {"targets": 1}}),
        message("unknown field", colapse_key="x"),
        message("nobody", provider="nobody"),
        message("hidden", provider="hidden"),
        message("other", provider="other"),
        message("forever", deliver_at="5138-11-16T09:46:39Z"),
        message("values", payload={"targets": [1] * 600_000}),
        message("celery", reply_to="celery"),
        message("own", reply_to="relay:wake"),
        '{"id": "broken", "reply_to": "receipts:1", "payload": {',
        message("good"),
    ]
    await site.redis.rpush("q", *elements)
    async with site.worker():
        found = await ends(site, 6)
    assert found == {
        "unknown field": ("hook", "rejected"),
        "nobody": ("nobody", "rejected"),
        "hidden": ("hidden", "rejected"),
        "other": ("other", "delivered"),
        "forever": ("hook", "rejected"),
        "good": ("hook", "delivered"),
    }
    assert not await site.redis.exists("celery")
    letters = await site.json("dead", "list", "q")
    reasons = sorted(letter["reason"] for letter in letters)
    expected = [
        f"{len(elements[0])} bytes; the queue 'q' takes at most",
        "unknown field",
        "payload.targets: 600004 values or more; there may be 250000",
        "deliver_at: ",
        "reply_to: 'celery' is not among the lists",
        "reply_to: keys that start with 'relay:' are relay's own",
        "not JSON",
        "provider: 'nobody' is not configured",
        "provider: the queue 'q' does not admit 'hidden', only hook, other",
    ]
    assert len(reasons) == len(expected)
    for reason, begin in zip(reasons, sorted(expected), strict=True):
        assert reason.startswith(begin)
        assert len(reason) < 600
    refused = await site.relay("push", "q", message("x", provider="hidden"))
    assert refused.code == 2
    assert "does not admit 'hidden'" in refused.err


async def test_a_lane_with_a_key_of_a_wrong_type_holds_up_no_other_lane(site: Site) -> None:
    """The rights on the page about Redis are enough."""
    (rights,) = re.findall(r"ACL SETUSER relay on >PASSWORD ((?:.*\\\n)*.*)", OPERATIONS.read_text())
    words = rights.replace("\\\n", " ").replace("~notifications", "~q").split()
    await site.redis.execute_command("ACL", "SETUSER", "relay", "reset", "on", ">word", *words)
    url = site.server.url.replace("redis://", "redis://relay:word@")
    providers = {"broken": site.webhook(concurrency=1), "good": site.webhook()}
    config = write_config(site.folder, url, providers, [{"name": "q"}])
    await site.redis.set("relay:{broken}:bodies", "text")
    first = [message(f"b{number}", provider="broken") for number in range(3)]
    await site.redis.rpush("q", *first, *(message(f"g{number}", provider="good") for number in range(3)))
    async with worker(config) as running:
        assert set(await ends(site, 3)) == {"g0", "g1", "g2"}
        line = await running.says("lane refuses messages")
        assert line["provider"] == "broken"
        assert "WRONGTYPE" in line["reason"]
        await site.redis.rpush("q", message("b3", provider="broken"))
        await site.redis.rpush("q", message("g3", provider="good"))
        await ends(site, 4)
        async with asyncio.timeout(120):
            while await site.redis.llen("relay:{q}:deferred:broken") != 4:
                await asyncio.sleep(0.05)
        await site.redis.delete("relay:{broken}:bodies")
        assert len(await ends(site, 8)) == 8
    await site.redis.execute_command("ACL", "DELUSER", "relay")
    sent = [json.loads(request.body)["n"] for request in site.receiver.requests]
    assert [text for text in sent if text.startswith("b")] == ["b0", "b1", "b2", "b3"]


async def test_an_id_of_a_scoped_queue_is_found_by_cancel(site: Site) -> None:
    queues = [{"name": name, "provider": "hook", "scope": "queue"} for name in ("one", "two")]
    site.configure({"hook": site.webhook()}, queues)
    await site.redis.hset("relay:{hook}:control", "paused", "1")
    async with site.worker():
        for name in ("one", "two"):
            await site.redis.rpush(name, message("same", reply_to=f"receipts:{name}"))
        async with asyncio.timeout(120):
            while await site.redis.hlen("relay:{hook}:bodies") < 2:
                await asyncio.sleep(0.02)
        cancelled = await site.relay("cancel", "hook", "same")
        assert (cancelled.code, await site.redis.hlen("relay:{hook}:bodies")) == (0, 0)
    # A worker that ends forwards receipts immediately; otherwise it polls for them every 15 s.
    for name in ("one", "two"):
        (receipt,) = await site.redis.lrange(f"receipts:{name}", 0, -1)
        found = json.loads(receipt)
        assert (found["id"], found["outcome"]) == ("same", "cancelled")

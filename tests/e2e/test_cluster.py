"""All features on a Redis Cluster: lanes, queues, receipts and feedback are in different slots."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import RedisCluster as ClusterClient

from relay.redis_client.connect import connect
from relay.store import dead, journal
from relay.store.statistics import read_recent
from testing.commands import output, run_command
from testing.receiver import Answer, Receiver
from testing.redis_cluster import RedisCluster
from testing.redis_server import BLOCKING_TIMEOUT
from testing.relay_process import installed_worker, limit_memory, relay, worker, write_config
from testing.site import Site
from testing.streams import entries_of
from tests.conftest import BINARIES

HUGE = 64 << 20
ROOM = 40 << 20
"""Bytes by which a worker may grow: less than one copy of a huge element."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    running = RedisCluster(BINARIES[max(BINARIES)], tmp_path_factory.mktemp("cluster")).start()
    yield running
    running.stop()


@pytest.fixture
async def redis(cluster: RedisCluster) -> AsyncIterator[ClusterClient]:
    """A client of an empty cluster."""
    client = ClusterClient(port=cluster.nodes[0].port, host="127.0.0.1", socket_timeout=BLOCKING_TIMEOUT)
    await client.flushall(target_nodes="primaries")
    yield client
    await client.aclose()


def triggered(receiver: Receiver) -> int:
    """The events of the requests to Pusher."""
    bodies = [json.loads(request.body) for request in receiver.requests if "apps" in request.path]
    return sum(len(body.get("batch", [body])) for body in bodies)


async def test_the_whole_job_on_a_cluster(site: Site, cluster: RedisCluster) -> None:
    site.receiver.answer = lambda request: Answer({"/gone": 410, "/bad": 400}.get(request.path, 200))
    providers = {
        "hook": site.webhook(url=None, allow_private=True, dedup_window="1m"),
        "pusher": site.pusher(),
        "wedged": site.webhook(url=f"{site.receiver.url}/wedged", concurrency=1),
    }
    queues = [
        {"name": "notifications", "provider": "hook", "providers": "*"},
        {"name": "hits", "provider": "pusher", "format": "bare"},
    ]
    providers["pusher"]["event"] = "hit"
    config = str(write_config(site.folder, cluster.url, providers, queues))
    await site.redis.set("relay:{wedged}:bodies", "somebody else's")
    for number in range(3):
        element = {"provider": "wedged", "payload": {"body": number}}
        await site.push(element)
    for number in range(200):
        message = {
            "id": f"m{number}",
            "reply_to": f"receipts:{number % 7}",
            "ordering_key": f"k{number % 20}",
            "payload": {"url": f"{site.receiver.url}/m{number}", "body": {}},
        }
        await site.push(message)
        await site.redis.rpush("hits", json.dumps({"channel": "site-1", "hits": number}))
    targets = [f"{site.receiver.url}/t{number}" for number in range(300)]
    fan_out = {
        "id": "all",
        "reply_to": "receipts:fan",
        "payload": {"targets": [*targets, f"{site.receiver.url}/gone"]},
    }
    bad = {"id": "bad", "payload": {"url": f"{site.receiver.url}/bad"}}
    later = {"id": "later", "delay": "1h", "payload": {"url": f"{site.receiver.url}/later"}}
    again = {"id": "m1", "reply_to": "receipts:again", "payload": {"url": f"{site.receiver.url}/again"}}
    await site.push(*(fan_out, bad, later, again))
    async with worker(Path(config)):
        fan_receipt = await site.receipt("receipts:fan")
        assert (await site.receipt("receipts:again"))["outcome"] == "duplicate"
        while sum([await site.redis.llen(f"receipts:{place}") for place in range(7)]) < 200:
            await asyncio.sleep(0.02)
        while (
            sum(len(json.loads(r.body).get("batch", [1])) for r in site.receiver.requests if "apps" in r.path)
            < 200
        ):
            await asyncio.sleep(0.02)
        assert "cancelled" in (await relay("cancel", "hook", "later", "-c", config)).err
        assert (await relay("pause", "hook", "-c", config)).code == 0
        lanes = {
            lane["provider"]: lane for lane in (await relay("status", "--json", "-c", config)).json["lanes"]
        }
        assert (lanes["hook"]["state"], lanes["hook"]["dead"], lanes["pusher"]["delivered"]) == (
            "paused",
            1,
            200,
        )
        assert (await relay("resume", "hook", "-c", config)).code == 0
        assert await site.redis.llen("relay:{notifications}:deferred:wedged") == 3
        await site.redis.delete("relay:{wedged}:bodies")
        while [request.body for request in site.receiver.requests if request.path == "/wedged"] != [
            *(b"0", b"1", b"2")
        ]:
            await asyncio.sleep(0.02)
    assert (fan_receipt["outcome"], fan_receipt["targets"]) == (
        "partial",
        {"delivered": 300, "unregistered": 1},
    )
    assert [fields[b"target"] for fields in await site.feedback()] == [f"{site.receiver.url}/gone".encode()]
    paths = Counter(
        request.path
        for request in site.receiver.requests
        if "apps" not in request.path and request.path != "/wedged"
    )
    assert paths == Counter(
        {f"/m{n}": 1 for n in range(200)} | {f"/t{n}": 1 for n in range(300)} | {"/gone": 1, "/bad": 1}
    )
    receipts = [
        json.loads(text)["id"]
        for place in range(7)
        for text in await site.redis.lrange(f"receipts:{place}", 0, -1)
    ]
    assert sorted(receipts) == sorted(f"m{number}" for number in range(200))
    (letter,) = (await relay("dead", "list", "hook", "--json", "-c", config)).json
    assert letter["id"] == "bad"
    assert "retried 1" in (await relay("dead", "retry", "hook", "-c", config)).err
    assert (await relay("run", "-c", config, "--until-empty")).code == 0


async def test_a_huge_element_on_a_cluster_becomes_a_dead_letter_without_reaching_the_worker(
    site: Site, cluster: RedisCluster
) -> None:
    """Also after the queue has moved to another node: the wait for the next element moves with it."""
    config = write_config(site.folder, cluster.url, {"hook": site.webhook()})
    huge = b"x" * HUGE
    async with installed_worker(config) as running:
        await site.push({"payload": {"body": "warm"}})
        await site.receiver.until(1)
        limit_memory(running.process.pid, ROOM)
        await site.push(huge)  # it waits for one element
        await running.says("dead letter")
        old = cluster.master_of("notifications")
        new = next(node for node in cluster.nodes if node is not old)
        await asyncio.to_thread(cluster.move_slot, "notifications", old, new)
        await site.push({"payload": {"body": "moved"}})
        await site.receiver.until(2)
        await site.push(huge)
        async with asyncio.timeout(120):
            while await site.redis.xlen("relay:{notifications}:rejected") < 2:
                await asyncio.sleep(0.02)
        await site.push({"payload": {"body": "after"}})
        await site.receiver.until(3)
    troubles = [line for line in running.lines if line.get("level") in ("warning", "error")]
    assert not [line for line in troubles if "memory" in str(line) or "exception" in line]
    letters = await entries_of(site.redis, "relay:{notifications}:rejected")
    assert [(fields[b"raw"] == huge, int(fields[b"size"])) for _, fields in letters] == [(True, HUGE)] * 2
    await site.redis.flushall(target_nodes="primaries")


async def test_operators_control_a_fleet_on_a_cluster_with_the_documented_rights(
    site: Site, redis: ClusterClient, cluster: RedisCluster
) -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/prepare-redis.md").read_text()
    (rules,) = re.findall(r"ACL SETUSER (relay on (?:[^`]|\\\n)+?)\n```", page)
    further = re.findall(r"A cluster also needs `([^`]+)`", page)[0]
    words = f"{rules} {further}".replace("\\\n", " ").replace(">PASSWORD", ">s3cret").split()
    await redis.execute_command("ACL SETUSER", *words, target_nodes="all")
    url = cluster.url.replace("//", "//relay:s3cret@", 1)
    config = str(write_config(site.folder, url, {"hook": site.webhook()}, alerts={"provider": "hook"}))
    async with worker(Path(config)):
        await output("alerts", "test", "-c", config)
        assert json.loads(site.receiver.requests[0].body)["alert"] == "test"
        await output("rate", "hook", "1/d", "--for", "1h", "--because", "less", "-c", config)
        await output("push", "notifications", '{"id": "m1", "payload": {"body": "1"}}', "-c", config)
        async with asyncio.timeout(120):
            while (await run_command("cancel", "hook", "m1", "-c", config)).exit_code:
                pass
        await output("pause", "hook", "--for", "1h", "-c", config)
        await output("resume", "hook", "--because", "all well", "-c", config)
        await output("rate", "hook", "--reset", "-c", config)
        (report,) = json.loads(await output("reload", "--wait", "60s", "--json", "-c", config))
        assert report["ok"]
        shown = await output("check", "--against-live", "-c", config)
        assert "a reload changes no queue and no provider" in shown
    async with connect(url) as client:
        entries = await journal.latest(client, "relay", "hook")
        counts = await read_recent(client, "relay", ["hook"], now=time.time(), minutes=10)
    assert {(entry.id, entry.outcome) for entry in entries} >= {("m1", "cancelled")}
    assert counts["hook"].outcomes["cancelled"] == 1
    assert counts["hook"].statuses == {"200": 1}
    for stream in (dead.queue_stream("relay", "notifications"), dead.lane_stream("relay", "hook")):
        await redis.xadd(stream, {"raw": '{"payload": {"body": "2"}}', "reason": "unknown provider"})
    retried = await relay("dead", "retry", "notifications", "--json", "-c", config)
    assert (retried.code, retried.json["done"]) == (0, 1), retried.err
    purged = await relay("dead", "purge", "--text", "BODY", "--yes", "--json", "-c", config)
    assert (purged.code, purged.json["done"]) == (0, 1), purged.err
    actions = [entry["action"] for entry in json.loads(await output("audit", "--json", "-c", config))]
    assert actions == ["purge", "retry", "reload", "rate-reset", "resume", "pause", "cancel", "rate"]
    await redis.execute_command("ACL DELUSER", "relay", target_nodes="all")

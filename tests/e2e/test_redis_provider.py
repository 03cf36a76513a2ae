"""Redis as the provider: subscribers get messages immediately, and readers later, across disconnections."""

from __future__ import annotations

import json

import pytest
from redis.asyncio import Redis

from testing.ports import free_port
from testing.redis_server import RedisServer
from testing.relay_process import relay, write_config
from testing.site import Site
from testing.streams import entries_of


async def push(redis: Redis, payload: object, **envelope: object) -> None:
    await redis.rpush("notifications", json.dumps({"payload": payload, **envelope}))


async def test_a_reader_that_was_away_finds_the_messages_in_the_stream(site: Site) -> None:
    site.configure({"live": {"type": "redis", "stream": "news"}})
    async with site.redis.pubsub() as subscriber, site.worker():
        await subscriber.subscribe("news")
        assert (await subscriber.get_message(timeout=120))["type"] == "subscribe"

        async def hears() -> bytes:
            message: dict[str, bytes] = await subscriber.get_message(timeout=120)
            return message["data"]

        await push(site.redis, {"channel": "news", "data": "one"}, id="m-1", reply_to="receipts:ends")
        assert await hears() == b"one"
        receipt = await site.receipt("receipts:ends")
        ((last_seen, _),) = await entries_of(site.redis, "news")
        assert receipt["outcome"] == "delivered"
        await subscriber.unsubscribe("news")
        assert (await subscriber.get_message(timeout=120))["type"] == "unsubscribe"
        for number, word in enumerate(("two", "three"), start=2):
            await push(
                site.redis, {"channel": "news", "data": word}, id=f"m-{number}", reply_to="receipts:ends"
            )
            await site.redis.blpop(["receipts:ends"], 120)
        missed = [fields for _, fields in await entries_of(site.redis, "news", min=b"(" + last_seen)]
        assert [(fields[b"id"], fields[b"data"]) for fields in missed] == [
            (b"m-2", b"two"),
            (b"m-3", b"three"),
        ]


async def test_a_fan_out_is_a_message_for_each_channel(site: Site) -> None:
    site.configure({"live": {"type": "redis"}})
    channels = [f"user-{number}" for number in range(250)]
    async with site.redis.pubsub() as subscriber, site.worker():
        await subscriber.psubscribe("user-*")
        await subscriber.get_message(timeout=120)
        await push(site.redis, {"targets": channels, "data": "x"}, reply_to="receipts:ends")
        heard = [(await subscriber.get_message(timeout=120))["channel"].decode() for _ in channels]
        receipt = await site.receipt("receipts:ends")
    assert sorted(heard) == sorted(channels)
    assert receipt["outcome"] == "delivered"


async def test_another_redis_that_dies_and_comes_back_gets_everything(site: Site) -> None:
    other = RedisServer(site.server.binary, site.folder / "other", "--appendfsync", "always").start()
    retry = {"attempts": 1000, "base": "20ms", "max": "50ms"}
    provider = {"type": "redis", "url": other.url, "retry": retry, "breaker": {"cooldown": "50ms"}}
    site.configure({"live": provider})
    try:
        async with site.worker():
            for number in range(300):
                await push(
                    site.redis, {"stream": "s", "data": number}, id=f"m{number}", reply_to="receipts:ends"
                )
                if number == 100:
                    await site.redis.blpop(["receipts:ends"], 120)
                    other.kill()
                if number == 200:
                    other.start()
            for _ in range(299):
                assert (await site.receipt("receipts:ends"))["outcome"] == "delivered"
        async with Redis.from_url(other.url) as client:
            ids = [fields[b"id"].decode() for _, fields in await entries_of(client, "s")]
    finally:
        other.stop()
    assert set(ids) == {f"m{number}" for number in range(300)}


async def test_a_wrong_message_is_a_dead_letter_with_the_reply_of_redis(site: Site) -> None:
    site.configure({"live": {"type": "redis"}})
    await site.redis.set("text", "")
    async with site.worker():
        await push(site.redis, {"stream": "text", "data": 1}, id="m-1", reply_to="receipts:ends")
        await site.redis.blpop(["receipts:ends"], 120)
    (letter,) = await site.json("dead", "list", "live")
    assert letter["reason"].startswith("WRONGTYPE Operation against a key")


@pytest.mark.usefixtures("redis")
async def test_check_connect_reports_the_reachability_of_redis(site: Site) -> None:
    wrong = site.server.url.replace("//", "//app:secret@")
    providers = {"own": {"type": "redis"}, "other": {"type": "redis", "url": wrong}}
    config = str(site.configure(providers))
    checked = await relay("check", "--connect", "-c", config)
    assert checked.code == 1
    assert "ok own: Redis answers; nothing was published" in checked.out.replace("       ", " ")
    assert "other: cannot use Redis: invalid username-password pair" in checked.out
    assert "secret" not in checked.out + checked.err
    gone = f"redis://127.0.0.1:{free_port()}/0"
    config = str(write_config(site.folder, gone, {"own": {"type": "redis"}}))
    checked = await relay("check", "--connect", "-c", config)
    assert checked.code == 1
    assert "own: relay's own Redis cannot be reached" in checked.out


async def test_own_keys_are_out_of_reach_by_any_name_of_the_server(site: Site) -> None:
    """Another host name and another database lead to relay's own Redis: channels span all databases."""
    elsewhere = f"redis://localhost:{site.server.port}/1"
    site.configure(
        {"live": {"type": "redis"}, "elsewhere": {"type": "redis", "url": elsewhere}},
        [
            {"name": "notifications", "provider": "live", "providers": "*"},
            {"name": "hits", "provider": "live"},
        ],
    )
    own = [
        "relay:{live}:outbox",
        "relay:{live}:ready:normal",
        "relay:{fleet}:recovery",
        "relay:feedback",
        "hits",
    ]
    payloads = [{"stream": name, "data": "x", "maxlen": 1} for name in own] + [{"channel": "relay:wake"}]
    async with site.worker() as running:
        for provider in ("live", "elsewhere"):
            for payload in payloads:
                await push(site.redis, payload, provider=provider, reply_to="receipts:ends")
        for _ in payloads * 2:
            receipt = await site.receipt("receipts:ends")
            assert receipt["outcome"] == "rejected"
            assert "relay's own" in receipt["reason"] or "is a queue" in receipt["reason"]
        # The queue is still a queue, and the lane still delivers.
        await site.redis.rpush(
            "hits", json.dumps({"payload": {"stream": "s", "data": 1}, "reply_to": "receipts:ends"})
        )
        assert (await site.receipt("receipts:ends"))["outcome"] == "delivered"
    assert await running.ended() == 0
    assert await site.redis.exists("relay:feedback", "relay:{fleet}:recovery") == 0


async def test_a_message_cannot_trim_entries_of_other_messages(site: Site) -> None:
    live = {"type": "redis", "streams": ["news"], "min_maxlen": 1000}
    site.configure({"live": live})
    async with site.redis.pipeline() as pipe:
        for number in range(500):
            pipe.xadd("news", {"data": number})
        await pipe.execute()
    async with site.worker():
        for maxlen, outcome in ((1, "rejected"), (999, "rejected"), (1000, "delivered")):
            await push(
                site.redis, {"stream": "news", "data": "x", "maxlen": maxlen}, reply_to="receipts:ends"
            )
            receipt = await site.receipt("receipts:ends")
            assert receipt["outcome"] == outcome
            if outcome == "rejected":
                assert receipt["reason"] == "maxlen: must be at least 1000, the option `min_maxlen`"
    assert await site.redis.xlen("news") == 501

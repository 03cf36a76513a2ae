"""From RPUSH to Pusher and webhooks, with the installed command, a real Redis and a real receiver."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pusher.signature import sign
from standardwebhooks import Webhook

from testing.receiver import Received
from testing.redis_server import RedisServer
from testing.site import PUSHER, WEBHOOK_SECRET, Site


@pytest.fixture(scope="session")
def redis_server(every_redis_server: RedisServer) -> RedisServer:
    return every_redis_server


def check_pusher_signature(request: Received) -> None:
    """By the official library's own signing function."""
    from hashlib import md5

    query = dict(request.query)
    signature = query.pop("auth_signature")
    assert query["body_md5"] == md5(request.body).hexdigest()
    text = "&".join(f"{name}={query[name]}" for name in sorted(query))
    assert sign(PUSHER["secret"], f"POST\n{request.path}\n{text}") == signature
    assert query["auth_key"] == PUSHER["key"]


def events(request: Received) -> list[dict[str, Any]]:
    """The events of a request as (channel, name, data)."""
    document = json.loads(request.body)
    return [
        {
            "channel": event.get("channel") or event["channels"][0],
            "name": event["name"],
            "data": json.loads(event["data"]),
        }
        for event in document.get("batch", [document])
    ]


async def test_a_bare_element_becomes_a_signed_pusher_event(site: Site) -> None:
    queues = [{"name": "notifications", "provider": "pusher", "format": "bare"}]
    site.configure({"pusher": site.pusher(event="hit")}, queues)
    async with site.worker():
        await site.push('{"channel": "site-1", "hits": 3, "path": "/"}')
        (request,) = await site.receiver.until(1)
    check_pusher_signature(request)
    assert request.path == "/apps/3/events"
    assert events(request) == [{"channel": "site-1", "name": "hit", "data": {"hits": 3, "path": "/"}}]


async def test_an_enveloped_element_becomes_a_signed_pusher_event(site: Site) -> None:
    site.configure({"pusher": site.pusher()})
    payload = {"channel": "private-é", "event": "new", "data": {"text": "☃"}}
    payload["channel"] = "private-1"
    async with site.worker():
        await site.push(json.dumps({"payload": payload}, ensure_ascii=False))
        (request,) = await site.receiver.until(1)
    check_pusher_signature(request)
    assert events(request) == [{"channel": "private-1", "name": "new", "data": {"text": "☃"}}]


async def test_waiting_events_are_sent_in_batches_of_ten(site: Site) -> None:
    site.configure({"pusher": site.pusher(concurrency=1)})
    elements = [
        json.dumps({"payload": {"channel": "c", "event": "e", "data": number}}) for number in range(95)
    ]
    await site.push(*elements)
    await site.drain()
    assert all(len(events(request)) <= 10 for request in site.receiver.requests)
    assert len(site.receiver.requests) < 30
    assert sorted(event["data"] for request in site.receiver.requests for event in events(request)) == list(
        range(95)
    )
    for request in site.receiver.requests:
        check_pusher_signature(request)


async def test_a_webhook_is_signed_over_the_bytes_that_the_application_wrote(site: Site) -> None:
    site.configure({"hook": site.webhook()})
    async with site.worker():
        await site.push(b'{"id": "order-17", "payload": {"body": {"b": 1.10,  "a": "\\u00e9"}}}')
        (request,) = await site.receiver.until(1)
    assert request.body == b'{"b": 1.10,  "a": "\\u00e9"}'
    assert request.headers["webhook-id"] == "order-17"
    assert request.headers["content-type"] == "application/json"
    assert Webhook(WEBHOOK_SECRET).verify(request.body, request.headers) == {"b": 1.1, "a": "é"}


async def test_a_mixed_queue_routes_by_provider(site: Site) -> None:
    providers = {"pusher": site.pusher(), "hook": site.webhook()}
    site.configure(providers, [{"name": "mixed"}])
    await site.redis.rpush(
        "mixed",
        '{"provider": "hook", "payload": {"body": {"n": 1}}}',
        '{"provider": "pusher", "payload": {"channel": "c", "event": "e", "data": 2}}',
        '{"payload": {}}',
        '{"provider": "pushr", "payload": {}}',
    )
    await site.drain()
    assert sorted(request.path for request in site.receiver.requests) == ["/apps/3/events", "/hook"]
    letters = await site.json("dead", "list", "mixed")
    assert [letter["reason"] for letter in letters] == [
        "provider: missing, and the queue 'mixed' names none",
        "provider: 'pushr' is not configured; known: pusher, hook",
    ]


async def test_bad_elements_stop_nothing_and_keep_their_raw_bytes(site: Site) -> None:
    site.configure(
        {"hook": site.webhook()}, [{"name": "notifications", "provider": "hook", "max_size": "1KiB"}]
    )
    bad = [
        b"",
        b"\xff\xfe",
        b"{",
        b"[1]",
        b'{"payload": {"a": NaN}}',
        b'{"payload": {"x": "' + b"y" * 2000 + b'"}}',
        b"[" * 1000,
        b'{"payload": {"a": 1, "a": 2}}',
        b'{"payload": {}, "tll": 5}',
    ]
    for element in bad:
        await site.push(element)
    await site.push(b'{"payload": {"body": {"fine": true}}}')
    await site.drain()
    assert [request.body for request in site.receiver.requests] == [b'{"fine": true}']
    for name in ("hook", "notifications"):
        letters = await site.json("dead", "list", name)
        assert [letter["raw"] for letter in letters] == [
            element.decode("utf-8", "backslashreplace") for element in bad
        ]
        assert all("\n" not in letter["reason"] for letter in letters)

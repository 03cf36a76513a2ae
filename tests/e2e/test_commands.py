"""Each command as an operator runs it: output, exit codes, and errors of wrong usage."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from testing.ports import free_port
from testing.receiver import Answer
from testing.relay_process import relay, write_config
from testing.site import PUSHER, WEBHOOK_SECRET, Site

COMMANDS = [
    "init",
    "run",
    "check",
    "push",
    "status",
    "dead",
    "dead list",
    "dead show",
    "dead retry",
    "dead purge",
    "dead edit",
    "dead export",
    "pause",
    "resume",
    "cancel",
    "providers",
    "schema",
    "vapid",
    "sandbox",
    "demo",
]


@pytest.mark.parametrize("command", COMMANDS)
async def test_every_command_helps_with_an_example(command: str) -> None:
    helped = await relay(*command.split(), "--help")
    assert helped.code == 0
    assert "Example" in helped.out
    assert "\x1b[" not in helped.out


async def test_an_error_without_a_file_names_all_three_places_and_the_demo(tmp_path: Path) -> None:
    failed = await relay("run", cwd=tmp_path)
    assert failed.code == 2
    for word in ("-c", "RELAY_CONFIG", "relay.yaml", "relay init", "relay demo"):
        assert word in failed.err


@pytest.mark.parametrize("where", ["before", "after", "environment", "here"])
async def test_the_file_is_found_wherever_it_is_named(site: Site, where: str) -> None:
    config = str(site.configure({"hook": {"type": "webhook"}}))
    calls = {
        "before": site.relay("dead", "list", "hook", "--json"),
        "after": site.relay("dead", "list", "hook", "--json"),
        "environment": relay("dead", "list", "hook", "--json", RELAY_CONFIG=config),
        "here": relay("dead", "list", "hook", "--json", cwd=site.folder),
    }
    finished = [await call if name == where else call.close() for name, call in calls.items()]
    (done,) = [entry for entry in finished if entry is not None]
    assert (done.code, done.json) == (0, [])


async def test_check_reports_every_mistake_at_once_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "relay.yaml"
    path.write_text(
        "queues: [{name: q, provider: hok}]\n"
        "providers:\n  hook:\n    type: webhook\n    concurency: 3\n    rate: fast\n    secret: top-secret\n"
    )
    failed = await relay("check", "-c", str(path))
    assert failed.code == 2
    for words in ("hok", "hook", "concurency", "concurrency", "fast", "100/s"):
        assert words in failed.err
    assert "top-secret" not in failed.err
    assert all(re.match(r".*relay\.yaml:\d+:\d+: ", line) for line in failed.err.strip().splitlines())


async def test_check_connect_reaches_redis_and_authenticates(site: Site) -> None:
    site.configure({"pusher": site.pusher(), "hook": site.webhook()})
    good = await site.relay("check", "--connect")
    assert good.code == 0, good
    assert [request.method for request in site.receiver.requests] == ["GET"]
    site.receiver.answer = lambda request: Answer(401, b"Invalid signature")
    bad = await site.relay("check", "--connect")
    assert bad.code == 1
    assert "FAILED pusher" in bad.out
    assert "check key and secret" in bad.out


async def test_an_error_without_redis_is_one_line_without_the_password(tmp_path: Path) -> None:
    url = f"redis://user:hush-hush@127.0.0.1:{free_port()}/0"
    config = write_config(tmp_path, url, {"hook": {"type": "webhook"}})
    push = ["push", "notifications", '{"payload":{}}']
    for words in (["status"], ["run"], ["run", "--processes", "2"], push, ["dead", "list", "hook"]):
        failed = await relay(*words, "-c", str(config))
        assert failed.code == 1
        assert failed.err.startswith("relay: cannot reach Redis at redis://")
        assert failed.err.endswith(f"; is it running, and is `redis.url` in {config} right?\n")
        assert failed.err.count("\n") == 1
        assert "hush" not in failed.err + failed.out


async def test_push_checks_and_pushes_one_or_many(site: Site) -> None:
    hook = {"type": "webhook", "url": "http://127.0.0.1:1/"}
    site.configure({"hook": hook})
    assert (await site.relay("push", "notifications", '{"payload": {"body": 1}}')).code == 0
    lines = b"\n".join(b'{"payload": {"body": %d}}' % number for number in range(2500))
    many = await site.relay("push", "notifications", "-", stdin=lines + b"\n\n")
    assert (many.code, many.out) == (0, "")
    assert "pushed 2500 messages" in many.err
    assert await site.redis.llen("notifications") == 2501
    typo = await site.relay("push", "notifications", '{"payload": {}, "tll": 5}')
    assert typo.code == 2
    assert "did you mean 'ttl'?" in typo.err
    assert (await site.relay("push", "notification", "{}")).code == 2
    assert (await site.relay("push", "notifications", "nonsense", "--force")).code == 0
    assert await site.redis.llen("notifications") == 2502


async def test_push_refuses_a_message_that_the_provider_would_refuse_with_one_line(site: Site) -> None:
    providers = {"pusher": {**PUSHER, "event": "hit"}, "hook": {"type": "webhook"}}
    queues = [{"name": "hits", "provider": "pusher", "format": "bare"}, {"name": "mixed"}]
    site.configure(providers, queues)
    targets = ["https://example.com/"] * 150
    for queue, message, why in (
        ("hits", {"chanel": "site-1"}, "channel: missing"),
        ("mixed", {"provider": "pusher", "payload": {"channel": "a b"}}, "channel: 'a b' may hold only"),
        (
            "mixed",
            {"provider": "hook", "payload": {"targets": [*targets, "nonsense"], "body": 1}},
            "payload.targets[150]: url: must begin with https://",
        ),
    ):
        pushed = await site.relay("push", queue, json.dumps(message))
        assert pushed.code == 2
        assert pushed.err.startswith(f"message 1: {why}")
        assert pushed.err.count("\n") == 1
        assert (await site.relay("push", queue, json.dumps(message), "--force")).code == 0
    good = {"provider": "hook", "payload": {"targets": targets, "body": 1}}
    assert (await site.relay("push", "mixed", json.dumps(good))).code == 0
    assert (await site.redis.llen("hits"), await site.redis.llen("mixed")) == (1, 3)


async def test_push_refuses_a_provider_that_the_queue_does_not_allow(site: Site) -> None:
    providers = {name: {"type": "webhook", "url": "http://127.0.0.1:1/"} for name in ("hook", "hidden")}
    queues = [{"name": "q", "provider": "hook", "reply_to": ["receipts:*"]}]
    site.configure(providers, queues)
    for fields, why in (
        ({"provider": "hidden"}, "provider: the queue 'q' does not admit 'hidden', only hook"),
        ({"reply_to": "celery"}, "reply_to: 'celery' is not among the lists that the queue 'q' allows"),
        ({"reply_to": "q"}, "reply_to: 'q' is a queue; its receipts would be taken for messages"),
        ({"reply_to": "relay:wake"}, "reply_to: keys that start with 'relay:' are relay's own"),
    ):
        pushed = await site.relay("push", "q", json.dumps({"payload": {"body": 1}, **fields}))
        assert (pushed.code, pushed.err.count("\n")) == (2, 1)
        assert pushed.err.startswith(f"message 1: {why}")
    assert not await site.redis.exists("q")


async def test_pause_and_resume_work_at_once_over_the_fleet(site: Site) -> None:
    site.configure({"hook": site.webhook()})
    async with site.worker(), site.worker():
        assert (await site.relay("pause", "hook")).code == 0
        await site.relay("push", "notifications", '{"payload": {"body": 1}}')
        async with asyncio.timeout(120):
            while (lane := (await site.json("status"))["lanes"][0])["waiting"] == 0:
                pass
        assert lane["state"] == "paused"
        assert site.receiver.requests == []
        assert (await site.relay("resume", "hook")).code == 0
        await site.receiver.until(1)
    assert (await site.relay("pause", "nobody")).code == 2


async def test_status_shows_lanes_queues_and_workers(site: Site) -> None:
    site.configure({"hook": site.webhook(rate="100/s")})
    site.receiver.answers.append(Answer(400, b"no"))
    async with site.worker() as running:
        await site.push('{"payload": {"body": 1}}', '{"payload": {"body": 2}}')
        await site.push('{"payload": {"body": 3}, "delay": "1h"}')
        await site.receiver.until(2)
        async with asyncio.timeout(120):
            while (status := await site.json("status"))["lanes"][0]["in_flight"] or (
                status["lanes"][0]["delayed"] == 0
            ):
                pass
        pid = running.process.pid
        text = await site.relay("status")
    (lane,) = status["lanes"]
    assert (lane["provider"], lane["state"], lane["rate"]) == ("hook", "running", "100/s")
    assert (lane["waiting"], lane["delayed"], lane["delivered"], lane["failed"], lane["dead"]) == (
        0,
        1,
        1,
        1,
        1,
    )
    (member,) = status["workers"]
    assert (member["pid"], member["alive"]) == (pid, True)
    assert member["host"]
    assert member["version"]
    assert "hook" in text.out
    assert "\x1b[" not in text.out


async def test_dead_letters_are_found_by_reason_and_purged(site: Site) -> None:
    site.configure({"hook": site.webhook()})
    site.receiver.answer = lambda request: Answer(413 if b"big" in request.body else 400, b"")
    await site.push(
        *(json.dumps({"id": text, "payload": {"body": text}}) for text in ("big", "bad", "worse"))
    )
    await site.relay("run", "--until-empty")
    found = await site.json("dead", "list", "hook", "--reason", "413")
    assert [letter["id"] for letter in found] == ["big"]
    assert "worse" in (await site.relay("dead", "list", "hook")).out
    assert (await site.relay("dead", "purge", "hook", "--id", "bad")).code == 0
    assert await site.json("dead", "purge", "hook", "--limit", "1") == {
        "matched": 1,
        "done": 1,
        "purged": 1,
        "left": {},
    }
    assert len(await site.json("dead", "list", "hook")) == 1
    assert (await site.relay("dead", "show", "hook", "--id", "nothing")).code == 2
    assert (await site.relay("dead", "list", "nobody")).code == 2


async def test_a_malformed_element_is_read_again_by_retry(site: Site) -> None:
    providers = {"hook": site.webhook()}
    small = [{"name": "notifications", "provider": "hook", "max_size": 30}]
    site.configure(providers, small)
    await site.push("{", '{"payload": {"body": {"a": "long enough"}}}')
    await site.relay("run", "--until-empty")
    assert len(await site.json("dead", "list", "hook")) == 2
    site.configure(providers)
    # A letter that stays does not use up the limit.
    assert await site.json("dead", "retry", "hook", "--limit", "1") == {
        "matched": 2,
        "done": 1,
        "retried": 1,
        "left": {"still_malformed": 1},
    }
    await site.relay("run", "--until-empty")
    assert [request.body for request in site.receiver.requests] == [b'{"a": "long enough"}']


async def test_cancel_removes_a_waiting_message(site: Site) -> None:
    site.configure({"hook": site.webhook()})
    async with site.worker():
        await site.push('{"id": "order-17", "delay": "1h", "payload": {"body": 1}}')
        async with asyncio.timeout(120):
            while (await site.relay("cancel", "hook", "order-17")).code != 0:
                pass
        assert (await site.relay("cancel", "hook", "order-17")).code == 1
    assert site.receiver.requests == []


async def test_schemas_are_json_schemas() -> None:
    for which in ("config", "message"):
        document = (await relay("schema", which)).json
        assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert (await relay("schema", "nonsense")).code == 2


async def test_providers_lists_the_adapters_with_their_options() -> None:
    listed = (await relay("providers", "--json")).json
    assert set(listed) >= {"pusher", "webhook"}
    assert "app_id" in listed["pusher"]["options"]
    assert (await relay("providers", "nonsense")).code == 2
    assert WEBHOOK_SECRET not in (await relay("providers")).out

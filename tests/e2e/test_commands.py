"""Each command as an operator runs it: output, exit codes, and what wrong usage says."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from redis.asyncio import Redis

from testing.ports import free_port
from testing.receiver import Answer, Receiver
from testing.redis_server import RedisServer
from testing.relay_process import relay, worker, write_config
from tests.e2e.conftest import PUSHER, WEBHOOK_SECRET, pusher, webhook


@pytest.fixture(scope="module")
def redis_server(newest_redis_server: RedisServer) -> RedisServer:
    return newest_redis_server


COMMANDS = [
    "run",
    "check",
    "push",
    "status",
    "dead",
    "dead list",
    "dead show",
    "dead retry",
    "dead purge",
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


async def test_without_a_file_the_error_names_all_three_places_and_the_demo(tmp_path: Path) -> None:
    failed = await relay("run", cwd=tmp_path)
    assert failed.code == 2
    for word in ("-c", "RELAY_CONFIG", "relay.yaml", "relay demo"):
        assert word in failed.err


@pytest.mark.parametrize("where", ["before", "after", "environment", "here"])
async def test_the_file_is_found_wherever_it_is_named(
    tmp_path: Path, redis: Redis, redis_server: RedisServer, where: str
) -> None:
    config = str(write_config(tmp_path, redis_server.url, {"hook": {"type": "webhook"}}))
    calls = {
        "before": relay("-c", config, "dead", "list", "hook", "--json"),
        "after": relay("dead", "list", "hook", "--json", "-c", config),
        "environment": relay("dead", "list", "hook", "--json", RELAY_CONFIG=config),
        "here": relay("dead", "list", "hook", "--json", cwd=tmp_path),
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


async def test_check_connect_reaches_redis_and_authenticates(
    tmp_path: Path, redis: Redis, redis_server: RedisServer, receiver: Receiver
) -> None:
    config = write_config(tmp_path, redis_server.url, {"pusher": pusher(receiver), "hook": webhook(receiver)})
    good = await relay("check", "--connect", "-c", str(config))
    assert good.code == 0, good
    assert [request.method for request in receiver.requests] == ["GET"]
    receiver.answer = lambda request: Answer(401, b"Invalid signature")
    bad = await relay("check", "--connect", "-c", str(config))
    assert bad.code == 1
    assert "FAILED pusher" in bad.out
    assert "check key and secret" in bad.out


async def test_without_redis_the_error_is_one_line_without_the_password(tmp_path: Path) -> None:
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


async def test_push_checks_and_pushes_one_or_many(
    tmp_path: Path, redis: Redis, redis_server: RedisServer
) -> None:
    hook = {"type": "webhook", "url": "http://127.0.0.1:1/"}
    config = str(write_config(tmp_path, redis_server.url, {"hook": hook}))
    assert (await relay("push", "notifications", '{"payload": {"body": 1}}', "-c", config)).code == 0
    lines = b"\n".join(b'{"payload": {"body": %d}}' % number for number in range(2500))
    many = await relay("push", "notifications", "-", "-c", config, stdin=lines + b"\n\n")
    assert (many.code, many.out) == (0, "")
    assert "pushed 2500 messages" in many.err
    assert await redis.llen("notifications") == 2501
    typo = await relay("push", "notifications", '{"payload": {}, "tll": 5}', "-c", config)
    assert typo.code == 2
    assert "did you mean 'ttl'?" in typo.err
    assert (await relay("push", "notification", "{}", "-c", config)).code == 2
    assert (await relay("push", "notifications", "nonsense", "--force", "-c", config)).code == 0
    assert await redis.llen("notifications") == 2502


async def test_push_refuses_a_message_that_the_provider_would_refuse_with_one_line(
    tmp_path: Path, redis: Redis, redis_server: RedisServer
) -> None:
    providers = {
        "pusher": {**PUSHER, "event": "hit"},
        "hook": {"type": "webhook"},
    }
    queues = [{"name": "hits", "provider": "pusher", "format": "bare"}, {"name": "mixed"}]
    config = str(write_config(tmp_path, redis_server.url, providers, queues))
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
        pushed = await relay("push", queue, json.dumps(message), "-c", config)
        assert pushed.code == 2
        assert pushed.err.startswith(f"message 1: {why}")
        assert pushed.err.count("\n") == 1
        assert (await relay("push", queue, json.dumps(message), "--force", "-c", config)).code == 0
    good = {"provider": "hook", "payload": {"targets": targets, "body": 1}}
    assert (await relay("push", "mixed", json.dumps(good), "-c", config)).code == 0
    assert (await redis.llen("hits"), await redis.llen("mixed")) == (1, 3)


async def test_push_refuses_a_provider_that_the_queue_does_not_allow(
    tmp_path: Path, redis: Redis, redis_server: RedisServer
) -> None:
    providers = {name: {"type": "webhook", "url": "http://127.0.0.1:1/"} for name in ("hook", "hidden")}
    queues = [{"name": "q", "provider": "hook", "reply_to": ["receipts:*"]}]
    config = str(write_config(tmp_path, redis_server.url, providers, queues))
    for fields, why in (
        ({"provider": "hidden"}, "provider: the queue 'q' does not admit 'hidden', only hook"),
        ({"reply_to": "celery"}, "reply_to: 'celery' is not among the lists that the queue 'q' allows"),
        ({"reply_to": "q"}, "reply_to: 'q' is a queue; its receipts would be taken for messages"),
        ({"reply_to": "relay:wake"}, "reply_to: keys that start with 'relay:' are relay's own"),
    ):
        pushed = await relay("push", "q", json.dumps({"payload": {"body": 1}, **fields}), "-c", config)
        assert (pushed.code, pushed.err.count("\n")) == (2, 1)
        assert pushed.err.startswith(f"message 1: {why}")
    assert not await redis.exists("q")


async def test_pause_and_resume_work_at_once_over_the_fleet(
    tmp_path: Path, redis: Redis, redis_server: RedisServer, receiver: Receiver
) -> None:
    config = str(write_config(tmp_path, redis_server.url, {"hook": webhook(receiver)}))
    async with worker(Path(config)), worker(Path(config)):
        assert (await relay("pause", "hook", "-c", config)).code == 0
        await relay("push", "notifications", '{"payload": {"body": 1}}', "-c", config)
        async with asyncio.timeout(120):
            while (lane := (await relay("status", "--json", "-c", config)).json["lanes"][0])["waiting"] == 0:
                pass
        assert lane["state"] == "paused"
        assert receiver.requests == []
        assert (await relay("resume", "hook", "-c", config)).code == 0
        await receiver.until(1)
    assert (await relay("pause", "nobody", "-c", config)).code == 2


async def test_status_shows_lanes_queues_and_workers(
    tmp_path: Path, redis: Redis, redis_server: RedisServer, receiver: Receiver
) -> None:
    config = write_config(tmp_path, redis_server.url, {"hook": webhook(receiver, rate="100/s")})
    receiver.answers.append(Answer(400, b"no"))
    async with worker(config) as running:
        await redis.rpush("notifications", '{"payload": {"body": 1}}', '{"payload": {"body": 2}}')
        await redis.rpush("notifications", '{"payload": {"body": 3}, "delay": "1h"}')
        await receiver.until(2)
        async with asyncio.timeout(120):
            while (status := (await relay("status", "--json", "-c", str(config))).json)["lanes"][0][
                "in_flight"
            ] or (status["lanes"][0]["delayed"] == 0):
                pass
        pid = running.process.pid
        text = await relay("status", "-c", str(config))
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


async def test_dead_letters_are_found_by_reason_and_purged(
    tmp_path: Path, redis: Redis, redis_server: RedisServer, receiver: Receiver
) -> None:
    config = str(write_config(tmp_path, redis_server.url, {"hook": webhook(receiver)}))
    receiver.answer = lambda request: Answer(413 if b"big" in request.body else 400, b"")
    await redis.rpush(
        "notifications",
        *(json.dumps({"id": text, "payload": {"body": text}}) for text in ("big", "bad", "worse")),
    )
    await relay("run", "-c", config, "--until-empty")
    found = (await relay("dead", "list", "hook", "--reason", "413", "--json", "-c", config)).json
    assert [letter["id"] for letter in found] == ["big"]
    assert "worse" in (await relay("dead", "list", "hook", "-c", config)).out
    assert (await relay("dead", "purge", "hook", "--id", "bad", "-c", config)).code == 0
    assert (await relay("dead", "purge", "hook", "--limit", "1", "--json", "-c", config)).json == {
        "matched": 1,
        "done": 1,
        "purged": 1,
        "left": {},
    }
    assert len((await relay("dead", "list", "hook", "--json", "-c", config)).json) == 1
    assert (await relay("dead", "show", "hook", "--id", "nothing", "-c", config)).code == 2
    assert (await relay("dead", "list", "nobody", "-c", config)).code == 2


async def test_a_malformed_element_is_read_again_by_retry(
    tmp_path: Path, redis: Redis, redis_server: RedisServer, receiver: Receiver
) -> None:
    providers = {"hook": webhook(receiver)}
    small = [{"name": "notifications", "provider": "hook", "max_size": 30}]
    config = str(write_config(tmp_path, redis_server.url, providers, small))
    await redis.rpush("notifications", "{", '{"payload": {"body": {"a": "long enough"}}}')
    await relay("run", "-c", config, "--until-empty")
    assert len((await relay("dead", "list", "hook", "--json", "-c", config)).json) == 2
    write_config(tmp_path, redis_server.url, providers)
    # A letter that stays does not use up the limit.
    assert (await relay("dead", "retry", "hook", "--limit", "1", "--json", "-c", config)).json == {
        "matched": 2,
        "done": 1,
        "retried": 1,
        "left": {"still_malformed": 1},
    }
    await relay("run", "-c", config, "--until-empty")
    assert [request.body for request in receiver.requests] == [b'{"a": "long enough"}']


async def test_cancel_removes_a_waiting_message(
    tmp_path: Path, redis: Redis, redis_server: RedisServer, receiver: Receiver
) -> None:
    config = str(write_config(tmp_path, redis_server.url, {"hook": webhook(receiver)}))
    async with worker(Path(config)):
        await redis.rpush("notifications", '{"id": "order-17", "delay": "1h", "payload": {"body": 1}}')
        async with asyncio.timeout(120):
            while (await relay("cancel", "hook", "order-17", "-c", config)).code != 0:
                pass
        assert (await relay("cancel", "hook", "order-17", "-c", config)).code == 1
    assert receiver.requests == []


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

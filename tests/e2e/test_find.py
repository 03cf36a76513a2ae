"""`relay find` as an operator runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from redis.asyncio import Redis

from testing.commands import failure, output, run_command
from testing.receiver import Answer, Receiver
from testing.redis_server import RedisServer
from testing.relay_process import worker, write_config
from testing.site import webhook


@pytest.fixture
def config(tmp_path: Path, redis: Redis, redis_server: RedisServer, receiver: Receiver) -> str:
    return str(
        write_config(
            tmp_path, redis_server.url, {"hook": webhook(receiver, retry={"attempts": 2, "base": 0})}
        )
    )


async def test_the_story_of_a_message_from_the_queue_to_its_end(
    config: str, redis: Redis, receiver: Receiver
) -> None:
    await redis.rpush("notifications", '{"id": "order-17", "payload": {"body": 1}}')
    text = await output("find", "order-17", "-c", config)
    assert text.splitlines() == [
        "order-17 at hook: queued",
        "  queue     notifications",
        "  place     1",
        "  why       no living worker reads the queue notifications",
    ]
    receiver.answers += [Answer(500), Answer(413)]
    async with worker(Path(config)):
        while (await run_command("find", "order-17", "-c", config)).stdout.count("413") < 1:
            pass
    (found,) = json.loads(await output("find", "order-17", "--json", "-c", config))
    assert (found["provider"], found["state"]) == ("hook", "dead")
    while len(found["attempts"]) < 2:  # the journal is written once a second
        (found,) = json.loads(await output("find", "order-17", "--json", "-c", config))
    assert [attempt["status"] for attempt in found["attempts"]] == [500, 413]
    assert all(attempt["worker"] for attempt in found["attempts"])
    assert all(attempt["request_seconds"] > 0 for attempt in found["attempts"])
    lines = (await output("find", "order-17", "-c", config)).splitlines()
    assert lines[0].startswith("order-17 at hook: dead at 20")
    assert max(len(line) for line in lines[3:]) < 120


async def test_nothing_found_is_exit_code_1_and_an_empty_list(config: str) -> None:
    result = await run_command("find", "nothing", "--json", "-c", config)
    assert (result.exit_code, json.loads(result.stdout)) == (1, [])
    result = await run_command("find", "nothing", "-c", config)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no message nothing in any queue or lane" in result.stderr


async def test_a_wrong_command_line_gets_a_remedy(config: str) -> None:
    assert "write an ID, or one of --group" in await failure("find", "-c", config)
    assert "write an ID, or one of --group" in await failure("find", "a", "--group", "b", "-c", config)
    assert 'no provider "nobody"' in await failure("find", "a", "--provider", "nobody", "-c", config)
    assert "ID: write 1 to" in await failure("find", "x" * 200, "-c", config)


async def test_hostile_text_cannot_control_the_terminal(config: str, redis: Redis) -> None:
    await redis.rpush("notifications", '{"id": "a\\u001b[31m", "payload": {"body": 1}}')
    text = await output("find", "a\x1b[31m", "-c", config)
    assert "\x1b" not in text
    assert text.startswith("a\\x1b[31m at hook: queued")


async def test_a_message_that_moves_is_found_at_any_moment(
    config: str, redis: Redis, receiver: Receiver
) -> None:
    async with worker(Path(config)):
        for number in range(10):
            await redis.rpush("notifications", json.dumps({"id": f"m{number}", "payload": {"body": 1}}))
            text = await output("find", f"m{number}", "-c", config)
            assert text.startswith(f"m{number} at hook: ")

"""`relay status PROVIDER`, and `relay pause|resume PROVIDER --group`."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from relay.engine.policy import Policy
from relay.outcome import Retry
from relay.store.lane import Lane
from testing.builders import a_lane, a_message, options
from testing.commands import failure, output, run_command
from testing.redis_server import RedisServer
from testing.relay_process import RELAY, write_config
from testing.site import WEBHOOK_SECRET

GROUPS: dict[str, Any] = {"by": "message", "concurrency": 2, "breaker": {"cooldown": 3600}}


@pytest.fixture
def config(tmp_path: Path, redis: Redis, redis_server: RedisServer) -> str:
    hook = {"type": "webhook", "url": "http://127.0.0.1:1/", "secret": WEBHOOK_SECRET}
    providers = {
        "hook": {**hook, "groups": GROUPS},
        "plain": {**hook, "groups": False, "rate": "5/s"},
        "paced": {**hook, "rate": "50/s", "groups": {"rate": "2/s"}},
    }
    return str(write_config(tmp_path, redis_server.url, providers))


@pytest.fixture
def lane(redis: Redis) -> Lane:
    return a_lane(redis, name="hook", groups=GROUPS)


async def put(lane: Lane, *groups: str) -> None:
    await lane.enqueue([a_message(group=group) for group in groups])


async def fail(lane: Lane, times: int) -> None:
    """Let one message of each group fail, this number of times."""
    policy = Policy(options(groups=GROUPS, retry={"base": 3600}))
    for _ in range(times):
        claims = (await lane.claim(1)).claims
        await lane.settle([policy.settle(claim, Retry("refused")) for claim in claims])


async def status(config: str, *words: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(await output("status", *words, "--json", "-c", config))
    return document


async def test_status_of_a_provider_lists_its_groups(config: str, lane: Lane) -> None:
    await put(lane, "a", "b", "b", "b", "c", "c")
    await lane.claim(1)
    shown = await status(config, "hook")
    assert shown["provider"] == "hook"
    assert (shown["waiting"], shown["in_flight"], shown["group_count"], shown["groups_complete"]) == (
        6,
        0,
        3,
        True,
    )
    first, *others = shown["groups"]
    assert first["oldest_seconds"] >= 0
    assert {**first, "oldest_seconds": 0} == {
        "group": "b",
        "state": "running",
        "why": "",
        "hold_seconds": 0,
        "waiting": 3,
        "in_flight": 0,
        "oldest_seconds": 0,
        "failures": 0,
    }
    assert [(group["group"], group["waiting"], group["in_flight"]) for group in others] == [
        ("c", 2, 0),
        ("a", 0, 1),
    ]
    assert {row["provider"]: row["groups"] for row in (await status(config))["lanes"]} == {
        "hook": 3,
        "plain": 0,
        "paced": 0,
    }
    table = await output("status", "hook", "-c", config)
    assert "Groups by backlog (3 of 3)" in table
    assert "Groups by failures" not in table
    assert "plain" not in table


async def test_status_shows_groups_that_fail(config: str, lane: Lane, redis: Redis) -> None:
    await put(lane, *["bad"] * 12, "good")
    await fail(lane, 12)
    shown = await status(config, "hook")
    bad = next(group for group in shown["groups"] if group["group"] == "bad")
    assert (bad["state"], bad["failures"]) == ("open", 10)
    assert bad["why"] == "10 failures in a row: refused"
    assert 0 < bad["hold_seconds"] <= 3600
    finding = "hook: the breaker of 1 group is open (bad): `relay status hook` shows why"
    assert shown["findings"] == [finding]
    assert finding in (await status(config))["findings"]
    table = await output("status", "hook", "-c", config)
    assert "Groups by failures (2 of 2)" in table
    assert re.search(r"open \S+: 10 failures in a row: refused", table)


async def test_status_has_the_command_that_enables_a_disabled_group(
    config: str, lane: Lane, redis: Redis
) -> None:
    now = int((await redis.time())[0]) * 1000
    entry = msgspec.msgpack.encode({"disabled": now, "since": now - 1000, "failures": 7})
    for number in range(5):
        await redis.hset(lane.keys.part("groups"), f"dead{number}", entry)
    (finding,) = (await status(config))["findings"]
    assert finding.startswith(
        "hook: 5 groups are disabled, and their messages become dead letters (dead0, dead1, dead2 "
    )
    assert finding.endswith("and 2 more): `relay resume hook --group NAME` enables one")
    assert finding.split(":")[1].strip()[:8] in (await output("status", "-c", config)).replace("\n", " ")
    await output("resume", "hook", "--group", "dead0", "-c", config)
    assert "4 groups are disabled" in (await status(config))["findings"][0]


async def test_a_group_is_paused_and_resumed_by_name(config: str, lane: Lane) -> None:
    await put(lane, "a", "b", "a")
    paused = await run_command(
        "pause", "hook", "--group", "a", "--for", "2h", "--because", "they asked", "-c", config
    )
    assert paused.stderr == "group a of hook is paused for 2h; 2 messages wait\n"
    shown = await status(config, "hook")
    assert shown["state"] == "running"
    states = {group["group"]: group for group in shown["groups"]}
    assert (states["a"]["state"], states["b"]["state"]) == ("paused", "running")
    assert states["a"]["why"].startswith("they asked (")
    assert 6000 < states["a"]["hold_seconds"] <= 7200
    assert [claim.message.group for claim in (await lane.claim(9)).claims] == ["b"]

    resumed = await run_command("resume", "hook", "--group", "a", "-c", config)
    assert resumed.stderr == "group a of hook is resumed\n"
    assert [claim.message.group for claim in (await lane.claim(9)).claims] == ["a", "a"]
    resumed = await run_command("resume", "hook", "--group", "a", "-c", config)
    assert resumed.exit_code == 0


async def test_an_idle_group_can_be_paused_in_advance(config: str, lane: Lane) -> None:
    paused = await run_command("pause", "hook", "--group", "late", "-c", config)
    assert paused.stderr == "group late of hook is paused; it has no messages now, new ones wait\n"
    await put(lane, "late", "other")
    assert [claim.message.group for claim in (await lane.claim(9)).claims] == ["other"]
    assert (await status(config, "hook"))["groups"][0]["state"] == "paused"


async def test_a_group_that_nothing_is_known_of_cannot_be_resumed(config: str, lane: Lane) -> None:
    await put(lane, "api.example.com")
    refused = await failure("resume", "hook", "--group", "api.exmaple.com", "-c", config)
    assert refused == (
        'group "api.exmaple.com" of hook has no messages and is not held; did you mean `api.example.com`?'
    )
    assert "`relay status hook` lists the groups" in await failure(
        "resume", "hook", "-g", "zzz", "-c", config
    )
    assert "1 to 300 characters" in await failure("pause", "hook", "--group", "", "-c", config)


async def test_a_lane_without_groups_has_none_to_pause(config: str, redis: Redis) -> None:
    refused = await failure("pause", "plain", "--group", "a", "-c", config)
    assert refused.startswith("plain has no groups: set `providers.plain.groups` in ")
    await put(a_lane(redis, name="plain", groups=GROUPS), "a")  # left from a time with groups
    assert (await run_command("pause", "plain", "--group", "a", "-c", config)).exit_code == 0


async def test_the_name_of_a_group_cannot_control_a_terminal(config: str, lane: Lane) -> None:
    hostile = "\x1b[2J[red]" + "x" * 100
    await put(lane, hostile)
    table = await output("status", "hook", "-c", config)
    assert "\x1b" not in table
    assert "\\x1b[2J[red]xxx" in table
    assert "x" * 60 not in table
    raw = await output("status", "hook", "--json", "-c", config)
    assert "\x1b" not in raw
    assert json.loads(raw)["groups"][0]["group"] == hostile


async def test_an_unknown_provider_has_no_status(config: str) -> None:
    assert 'no provider "nobody"' in await failure("status", "nobody", "-c", config)


async def test_a_provider_that_left_the_file_still_has_a_status(config: str, redis: Redis) -> None:
    await put(a_lane(redis, name="gone", groups=GROUPS), "a")
    await redis.hset("relay:{fleet}:lanes", "gone", "")
    shown = await status(config, "gone")
    assert (shown["configured"], shown["groups"][0]["group"]) == (False, "a")


async def test_the_rates_of_a_provider_and_of_its_groups_are_distinct(config: str) -> None:
    rates = {row["provider"]: row["rate"] for row in (await status(config))["lanes"]}
    assert rates == {"hook": "unlimited", "plain": "5/s", "paced": "50/s, 2/s a group"}


async def test_status_of_a_provider_can_be_watched(config: str, lane: Lane) -> None:
    """The backlog of a group that grows is seen without another command."""
    await put(lane, "a")
    watching = await asyncio.create_subprocess_exec(
        RELAY, "status", "hook", "--watch", "--json", "-c", config, stdout=asyncio.subprocess.PIPE
    )
    assert watching.stdout is not None
    try:
        async with asyncio.timeout(120):
            assert json.loads(await watching.stdout.readline())["groups"][0]["waiting"] == 1
            await put(lane, "a")
            while json.loads(await watching.stdout.readline())["groups"][0]["waiting"] != 2:
                pass
    finally:
        watching.send_signal(signal.SIGINT)
        await watching.wait()

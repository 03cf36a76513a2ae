"""Many dead letters: bounds, pages, replays, and the display of malformed elements."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from relay.settings.credentials import text_without_credentials
from relay.store import dead
from relay.store.record import pack, unpack
from testing.builders import a_message
from testing.redis_server import RedisServer
from testing.relay_process import RELAY, environment, relay, write_config
from testing.site import Site
from testing.streams import entries_of

STREAM = "relay:{hook}:dead"


@pytest.fixture
def config(tmp_path: Path, redis_server: RedisServer) -> str:
    """A configuration whose worker would not deliver anything."""
    hook = {"type": "webhook", "url": "http://127.0.0.1:9/"}
    return str(write_config(tmp_path, redis_server.url, {"hook": hook}))


async def file(redis: Redis, number: int, *, reason: str = "413 too large", size: int = 10) -> None:
    """File dead letters as the scripts do."""
    async with redis.pipeline(transaction=False) as pipe:
        for index in range(number):
            record = pack(a_message(payload_json=b'{"body":"%s"}' % (b"x" * size)))
            letter: Any = {"ticket": 4 * index, "record": record, "reason": reason, "attempts": 1}
            pipe.xadd(STREAM, letter)
            if len(pipe) == 5000:
                await pipe.execute()
        await pipe.execute()


async def test_dead_letters_beyond_the_limits_are_deleted_and_counted(site: Site) -> None:
    bounds = {
        "few": site.webhook(dead={"most": 1000}),
        "young": site.webhook(dead={"keep": "1h"}),
        "all": site.webhook(dead={"keep": 0, "most": 0}),
    }
    site.configure(bounds)
    old = int(time.time() * 1000) - 2 * 3_600_000
    async with site.redis.pipeline(transaction=False) as pipe:
        for name in bounds:
            for index in range(2500):
                pipe.xadd(f"relay:{{{name}}}:dead", {"raw": "{", "reason": "r"}, id=f"{old + index}-0")
            pipe.xadd(f"relay:{{{name}}}:dead", {"raw": "{", "reason": "r"})
        await pipe.execute()
    async with site.worker() as running:
        await running.says("deleted dead letters", times=2)
        status = await site.json("status")
    lanes = {lane["provider"]: (lane["dead"], lane["dead_trimmed"]) for lane in status["lanes"]}
    assert lanes == {"few": (1000, 1501), "young": (1, 2500), "all": (2501, 0)}
    newest, _ = (await entries_of(site.redis, "relay:{few}:dead"))[-1]
    assert int(newest.partition(b"-")[0]) > old + 3_600_000


MEASURED = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""
"""Runs a command and prints the most memory (KiB) that its process or a child of it ever had."""

MOST = 40 * 1024
"""KiB for a process. Python 3.11, 3.12 and 3.13 need 36 to 38 MiB, most of it for libraries."""


async def peak_memory(*words: str) -> tuple[str, int]:
    """The output of a command, and the most memory it had (KiB)."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", MEASURED, RELAY, *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode(), int(err.decode().split()[-1])


async def test_a_hundred_thousand_letters_fit_into_forty_mebibytes(config: str, redis: Redis) -> None:
    number = 100_000
    await file(redis, number)
    out, memory = await peak_memory("dead", "list", "hook", "--limit", str(number), "--json", "-c", config)
    assert out.count('"413 too large"') == number
    assert memory < MOST
    # A table of all would take a minute; its size is bounded, see the next test.
    out, memory = await peak_memory("dead", "list", "hook", "--limit", "1000", "-c", config)
    assert out.count("413 too large") == 1000
    assert memory < MOST
    _, memory = await peak_memory("dead", "retry", "hook", "--limit", str(number // 2), "-c", config)
    assert await redis.xlen(STREAM) == number // 2
    assert memory < MOST
    _, memory = await peak_memory("dead", "purge", "hook", "--yes", "-c", config)
    assert await redis.xlen(STREAM) == 0
    assert memory < MOST


@pytest.mark.parametrize(("answer", "code", "left"), [("y", 0, 0), ("maybe\nn", 1, 1), ("", 1, 1)])
async def test_a_purge_on_a_terminal_asks_first(
    config: str, redis: Redis, answer: str, code: int, left: int
) -> None:
    await file(redis, 1)
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(RELAY, "dead", "purge", "hook", "-c", config),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=theirs,
        env=environment(),
    )
    os.close(theirs)
    await process.communicate(f"{answer}\n".encode())
    assert b"Delete 1 dead letters of hook? [y/N]: " in os.read(ours, 1000)
    os.close(ours)
    assert process.returncode == code
    assert await redis.xlen(STREAM) == left


async def test_a_list_of_many_letters_takes_no_more_memory_than_a_short_one(
    config: str, redis: Redis
) -> None:
    await file(redis, 20_000, size=1000)
    _, little = await peak_memory("dead", "list", "hook", "--json", "-c", config)
    out, much = await peak_memory("dead", "list", "hook", "--limit", "20000", "--json", "-c", config)
    assert len(json.loads(out)) == 20_000
    assert much < little + 20 * 1024
    table, much = await peak_memory("dead", "list", "hook", "--limit", "2500", "-c", config)
    assert table.count("413 too large") == 2500
    assert table.count("attempts") == 13, "one heading for each table"
    assert much < little + 40 * 1024


async def calls(redis: Redis, *commands: str) -> int:
    """The number of times that Redis has run these commands since the last reset, also from within
    scripts."""
    stats = await redis.info("commandstats")
    return sum(stats.get(f"cmdstat_{command}", {}).get("calls", 0) for command in commands)


async def test_many_letters_are_replayed_and_purged_page_by_page(config: str, redis: Redis) -> None:
    """Many letters take no more memory than few, and no command deals with more than a page of them."""
    number = 30_000
    await file(redis, 100)
    _, little = await peak_memory("dead", "retry", "hook", "-c", config)
    await redis.flushall()
    await file(redis, number, size=1000)
    pages = number // 2 // 100  # letters that one command may deal with
    dry = await relay("dead", "retry", "hook", "--dry-run", "--json", "-c", config)
    assert dry.json == {"matched": number, "done": 0, "retried": 0, "left": {}}
    await redis.config_resetstat()
    out, much = await peak_memory(
        "dead", "retry", "hook", "--limit", str(number // 2), "--json", "-c", config
    )
    assert json.loads(out)["done"] == number // 2
    assert await redis.xlen(STREAM) == number // 2
    # A script reads a page, and another one puts it back.
    assert await calls(redis, "eval", "evalsha") >= 2 * pages
    await redis.config_resetstat()
    out, purging = await peak_memory("dead", "purge", "hook", "--reason", "413", "--json", "-c", config)
    assert json.loads(out) == {"matched": number // 2, "done": number // 2, "purged": number // 2, "left": {}}
    assert max(much, purging) - little < 40 * 1024
    assert await calls(redis, "eval", "evalsha") >= pages
    assert await calls(redis, "xdel") >= pages


async def test_a_replay_ends_although_new_letters_are_filed_all_the_time(config: str, redis: Redis) -> None:
    await file(redis, 300)
    found: list[str] = []
    async for page in dead.pages(redis, STREAM):
        found += [letter.entry for letter in page]
        await file(redis, 50)
    assert len(found) == len(set(found)) == 300


async def test_a_huge_element_is_cut_in_lists_and_whole_when_it_is_shown(config: str, redis: Redis) -> None:
    raw = '{"payload": {"body": "' + "x" * (3 << 20)
    await redis.xadd(STREAM, {"raw": raw, "reason": "not JSON", "queue": "notifications"})
    (listed,) = (await relay("dead", "list", "hook", "--json", "-c", config)).json
    assert (len(listed["raw"]), listed["raw_bytes"]) == (dead.RAW_BYTES, len(raw))
    (shown,) = (await relay("dead", "show", "hook", "--json", "-c", config)).json
    assert (shown["raw"], shown["provider"]) == (raw, "hook")
    retried = await relay("dead", "retry", "hook", "--json", "-c", config)
    assert retried.json["left"] == {"still_malformed": 1}


async def test_ctrl_c_ends_a_replay_after_its_page_and_reports_it(config: str, redis: Redis) -> None:
    await file(redis, 20_000)
    process = await asyncio.create_subprocess_exec(
        *(RELAY, "dead", "retry", "hook", "--json", "-c", config),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
    )
    async with asyncio.timeout(120):
        while await redis.xlen(STREAM) == 20_000:
            await asyncio.sleep(0.005)
        os.kill(process.pid, signal.SIGINT)
        out, err = await process.communicate()
    left = await redis.xlen(STREAM)
    assert process.returncode == 1, err.decode()
    assert "Traceback" not in err.decode()
    assert 0 < json.loads(out)["done"] == 20_000 - left < 20_000
    # Nothing is lost: a letter is in its stream or in its lane.
    assert left + await redis.hlen("relay:{hook}:bodies") == 20_000


async def test_dead_letters_of_a_removed_provider_are_found(config: str, redis: Redis) -> None:
    await redis.xadd("relay:{old}:dead", {"raw": "{", "reason": "not JSON", "queue": "gone"})
    (letter,) = (await relay("dead", "list", "old", "--json", "-c", config)).json
    assert letter["raw"] == "{"
    assert (await relay("dead", "purge", "old", "--yes", "-c", config)).code == 0
    assert (await relay("dead", "list", "old", "-c", config)).code == 2


SECRET = "Bearer c2VjcmV0LXRva2Vu"


@pytest.mark.parametrize(
    "raw",
    [
        '{"payload": {"headers": {"Authorization": "{secret}", "X-Kind": "order"}}, "unknown": 1}',
        '{"headers": {"authorization": ["{secret}"], "X-Kind": "order"}',
        '{"payload": {"headers": {"X-Kind": "order", "Authorization": "{secret}',
        r'{"payload": {"headers": {"X-Kind": "order", "\u0041uthorization": "{secret}"}}, "unknown": 1}',
    ],
    ids=["unknown field", "no JSON", "cut", "escaped name"],
)
async def test_credentials_of_a_malformed_element_are_hidden(config: str, redis: Redis, raw: str) -> None:
    """The stored element is unchanged, for a replay."""
    raw = raw.replace("{secret}", SECRET)
    await redis.xadd(STREAM, {"raw": raw, "reason": "unknown field", "queue": "notifications"})
    for command in ("list", "show"):
        done = await relay("dead", command, "hook", "--json", "-c", config)
        assert SECRET not in done.out
        assert "order" in done.json[0]["raw"]
    ((_, fields),) = await entries_of(redis, STREAM)
    assert fields[b"raw"] == raw.encode()


def test_an_element_without_credentials_is_shown_as_it_is() -> None:
    raw = '{"payload": {"token": "device-1", "headers": {"x-kind": 1.0}},  "collapse_key": "k", "id": "x" '
    assert text_without_credentials(raw) == raw


async def test_an_edited_letter_is_sent_with_its_new_payload(config: str, redis: Redis) -> None:
    await file(redis, 1)
    ((entry, _),) = await entries_of(redis, STREAM)
    words = ("dead", "edit", "hook", "--id", entry.decode(), "-c", config)
    unchanged = await relay(*words, "--json", EDITOR="true")
    assert (unchanged.code, unchanged.json) == (0, {"matched": 1, "done": 0, "left": {}})
    for change, error in (
        ("s/}/]/", "not valid: not JSON"),
        ('s/"body"/"url"/', "not valid: "),
        ("q5", "the editor ended with code 5"),
    ):
        failed = await relay(*words, EDITOR="false", VISUAL=f"sed -i {change}")
        assert failed.code == 2
        assert error in failed.err
        assert "dead letter stays" in failed.err
    assert await redis.xlen(STREAM) == 1
    done = await relay(*words, "--because", "typo", EDITOR="sed -i s/xxx/new/")
    assert (done.code, done.err.splitlines()[-1][:8]) == (0, "retried ")
    assert await redis.xlen(STREAM) == 0
    bodies: Any = await redis.hvals("relay:{hook}:bodies")
    assert unpack(bodies[0]).payload == {"body": "newxxxxxxx"}
    (entry_of_audit, *_) = (await relay("audit", "--json", "-c", config)).json
    assert (entry_of_audit["action"], entry_of_audit["provider"]) == ("edit", "hook")
    assert entry_of_audit["why"].endswith(": typo")


async def test_a_malformed_element_is_edited_as_a_whole(config: str, redis: Redis) -> None:
    raw: Any = {"raw": b'{"payload": {"body": "a"}} \xff', "reason": "not UTF-8", "queue": "notifications"}
    await redis.xadd(STREAM, raw)
    ((entry, _),) = await entries_of(redis, STREAM)
    words = ("dead", "edit", "--id", entry.decode(), "-c", config)
    done = await relay(*words, EDITOR="""sh -c 'printf "{\\"payload\\": {\\"body\\": \\"b\\"}}" > "$0"'""")
    assert done.code == 0, done.err
    bodies: Any = await redis.hvals("relay:{hook}:bodies")
    assert unpack(bodies[0]).payload == {"body": "b"}
    assert await redis.xlen(STREAM) == 0


async def test_exported_letters_are_pushed_again(config: str, redis: Redis, tmp_path: Path) -> None:
    await file(redis, 2)
    output = tmp_path / "letters.ndjson"
    done = await relay("dead", "export", "hook", "-o", str(output), "--messages", "-c", config)
    assert (done.code, done.out) == (0, "")
    assert "exported 2 dead letters" in done.err
    assert output.stat().st_mode & 0o077 == 0
    pushed = await relay("push", "notifications", "-", "-c", config, stdin=output.read_bytes())
    assert (pushed.code, await redis.llen("notifications")) == (0, 2), pushed.err
    failed = await relay("dead", "export", "-o", str(tmp_path / "none" / "x"), "-c", config)
    assert failed.code == 2
    assert "--output: cannot write" in failed.err
    assert [path.name for path in tmp_path.glob("*letters*")] == ["letters.ndjson"]


async def test_letters_of_all_providers_are_grouped_by_reason(config: str, redis: Redis) -> None:
    await file(redis, 3)
    await redis.xadd("relay:{hook}:dead", {"raw": "{", "reason": "not JSON", "queue": "notifications"})
    most, few = (await relay("dead", "list", "--by-reason", "--json", "-c", config)).json
    assert (most["reason"], most["count"], most["providers"]) == ("413 too large", 3, {"hook": 3})
    assert set(few) >= {"reason", "status", "count", "first_at", "last_at", "example_id"}
    table = (await relay("dead", "list", "--by-reason", "--status", "5xx", "-c", config)).err
    assert "no dead letters for all providers" in table
    refused = await relay("dead", "purge", "-c", config)
    assert (refused.code, await redis.xlen(STREAM)) == (2, 4)
    assert "add --yes" in refused.err


async def test_ctrl_c_ends_an_export_and_leaves_no_file(config: str, redis: Redis, tmp_path: Path) -> None:
    await file(redis, 20_000)
    await redis.config_resetstat()
    process = await asyncio.create_subprocess_exec(
        *(RELAY, "dead", "export", "-o", str(tmp_path / "letters"), "-c", config),
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
    )
    async with asyncio.timeout(60):
        while not any(tmp_path.glob(".letters.*")):
            await asyncio.sleep(0.005)
        while not await calls(redis, "evalsha"):
            await asyncio.sleep(0.005)
        os.kill(process.pid, signal.SIGINT)
        _, err = await process.communicate()
    assert (process.returncode, err.decode()) == (1, "stopped\n")
    assert not [*tmp_path.glob("*letters*"), *tmp_path.glob(".letters*")]

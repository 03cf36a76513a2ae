"""The nights of docs/how-to/3-a-m.md, with the commands of that page."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
from collections import Counter

from testing.commands import run_command
from testing.pages.blocks import ROOT, blocks, commands
from testing.ports import free_port
from testing.receiver import Answer, Received
from testing.relay_process import Finished
from testing.site import Site

PAGE = "docs/how-to/3-a-m.md"
BACKLOG = int(os.environ.get("RELAY_NIGHT_BACKLOG", "2000"))
"""Messages of the last night; the page speaks of a million."""

LETTERS = int(os.environ.get("RELAY_NIGHT_LETTERS", "60"))
"""Dead letters, of six reasons."""

PATIENCE = 120.0

REASONS = (400, 413, 415, 422, 500, 503)


def typed() -> dict[str, list[list[str]]]:
    """The commands of the page by the heading above them."""
    sections = (ROOT / PAGE).read_text().split("\n## ")[1:]
    return {
        section.partition("\n")[0]: [
            shlex.split(line) for block in blocks(PAGE, section) for line in commands(block)
        ]
        for section in sections
    }


class Night:
    """The fleet of the test, and its provider."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.commands = typed()
        self.run_so_far: set[tuple[str, int]] = set()
        """Headings, and the places of commands below them."""
        self.status = 200
        site.receiver.answer = self.answer

    def answer(self, request: Received) -> Answer:
        """The answer that the message orders, otherwise that of the provider."""
        status = json.loads(request.body).get("status", self.status) if self.status == 200 else self.status
        return Answer(status, headers={"Retry-After": "60"} if status == 429 else {})

    async def run(self, heading: str, place: int) -> Finished:
        """Run a command of the page."""
        self.run_so_far.add((heading, place))
        program, *words = self.commands[heading][place]
        assert program == "relay"
        if words[0] in ("check", "dead"):  # its errors are printed last; it replaces its process
            return await self.site.relay(*words)
        result = await run_command(*words, "-c", str(self.site.config))
        return Finished(result.exit_code, result.stdout, result.stderr)

    async def until(self, heading: str, place: int, text: str) -> Finished:
        """Repeat a command that only looks until it shows this text."""
        done = Finished(-1, "", "")
        try:
            async with asyncio.timeout(PATIENCE):
                while text not in done.out + done.err:
                    done = await self.run(heading, place)
        except TimeoutError:
            raise AssertionError(f"{text!r} was never shown, but {done}") from None
        return done

    async def push(self, number: int, **body: object) -> None:
        elements = [json.dumps({"payload": {"body": {**body, "n": place}}}) for place in range(number)]
        await self.site.redis.rpush("notifications", *elements)

    async def sent(self) -> None:
        """Wait until nothing is left to send."""
        async with asyncio.timeout(PATIENCE):
            while await self.site.redis.llen("notifications") or await self.site.redis.hlen(
                "relay:{hooks}:bodies"
            ):
                await asyncio.sleep(0.02)


async def test_each_night_is_understood_by_one_command_and_fixed_by_one(site: Site) -> None:
    night = Night(site)
    hooks = site.webhook(
        rate="1000/s",
        retry={"attempts": 2, "base": 0.05},
        breaker={"failures": 5, "cooldown": "30s"},
        unregistered_share=0,
    )
    port = free_port()
    admin = {"listen": f"127.0.0.1:{port}"}
    site.configure({"hooks": hooks}, processes=2, admin=admin, shutdown_timeout="5s")
    async with site.worker(ready="supervising") as running:
        await running.says("ready", times=2)
        await the_provider_is_down(night)
        await a_storm_of_429(night)
        await the_key_is_wrong(night)
        await thousands_of_dead_letters(night)
        await a_bad_deploy(night)
        await a_backlog_of_a_million(night)
        await a_worker_hangs(night)
        done = await night.run("The next morning", 0)
        said = Counter(line.split()[1] for line in done.out.splitlines() if line.startswith("20"))
        assert said["resume"] >= 1
        assert said["rate"] == 2
        assert said["reload"] >= 2
        assert said["retry"] == 1
        assert said["purge"] >= 1
        assert night.run_so_far == {
            (heading, place) for heading, found in night.commands.items() for place in range(len(found))
        }


async def the_provider_is_down(night: Night) -> None:
    heading = "The provider is down"
    night.status = 503
    await night.push(20)
    shown = await night.until(heading, 0, "hooks fails")
    assert "503" in shown.out
    night.status = 200
    assert (await night.run(heading, 1)).code == 0
    await night.sent()


async def a_storm_of_429(night: Night) -> None:
    heading = "A storm of 429"
    night.status = 429
    await night.push(5)
    await night.until(heading, 0, "hooks asked relay to wait")
    assert (await night.run(heading, 1)).code == 0
    assert "50/s" in (await night.run(heading, 0)).out
    night.status = 200
    await night.site.relay("rate", "hooks", "--reset")
    await night.site.relay("resume", "hooks")
    await night.sent()


async def the_key_is_wrong(night: Night) -> None:
    heading = "The key is wrong"
    night.status = 401
    await night.push(5)
    await night.until(heading, 0, "hooks refuses our credentials")
    night.status = 200
    assert "reloaded" in (await night.run(heading, 1)).err
    await night.site.relay("resume", "hooks")
    await night.sent()


async def thousands_of_dead_letters(night: Night) -> None:
    heading = "Thousands of dead letters"
    await night.site.relay("dead", "purge", "hooks", "--yes")  # those of the nights before
    for status in REASONS:
        await night.push(LETTERS // len(REASONS), status=status)
    while await night.site.redis.xlen("relay:{hooks}:dead") < LETTERS:
        await night.site.relay("resume", "hooks")  # this number of 5xx in a row opens the breaker
    shown = (await night.run(heading, 0)).out
    assert all(str(status) in shown for status in REASONS)
    retried = await night.run(heading, 1)
    assert retried.code == 0, retried.err
    assert f"retried {LETTERS // 3}" in retried.err
    purged = await night.run(heading, 2)
    assert f"purged {LETTERS // 6}" in purged.err
    await night.site.relay("dead", "purge", "hooks", "--yes")


async def a_bad_deploy(night: Night) -> None:
    heading, config = "A bad deploy", night.site.config
    good = config.read_text()
    config.write_text(good.replace("1000/s", "1000/fortnight"))
    checked = await night.run(heading, 0)
    assert checked.code == 2
    assert re.search(r"relay\.yaml:\d+:\d+: providers\.hooks\.rate: ", checked.err)
    config.write_text(good)
    assert (await night.run(heading, 1)).code == 0


async def a_backlog_of_a_million(night: Night) -> None:
    heading = "A backlog of a million"
    await night.site.relay("pause", "hooks")
    await night.push(BACKLOG // 2)
    await night.site.push({"id": "order-17", "payload": {"body": {}}})
    await night.push(BACKLOG // 2)
    async with asyncio.timeout(PATIENCE):
        while await night.site.redis.hlen("relay:{hooks}:bodies") <= BACKLOG:
            await asyncio.sleep(0.02)
    await night.until(heading, 0, "hooks is paused")
    found = (await night.run(heading, 1)).out
    assert "place" in found
    assert "the provider is paused" in found
    assert (await night.run(heading, 2)).code == 0
    await night.site.relay("resume", "hooks")
    await night.sent()


async def a_worker_hangs(night: Night) -> None:
    heading = "A worker hangs"
    workers = (await night.site.json("status"))["workers"]
    pid = next(worker["pid"] for worker in workers if worker["alive"])
    os.kill(pid, signal.SIGSTOP)
    shown = await night.until(heading, 0, "no report")
    assert shown.code == 1
    assert str(pid) in shown.out + shown.err
    assert night.commands[heading][1] == ["kill", "-9", "PID"]
    night.run_so_far.add((heading, 1))
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(PATIENCE):
        while (await night.run(heading, 0)).code:
            pass
    await night.push(5)
    await night.sent()
